"""Reads the text of a file in any code page."""

import codecs
import re
from pathlib import Path

from charset_normalizer import from_bytes

from cpal.errors import UserError
from cpal.settings.access import check_readable

BOMS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
OTHER_FILES = {  # first bytes of files that people take for a table
    b"PK\x03\x04": "a workbook or an archive and no text; save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "a workbook of old Excel and no text; save the sheet as CSV UTF-8",
    b"\x93NUMPY": "an array of NumPy; convert it with python -m stages.import_labels",
    b"\x80\x04": "a pickle; convert it with python -m stages.import_labels",
    b"\x1f\x8b": "packed by gzip; unpack it with gunzip",
    b"PAR1": "a Parquet file; save it as CSV",
    b"SQLite format": "a database; export the table as CSV",
    b"\x89PNG": "a picture and no table; name the table in data.labels_file",
    b"\xff\xd8\xff": "a picture and no table; name the table in data.labels_file",
}
LATIN = ("cp1252", "cp1250", "mac_roman")
LANGUAGES = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp932", "gb18030", "big5", "cp949"]
SIGNS = "\u2018\u2019\u201c\u201d\u2013\u2014\u00a0\u00b0"  # quotes, dashes, hard blank, degrees
SAMPLE = 100_000  # bytes that tell the code page
MISSING = "no such file; put it there, or name another one in data.labels_file"


def read_text(path: Path, encoding: str | None) -> tuple[str, str]:
    """Text with `\\n` at line ends, and the name of its code page, empty for UTF-8. `encoding`: data.label_encoding.

    Raises UserError for a file that is no text, and if several code pages give different words.
    """
    check_readable(path, missing=MISSING)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: unreadable ({error.strerror}); copy the file anew") from None
    for start, what in OTHER_FILES.items():
        if data.startswith(start):
            raise UserError(f"{path}: {what}")
    try:
        text, name = _decoded(path, data, encoding)
    except (UnicodeDecodeError, LookupError) as error:
        cure = "correct data.label_encoding" if encoding else "save it as UTF-8"
        raise UserError(f"{path}: not text of this code page ({error}); {cure}") from None
    if "\0" in text:
        raise UserError(f"{path}: holds characters that no text has (NUL); save it as a csv file in UTF-8")
    return re.sub(r"\r\n?", "\n", text), name


def _decoded(path: Path, data: bytes, encoding: str | None) -> tuple[str, str]:
    marked = next((name for mark, name in BOMS if data.startswith(mark)), None)
    if marked is not None:
        return data.decode(marked), "" if marked == "utf-8-sig" else marked.upper()
    if encoding is not None:
        return data.decode(encoding).removeprefix("\ufeff"), encoding
    zeros = [data[place : 2 * SAMPLE : 2].count(0) for place in (0, 1)]
    if max(zeros) * 4 > len(data[: 2 * SAMPLE]) and len(data) % 2 == 0:  # nearly every other byte: ASCII in UTF-16
        name = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
        return data.decode(name), name.upper()
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        return _guessed(path, data)


def _guessed(path: Path, data: bytes) -> tuple[str, str]:
    """Text in cp1252, if its words look Western European and other Latin code pages give the same text.

    In other cases the user decides: charset-normalizer names the code pages that fit, but errs on short tables.
    """
    odd = b"\n".join(line for line in data.splitlines() if not line.isascii())[:SAMPLE]
    readings = {name: text for name in LATIN if (text := _western(odd, name)) is not None}
    if "cp1252" in readings and len(set(readings.values())) == 1:
        return data.decode("cp1252"), "cp1252"
    if "cp1252" not in readings:
        readings |= {match.encoding: str(match) for match in from_bytes(odd, cp_isolation=LANGUAGES)}
    if not readings:
        raise UserError(f"{path}: not a csv file in UTF-8, nor in another code page; save it as one")
    shown = " or ".join(f"{_word(text)!r} ({name})" for name, text in list(readings.items())[:4])
    raise UserError(
        f"{path}: not in UTF-8, and its code page is not certain: a word in it reads {shown}; save the file as UTF-8, "
        f"or set data.label_encoding, such as {next(iter(readings))}"
    )


def _western(data: bytes, name: str) -> str | None:
    """The text, if words with letters beyond ASCII are mostly ASCII, and small, capital or capitalized; else None."""
    try:
        text = data.decode(name)
    except UnicodeDecodeError:
        return None
    for word in re.findall(r"[^\W\d_]{2,}", text):
        beyond = sum(not letter.isascii() for letter in word)
        if 2 * beyond > len(word) or beyond and word not in (word.lower(), word.upper(), word.capitalize()):
            return None
    return text if all(sign.isascii() or sign.isalpha() or sign in SIGNS for sign in text) else None


def _word(text: str) -> str:
    """The first word that holds a letter beyond ASCII."""
    found = re.search(r"[^\s,;|\t\"<>]*[^\x00-\x7f][^\s,;|\t\"<>]*", text)
    return found[0][:30] if found else text[:30]
