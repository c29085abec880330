"""Work on images by several processes at once, of this machine or of a cluster."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

IDLE = 20  # seconds after which a process without work ends, so that none outlives a killed parent for long


def processes(workers: int, **options: Any) -> Callable[[Iterable[Any]], Iterator[Any]]:
    """joblib's Parallel that gives results in order as they come; called with tasks of `joblib.delayed`.

    Where the environment variable CPAL_CLUSTER names a cluster, its machines do the tasks, and `workers` and `options`
    have no effect; but with 0 workers this process does them in any case.
    """
    if workers and (address := os.environ.get("CPAL_CLUSTER")):
        from cpal.cluster import on_cluster

        return partial(on_cluster, address)
    from joblib import Parallel  # its import takes as long as all else of a stage without a network

    return Parallel(n_jobs=max(1, workers), return_as="generator", idle_worker_timeout=IDLE, **options)
