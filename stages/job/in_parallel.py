"""The images of a stage, by several processes at once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from cpal.running.parallel import processes
from stages.job.progress import progress

T = TypeVar("T")


def in_parallel(workers: int, what: str, function: Callable[..., T], *items: Sequence[Any]) -> list[T]:
    """The results of `map(function, *items)`, computed by several processes at once; `what` is the title of the bar.

    A process is sent what the function names: it must name a few values and never the data set.
    """
    from joblib import delayed

    done = processes(workers)(delayed(function)(*arguments) for arguments in zip(*items, strict=True))
    return list(progress(done, total=len(items[0]), what=what))
