"""Finds the picture that a table names, also if the table writes the path in another way."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from unicodedata import normalize
from urllib.parse import parse_qs, unquote, urlsplit

ENDING = re.compile(r"\.(jpe?g?|jfif|png|bmp|gif|tiff?|webp|heic|heif|avif|jp2|ppm)$", re.IGNORECASE)
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
ROBOFLOW = re.compile(r"_(jpe?g|png|bmp|webp|tiff?)\.rf\.\w{6,}(?=\.|$)", re.IGNORECASE)  # what Roboflow adds to a name
NUMBER = re.compile(r"0*(\d+?)(?:\.0)?")  # pandas and Excel write 00012 as 12, and 12.0 beside empty cells
DEPTH = 12  # folders of a path that are compared


@dataclass(frozen=True)
class Match:
    """`file` None: no file, or several `candidates`. `exact`: the name is the file's path, with or without ending."""

    file: str | None
    exact: bool = False
    candidates: tuple[str, ...] = ()


def spellings(path: str) -> tuple[str, str, str, str]:
    """Four spellings of a path, the strictest first: unchanged, without ending, and both in small letters."""
    bare = ENDING.sub("", path)
    return path, bare, path.casefold(), bare.casefold()


def storable(name: str) -> str:
    """A file's name as Label Studio stores an upload: `my photo (1).jpg` -> `my_photo_1.jpg`.

    Source: Django's django.utils.text.get_valid_filename.
    """
    return re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))


def original(name: str) -> str:
    """A file's name before Label Studio or Roboflow changed it: `0a1b2c3d-a.jpg`, `a_jpg.rf.01abcd.jpg` -> `a.jpg`."""
    return ROBOFLOW.sub("", UPLOADED.sub("", name))


Index = list[dict[str, list[str]]]  # for each spelling: a path or the end of one -> the files it can be


class FileNames:
    """Files by the spellings of their paths."""

    def __init__(self, files: Iterable[str], folder: str = "") -> None:
        """`folder`: path of the files, such as `/set/images`. Names may begin with a part of it."""
        self.files = list(files)
        self.folder = folder
        exact = {str(PurePosixPath(file).with_suffix("")): file for file in self.files} | {f: f for f in self.files}
        self._exact = {normalize("NFC", name): file for name, file in exact.items()} | exact

    @cached_property
    def _whole(self) -> Index:
        return _index((file, normalize("NFC", file)) for file in self.files)

    @cached_property
    def _ends(self) -> Index:
        above = normalize("NFC", self.folder).strip("/").split("/")[-DEPTH:]
        paths = ((file, [*above, *normalize("NFC", file).split("/")]) for file in self.files)
        return _index((file, "/".join(path[start:])) for file, path in paths for start in range(len(path))[-DEPTH:])

    @cached_property
    def _uploaded(self) -> Index:
        return _index((file, storable(PurePosixPath(file).name)) for file in self.files)

    @cached_property
    def _numbers(self) -> dict[str, list[str]]:
        """Files whose name is a number, by this number."""
        found: dict[str, list[str]] = {}
        for file in self.files:
            if (stem := PurePosixPath(file).stem).isdecimal():
                found.setdefault(stem.lstrip("0") or "0", []).append(file)
        return found

    def exact(self, name: str) -> str | None:
        """The file of this path, with or without its ending. Both Unicode forms of accents are accepted."""
        return self._exact.get(name) or self._exact.get(normalize("NFC", name))

    def find(self, name: str, *, loose: bool = True) -> Match:
        """The only file that the name can mean.

        Tried in this order: the path itself; the path in other letters or with another ending; the path with folders
        missing in front; with folders too many; the name that Label Studio or Roboflow gave an uploaded file; if
        `loose`, a number without the zeros in front.
        """
        if file := self.exact(name):
            return Match(file, exact=True)
        path = cleaned(name)
        if not path:
            return Match(None)
        parts = path.split("/")[-DEPTH:]
        rests = ["/".join(parts[start:]) for start in range(1, len(parts))]
        for tried, ends in [(path, False), (path, True), *((rest, False) for rest in rests)]:
            indexes = self._ends if ends else self._whole
            for index, key in zip(indexes, spellings(tried), strict=True):
                if found := index.get(key):
                    return _only(found)
        if (name := original(parts[-1])) != parts[-1]:
            return self._find_uploaded(name, loose)
        number = NUMBER.fullmatch(ENDING.sub("", parts[-1])) if loose else None
        if number and (found := self._numbers.get(number[1])):
            return _only(found)
        return Match(None, candidates=tuple(self._ends[3].get(spellings(parts[-1])[3], ())))

    def _find_uploaded(self, name: str, loose: bool) -> Match:
        match = self.find(name, loose=loose)
        if match.file is None and not match.candidates:
            keys = zip(self._uploaded, spellings(storable(name)), strict=True)
            return next((_only(found) for index, key in keys if (found := index.get(key))), match)
        return match


def _only(found: Sequence[str]) -> Match:
    return Match(found[0]) if len(found) == 1 else Match(None, candidates=tuple(found))


def _index(paths: Iterable[tuple[str, str]]) -> Index:
    index: Index = [{} for _ in range(4)]
    for file, path in paths:
        for one, key in zip(index, spellings(path), strict=True):
            one.setdefault(key, []).append(file)
    return index


def cleaned(name: str) -> str:
    """A path with `/` and without `.` and `..`, from a path of any system or a URL. Percent escapes are resolved."""
    path = name.strip()
    if re.match(r"^[a-zA-Z][a-zA-Z0-9+.-]+://", path) or path.startswith("/data/local-files/"):
        try:
            address = urlsplit(path)
        except ValueError:
            return ""
        local = parse_qs(address.query).get("d")  # Label Studio: /data/local-files/?d=photos/a.jpg
        path = local[0] if local else address.path
    path = normalize("NFC", unquote(path).replace("\\", "/"))
    return "/".join(part for part in path.split("/") if part not in ("", ".", ".."))
