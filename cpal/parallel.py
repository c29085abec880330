"""Work on images by several processes at once."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joblib import Parallel

IDLE = 20  # seconds after which a process without work ends, so that none outlives a killed parent for long


def processes(workers: int, **options: Any) -> "Parallel":
    """joblib's Parallel that gives results in order as they come; called with tasks of `joblib.delayed`."""
    from joblib import Parallel  # its import takes as long as all else of a stage without a network

    return Parallel(n_jobs=max(1, workers), return_as="generator", idle_worker_timeout=IDLE, **options)
