"""Checks, before a file is opened, whether it can be read, and says why not and how to fix it."""

import os
import shlex
import stat
from pathlib import Path

from cpal.errors import UserError

ANSWERS = (  # texts that servers send in place of a file, in small letters
    *(b"entry not found", b"not found", b"404: not found", b"404 not found", b"403 forbidden", b"access denied"),
    *(b"repository not found", b"invalid username or password"),
)


def check_readable(path: Path, *, missing: str) -> None:
    """Raise UserError unless `path` is a regular file that this process may read.

    `missing` is the message, with the cure, if the file does not exist.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise UserError(f"{path}: is a link to {os.readlink(path)}, which is missing; link it anew") from None
        raise UserError(f"{path}: {missing}") from None
    except PermissionError:
        cure = f"chmod u+x {shlex.quote(str(path.parent))}"
        raise UserError(f"{path}: permission denied by a folder on the way to it; allow it with: {cure}") from None
    except (OSError, ValueError) as error:  # a loop of links, a name that is too long or holds NUL
        raise UserError(f"{path}: cannot be a file here ({error}); name another one") from None
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: is a folder and no file; name a file in it")
    if not stat.S_ISREG(mode):  # opening a pipe would wait forever
        raise UserError(f"{path}: is a pipe or a device and no file; copy its content into a file")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: permission denied; allow it with: chmod u+r {shlex.quote(str(path))}")


def stand_in_at(path: Path) -> tuple[str, str] | None:
    """As `stand_in`, for the first bytes of a file; None if the file cannot be opened."""
    try:
        with path.open("rb") as stream:
            return stand_in(stream.read(512))
    except OSError:
        return None


def stand_in(head: bytes) -> tuple[str, str] | None:
    """Recognize from its first bytes a file that a download or checkout left in place of an image or of weights.

    Returns what the file is, and the cure; None for any other file.
    """
    if not head:
        return "empty", "download it again"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer instead of the file", "fetch the file itself: git lfs pull"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<script", b"<!--")):
        return "a web page instead of the file", "download the file itself; a browser shows what the page asks for"
    if text.startswith((b"<?xml", b"<error", b'{"error', b'{"message', *ANSWERS)):
        return "a server's message instead of the file", "read it in a text editor, then download the file again"
    return None
