"""Which picture a table means when it writes the file's name in another way than the folder does."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from unicodedata import normalize
from urllib.parse import parse_qs, unquote, urlsplit

ENDING = re.compile(r"\.(jpe?g?|jfif|png|bmp|gif|tiff?|webp|heic|heif|avif|jp2|ppm)$", re.IGNORECASE)
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the name of an uploaded file
DEPTH = 12  # folders of a path that are compared


@dataclass(frozen=True)
class Match:
    """`file` None: none, or more than one; `candidates` are then what it could be. `exact`: written as now read."""

    file: str | None
    exact: bool = False
    candidates: tuple[str, ...] = ()


def spellings(path: str) -> tuple[str, str, str, str]:
    """A path in four ways, the strictest first: as it is, without ending, and both without capital letters."""
    bare = ENDING.sub("", path)
    return path, bare, path.casefold(), bare.casefold()


@dataclass
class FileNames:
    """Files by all spellings of their path, and of the ends of it. `folder`: where they lie, such as `/set/images`."""

    files: Iterable[str]
    folder: str = ""
    _exact: dict[str, str] = field(init=False)
    _ends: list[dict[str, list[str]]] = field(init=False)

    def __post_init__(self) -> None:
        files = list(self.files)
        self._exact = {str(PurePosixPath(file).with_suffix("")): file for file in files} | {f: f for f in files}
        composed = {normalize("NFC", name): file for name, file in self._exact.items()}
        self._exact = composed | self._exact
        self._ends = [{} for _ in range(4)]
        above = normalize("NFC", self.folder).strip("/").split("/")[-DEPTH:]
        for file in files:
            parts = normalize("NFC", file).split("/")
            whole = [*above, *parts]
            for start in range(max(0, len(whole) - DEPTH), len(whole)):
                for index, end in zip(self._ends, spellings("/".join(whole[start:])), strict=True):
                    index.setdefault(end, []).append(file)
        self._whole = [dict[str, list[str]]() for _ in range(4)]
        for file in files:
            for index, end in zip(self._whole, spellings(normalize("NFC", file)), strict=True):
                index.setdefault(end, []).append(file)

    def exact(self, name: str) -> str | None:
        """The file of this very path, with or without its ending, whatever the form of its accents."""
        return self._exact.get(name) or self._exact.get(normalize("NFC", name))

    def find(self, name: str) -> Match:
        """The only file that the name can mean.

        Tried in this order: the path itself; the path in other letters or with another ending; the path with folders
        missing in front; with folders too many; the name that Label Studio gave an uploaded file.
        """
        if file := self.exact(name):
            return Match(file, exact=True)
        path = cleaned(name)
        if not path:
            return Match(None)
        parts = path.split("/")[-DEPTH:]
        rests = ["/".join(parts[start:]) for start in range(1, len(parts))]
        for tried, indexes in [(path, self._whole), (path, self._ends), *((rest, self._whole) for rest in rests)]:
            for index, key in zip(indexes, spellings(tried), strict=True):
                if found := index.get(key):
                    return Match(found[0]) if len(found) == 1 else Match(None, candidates=tuple(found))
        if UPLOADED.match(parts[-1]):
            return self.find(UPLOADED.sub("", parts[-1]))
        return Match(None, candidates=tuple(self._ends[3].get(spellings(parts[-1])[3], ())))


def cleaned(name: str) -> str:
    """A path with `/` and without `.` and `..`, from a path of any system or an URL, percent escapes resolved."""
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
