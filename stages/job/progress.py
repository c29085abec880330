"""Progress bars of images and of downloads; of several processes, only the first shows one."""

from collections.abc import Callable, Iterable
from typing import Any

from cpal.running.progress import bar
from stages.job.launch import RANK


def progress(items: Iterable[Any], *, total: int, what: str) -> Iterable[Any]:
    """A progress bar on a terminal, and plain lines now and then elsewhere; without items, nothing."""
    return bar(items, total=total, desc=what, unit="img", disable=total == 0 or RANK != 0)


def progress_of_bytes(what: str) -> Callable[[int, int | None], None]:
    """A progress bar of a download: call the result with the number of bytes so far and in total."""
    shown = bar(desc=what, unit="B", unit_scale=True)

    def show(done: int, total: int | None) -> None:
        shown.total = total
        shown.update(done - shown.n)

    return show
