"""Photographs that a stopped `predict` has labeled: one line of JSON each, from which the same command continues."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # of summary.json
FOLDERS = ("masks", "confidence", "overlays")  # of the results, beside the file of the rows


class Finished:
    """Rows of summary.json, kept in a file until the summary itself is written.

    `made_with`: what the results depend on beside the photograph. A row counts only if this, and the size and time of
    the photograph, are still the same, and its files are there.
    """

    def __init__(self, path: Path, made_with: str) -> None:
        self.path, self.made_with = path, made_with
        self.rows: dict[str, tuple[str, Row]] = {}  # by name; a later line stands for the files that are there now
        self.keys: dict[str, str] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            with suppress(ValueError):  # a killed process may leave half a line
                name, key, row = json.loads(line)
                self.rows[name] = (key, row)

    def row(self, photo: Path, name: str) -> Row | None:
        """The row of a photograph whose result is called `name`, or None if it is still to be labeled."""
        key, row = self.rows.get(name, ("", None))
        files = (self.path.parent / folder / f"{name}.png" for folder in FOLDERS)
        return row if key == self._key(photo, name) and all(file.is_file() for file in files) else None

    def add(self, photo: Path, name: str, row: Row) -> None:
        """Keep the row of a photograph whose files are complete."""
        key = self._key(photo, name)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{json.dumps([name, key, row])}")  # begins a line of its own, also after half a line
        self.rows[name] = (key, row)

    def forget(self) -> None:
        """Remove the file; the summary holds the rows now."""
        self.path.unlink(missing_ok=True)

    def _key(self, photo: Path, name: str) -> str:
        if name not in self.keys:  # a photograph that is removed or changed meanwhile keeps its first key
            found = photo.stat() if photo.exists() else None  # None: a dead link
            stamp = [found.st_size, found.st_mtime_ns] if found else []
            self.keys[name] = json.dumps([self.made_with, os.fsencode(photo).hex(), name, *stamp])
        return self.keys[name]
