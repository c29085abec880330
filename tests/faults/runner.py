"""A stage in a process forked from this one, which has imported everything: milliseconds instead of seconds to start.

What is imported here has done nothing yet: no process forked from this one finds torch's threads or locks in use.
"""

import atexit
import gc
import json
import multiprocessing
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
from typing import Any

from faults.watch import Crash, Watch, raise_more_events

TIMEOUT = 120.0
HUNG = -signal.SIGALRM  # the code of what had to be killed after a timeout
# YAML texts and their values, pickled: its parser in Python takes half of a short stage's time.
PARSED: dict[str, bytes] = {}


@dataclass(frozen=True)
class Ending:
    """How a process ended: exit code or minus the signal, what it printed, its changes to files, and its late imports.

    `seconds` count from the time when it came to the stage itself.
    """

    code: int
    output: str
    seconds: float = 0.0
    changes: list[dict[str, str]] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)


@dataclass
class Running:
    """A forked stage that has not been waited for; `folder` holds what it tells."""

    pid: int
    folder: Path
    started: float

    def begun(self) -> None:
        """Return once the process has come to the stage itself."""
        while not (self.folder / "begun").exists() and time.monotonic() - self.started < TIMEOUT:
            time.sleep(0.001)

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
                code = HUNG
            else:
                time.sleep(0.002)
        begun = self.folder / "begun"
        seconds = time.time() - begun.stat().st_mtime if begun.exists() else 0.0
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


def start(
    project: Path,
    stage: str,
    arguments: Sequence[str],
    *,
    crash: tuple[Crash, int] | None = None,
    trace: bool = False,
    env: Mapping[str, str] | None = None,
) -> Running:
    """`python -m stages.STAGE ARGUMENTS` in the project's folder, forked.

    `crash` names how and before which change the process kills itself; with `trace` it writes its changes down.
    """
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
    vars(multiprocessing.current_process())["_config"]["daemon"] = False  # may start processes, as a command may
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
        raise_more_events()
        sys.addaudithook(Watch(str(project), descriptor, crash))
    (folder / "begun").touch()
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


def _remember_yaml() -> None:
    """Files whose text is in PARSED are not parsed again; any other text is."""
    import ruamel.yaml

    load = ruamel.yaml.YAML.load

    def remembered(self: Any, stream: Any) -> Any:
        if self.typ == ["safe"] and isinstance(stream, str | Path):
            try:
                text = stream if isinstance(stream, str) else stream.read_bytes().decode()
            except (OSError, ValueError):
                text = ""
            if text in PARSED:
                return pickle.loads(PARSED[text])
        return load(self, stream)

    vars(ruamel.yaml)["YAML"].load = remembered


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
