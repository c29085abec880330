"""Archives from the web: downloads resume after an interruption, are checked, and unpack into one folder."""

import hashlib
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import requests

from cpal.errors import UserError

ATTEMPTS = 6  # in a row without a byte
BLOCK = 1 << 20
TIMEOUT = 30  # seconds without an answer
OnBytes = Callable[[int, int | None], None]  # bytes so far, bytes in all where the server says


def no_report(done: int, total: int | None) -> None:
    pass


def download(
    url: str, target: Path, *, md5: str, report: OnBytes = no_report, wait: Callable[[float], None] = time.sleep
) -> None:
    """Fetch a file over http or https. An earlier attempt (`target` with .part appended) is continued.

    The file gets its name only after its MD5 was found right. Raises UserError if the server refuses, breaks off again
    and again, or sends other content. Received bytes are kept for the next run, unless the content is wrong.
    """
    if target.exists():
        return
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url}: not an http or https address; correct it in the settings, section voc2012")
    part = target.with_name(f"{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part, before, report)
            break
        except requests.RequestException as error:
            failures = 0 if part.exists() and part.stat().st_size > before else failures + 1
            if failures == ATTEMPTS:
                raise UserError(
                    f"{url}: {ATTEMPTS} attempts without a byte ({error}); {part} keeps what has arrived, run again "
                    "to go on, or fetch the file by hand and put it there without .part"
                ) from None
            wait(min(60.0, 2.0**failures))
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise UserError(
            f"{url}: the file has MD5 {found}, but {md5} is expected; it was removed. Run again; if it happens twice, "
            "the server holds another file than the settings say"
        )
    part.rename(target)


def _continue(url: str, part: Path, offset: int, report: OnBytes) -> None:
    """One connection: append the missing bytes to `part`. Raises RequestException if another attempt may help."""
    headers = (
        {"Range": f"bytes={offset}-", "Accept-Encoding": "identity"} if offset else {"Accept-Encoding": "identity"}
    )
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # nothing is left to fetch, if the size agrees; the checksum will tell
            return
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 429):
            raise UserError(f"{url}: the server answers {answer.status_code} {answer.reason}; check the address")
        answer.raise_for_status()
        resumed = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        start = offset if resumed else 0
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        done = start
        with part.open("ab" if resumed else "wb") as stream:
            for block in answer.iter_content(BLOCK):
                stream.write(block)
                done += len(block)
                report(done, total)
        if total is not None and done < total:
            raise requests.ConnectionError(f"broke off after {done} of {total} bytes")


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar, plain or compressed, so that `folder` appears whole or not at all.

    Raises UserError for a damaged archive, and for a member that is no plain file or folder below `folder`.
    """
    growing = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    try:
        with tarfile.open(archive) as stored:
            for member in _safe(archive, stored):
                place = growing / member.name
                if member.isdir():
                    place.mkdir(parents=True, exist_ok=True)
                    continue
                place.parent.mkdir(parents=True, exist_ok=True)
                source = stored.extractfile(member)
                assert source is not None, "plain files have content"
                with source, place.open("wb") as stream:
                    shutil.copyfileobj(source, stream, BLOCK)
        growing.rename(folder)
    except (tarfile.TarError, EOFError, ValueError, ArithmeticError, LookupError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{archive}: damaged archive ({error}); delete it and run again") from None
    except OSError as error:
        if error.filename is not None or error.errno is not None:  # the disk's trouble, not the archive's
            raise
        raise UserError(f"{archive}: damaged archive ({error}); delete it and run again") from None
    finally:
        shutil.rmtree(growing, ignore_errors=True)


def _safe(archive: Path, stored: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Members in order. Only plain files and folders are unpacked, so that no link can lead out of the folder."""
    for member in stored:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
            raise UserError(
                f"{archive}: holds {member.name!r}, which lies outside of the target; refused: "
                "fetch it from its authors"
            )
        if not (member.isreg() or member.isdir()):
            raise UserError(
                f"{archive}: holds {member.name!r}, a link or a device, which no data set needs; refused: "
                "fetch it from its authors"
            )
        yield member
