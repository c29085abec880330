"""Parallel work on images: in several processes of this machine, or on a cluster."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

IDLE = 20  # seconds until an idle process ends, so that workers do not outlive a killed parent for long


def processes(workers: int, **options: Any) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """joblib's Parallel for tasks of `joblib.delayed`; it yields the results in order, each as soon as it is ready.

    If the environment variable CPAL_CLUSTER names a cluster, its machines run the tasks, and `workers` and `options`
    have no effect. With 0 workers, this process runs them in any case.
    """
    if workers and (address := os.environ.get("CPAL_CLUSTER")):
        from cpal.running.cluster import on_cluster

        return partial(on_cluster, address)
    from joblib import Parallel  # importing it takes as long as the rest of a stage without a network

    lasting = {"idle_worker_timeout": IDLE, "initializer": _ignore_interrupts}
    return Parallel(n_jobs=max(1, workers), return_as="generator", **lasting, **options)


def _ignore_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal. The first one ends the others, which would print their tracebacks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
