"""A stage in a process forked from this one, which has imported everything: milliseconds instead of seconds to start.

The process watches its own changes to files below the project by Python's audit events, and can kill itself just before
the n-th of them. safetensors writes from Rust, without an event; its Python side is made to raise one.
"""

import atexit
import gc
import json
import os
import pickle
import runpy
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Crash = Literal["kill", "torn", "power"]
TIMEOUT = 120.0
PARSED: dict[str, bytes] = {}  # YAML texts and their values, pickled: its parser in Python takes half of a short stage's time
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Ending:
    """How a process ended: exit code or minus the signal, both its outputs, its changes and late imports."""

    code: int
    output: str
    seconds: float = 0.0
    changes: list[dict[str, str]] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)


@dataclass
class Running:
    """A forked stage that has not been waited for. `seconds` since its start can be asked of `started`."""

    pid: int
    folder: Path
    started: float

    def wait(self, timeout: float = TIMEOUT) -> Ending:
        """Kill it after the timeout, and then whatever it has started."""
        code: int | None = None
        while code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() - self.started > timeout:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                code = -signal.SIGALRM
            else:
                time.sleep(0.002)
        seconds = time.monotonic() - self.started
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        texts = {name: _read(self.folder / name) for name in ("output", "changes", "modules")}
        for path in self.folder.iterdir():
            path.unlink()
        self.folder.rmdir()
        changes = [json.loads(line) for line in texts["changes"].splitlines()]
        return Ending(code, texts["output"], seconds, changes, texts["modules"].split())


def run_forked(project: Path, stage: str, arguments: Sequence[str], **settings: Any) -> Ending:
    """`python -m stages.STAGE ARGUMENTS` in the project's folder, to its end; settings as of `start`."""
    return start(project, stage, arguments, **settings).wait()


def start(
    project: Path,
    stage: str,
    arguments: Sequence[str],
    *,
    crash: tuple[Crash, int] | None = None,
    trace: bool = False,
    env: Mapping[str, str] | None = None,
) -> Running:
    """`crash` names how and before which change the process kills itself; with `trace` it writes its changes down."""
    folder = Path(tempfile.mkdtemp(prefix="ending_", dir=project.parent))
    began = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = _child(project, stage, arguments, folder, crash, trace, env or {})
        finally:
            os._exit(code)
    return Running(pid, folder, began)


def _child(
    project: Path,
    stage: str,
    arguments: Sequence[str],
    folder: Path,
    crash: tuple[Crash, int] | None,
    trace: bool,
    env: Mapping[str, str],
) -> int:
    os.setsid()
    gc.freeze()
    atexit._clear()
    out = os.open(folder / "output", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(out, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin, sys.stdout, sys.stderr = (open(n, "r" if n == 0 else "w", closefd=False) for n in range(3))
    for number in (signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.resetwarnings()
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    os.environ.update({"OMP_NUM_THREADS": "1", **env})
    os.chdir(project)
    sys.argv = [stage, *arguments]
    _remember_yaml()
    before = set(sys.modules)
    if crash or trace:
        descriptor = os.open(folder / "changes", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        _watch_safetensors()
        sys.addaudithook(Watch(str(project), descriptor, crash))
    code = _finished(lambda: runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=True))
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    (folder / "modules").write_text("\n".join(sorted(set(sys.modules) - before - {"__main__"})))
    return code


def _finished(main: Callable[[], Any]) -> int:
    """Run it as the interpreter does: a SystemExit's code, or 1 and a traceback."""
    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        traceback.print_exc()
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    return 0


class Watch:
    """An audit hook: counts the changes below the project, and kills the process before one.

    kill: SIGKILL. torn: the last change opened a file to write it, and it has got half of its bytes, as when the process
    dies while it writes. power: the last change gave a file in the project its final name by renaming or linking, and the
    disk had got half of its bytes when the power went, as it can without fsync. Only files that this run wrote are cut.
    shutil's events are left out: each change that they announce has an event of its own.
    """

    def __init__(self, project: str, descriptor: int, crash: tuple[Crash, int] | None) -> None:
        self.project, self.descriptor, self.crash = f"{os.path.realpath(project)}/", descriptor, crash
        self.count = 0
        self.last: dict[str, str] | None = None
        self.busy = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
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
                if os.path.isfile(path):
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


def _watch_safetensors() -> None:
    import safetensors.torch as library

    write = library.serialize_file

    def audited(content: Any, filename: Any, *more: Any, **named: Any) -> Any:
        sys.audit("open", os.fspath(filename), "wb", WRITES)
        return write(content, filename, *more, **named)

    library.serialize_file = audited


def _remember_yaml() -> None:
    """Files whose text is in PARSED are not parsed again; any other text is."""
    from ruamel.yaml import YAML

    load = YAML.load

    def remembered(self: Any, stream: Any) -> Any:
        if self.typ == ["safe"] and isinstance(stream, str | Path):
            try:
                text = stream if isinstance(stream, str) else stream.read_bytes().decode()
            except (OSError, ValueError):
                text = ""
            if text in PARSED:
                return pickle.loads(PARSED[text])
        return load(self, stream)

    YAML.load = remembered


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
