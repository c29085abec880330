"""A process that watches its own changes to files by audit events, and can die just before the n-th of them."""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Literal

Crash = Literal["kill", "torn", "power"]
SYNCED = "faults.synced"
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """An audit hook: counts the changes below the project, and kills the process before one.

    kill: SIGKILL. torn: the last change opened a file to write it, and it has got half of its bytes, as when a process
    dies while it writes. power: the last change gave a file its final name by renaming or linking, and the disk had got
    half of its bytes when the power went, as it can without fsync. Only files that this run wrote are cut, and after a
    power cut none that it had synced.
    shutil's events are left out: each change that they announce has an event of its own.
    """

    def __init__(self, project: str, descriptor: int, crash: tuple[Crash, int] | None) -> None:
        self.project, self.descriptor, self.crash = f"{os.path.realpath(project)}/", descriptor, crash
        self.count = 0
        self.last: dict[str, str] | None = None
        self.busy = False
        self.synced: set[int] = set()  # inodes

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == SYNCED:
            self.synced.add(os.fstat(arguments[0]).st_ino)
        if self.busy or not (event == "open" or event.startswith("os.")):
            return
        self.busy = True
        try:
            change = self._change(event, arguments)
            if change is not None:
                self._seen(change)
        finally:
            self.busy = False

    def _seen(self, change: dict[str, str]) -> None:
        self.count += 1
        if self.crash is not None and self.count == self.crash[1]:
            if self.last is not None and self.crash[0] != "kill":
                path = self.project + self.last["path"]
                safe = self.crash[0] == "power" and os.path.exists(path) and os.stat(path).st_ino in self.synced
                if os.path.isfile(path) and not safe:
                    os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        os.write(self.descriptor, (json.dumps(change) + "\n").encode())
        self.last = change

    def _change(self, event: str, arguments: tuple[Any, ...]) -> dict[str, str] | None:
        """The change by its event and its path below the project, for a rename or link the new one."""
        place, folder = arguments[0] if arguments else None, -1
        if event == "open":
            mode, flags = arguments[1], arguments[2]
            if not (isinstance(mode, str) and set(mode) & set("wax+") or isinstance(flags, int) and flags & WRITES):
                return None
        elif event in ("os.rename", "os.link"):
            place, folder = arguments[1], arguments[3]
        elif event == "os.symlink":
            place, folder = arguments[1], arguments[2]
        elif event in ("os.remove", "os.rmdir"):
            folder = arguments[1]
        elif event == "os.mkdir":
            folder = arguments[2]
        elif event != "os.truncate":
            return None
        if not isinstance(place, str | bytes | os.PathLike):
            return None
        path = os.fsdecode(place)
        if isinstance(folder, int) and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        path = os.path.abspath(path)
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        no_change = event == "os.mkdir" and os.path.isdir(path) or event == "os.remove" and not os.path.lexists(path)
        if no_change or not path.startswith(self.project):
            return None
        return {"event": event.removeprefix("os."), "path": path.removeprefix(self.project)}


def raise_more_events() -> None:
    """safetensors writes from Rust, without an event, and fsync has none: let Python's side of them raise one."""
    import safetensors.torch

    for name in ("fsync", "fdatasync"):
        vars(os)[name] = _audited_sync(getattr(os, name))

    library = vars(safetensors.torch)
    write = library["serialize_file"]

    def audited(content: Any, filename: Any, *more: Any, **named: Any) -> Any:
        sys.audit("open", os.fspath(filename), "wb", WRITES)
        return write(content, filename, *more, **named)

    library["serialize_file"] = audited


def _audited_sync(sync: Callable[[Any], None]) -> Callable[[Any], None]:
    def audited(file: Any) -> None:
        sync(file)
        sys.audit(SYNCED, file if isinstance(file, int) else file.fileno())

    return audited
