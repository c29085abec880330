"""Time, processor time and peak memory of a stage, in files that are no outputs of the pipeline."""

import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter

from cpal.errors import UserError
from cpal.files import sweep, write_json

RSS = 1 if sys.platform == "darwin" else 1024  # bytes of the unit in which getrusage counts memory


@dataclass(frozen=True)
class Taken:
    """Time and memory that a stage used.

    `seconds`: since the process started. `processor_seconds`: of the process and its children. `peak_memory`: in bytes,
    of the process or child with the largest peak. `processes`: number of processes that torchrun started; the other
    values describe only the first of these processes and its children.
    """

    seconds: float
    processor_seconds: float
    peak_memory: int
    processes: int


def taken(begun: float, processes: int) -> Taken:
    """Measure this process and its children; `begun` is time.monotonic() at the start of the process."""
    own, ended = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    alive = list(_alive())
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in (own, ended)) + sum(used for used, _ in alive)
    peaks = [_peak(os.getpid(), own.ru_maxrss * RSS), ended.ru_maxrss * RSS, *(peak for _, peak in alive)]
    return Taken(round(time.monotonic() - begun, 1), round(seconds, 1), max(peaks), processes)


def _alive() -> Iterator[tuple[float, int]]:
    """Processor time and peak memory of each child process that still runs, such as joblib's workers."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        try:
            used = child.cpu_times()
            yield used.user + used.system, _peak(child.pid, child.memory_info().rss)
        except psutil.Error:  # it has ended
            continue


def _peak(pid: int, counted: int) -> int:
    """Peak memory of a process in bytes, from /proc; on systems without /proc, `counted`.

    `counted` is the value of getrusage, which includes memory of the parent process.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return counted
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), counted)


def write_taken(folder: Path, stage: str, what: Taken) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    write_json(folder / f"{stage}.json", asdict(what))


def read_taken(folder: Path, stages: Iterable[str]) -> dict[str, Taken]:
    """Time and memory of these stages; stages without a file are left out. Raises UserError if a file is damaged."""
    found = {}
    for stage in stages:
        path = folder / f"{stage}.json"
        if path.exists():
            try:
                found[stage] = TypeAdapter(Taken).validate_json(path.read_bytes(), strict=True)
            except ValueError:
                raise UserError(f"{path}: damaged; remove it: it only says what a stage took") from None
    return found


def duration(seconds: float) -> str:
    """A time in words, such as `8.3 s`, `2.5 min`, `12 min` or `3.4 h`."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.{1 if seconds < 597 else 0}f} min"
    return f"{seconds / 3600:.1f} h"
