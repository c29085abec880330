"""Parallel work on images in several processes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from joblib import Parallel

IDLE = 20  # seconds until an idle process ends, so that workers do not outlive a killed parent for long


def processes(workers: int, **options: Any) -> "Parallel":
    """joblib's Parallel for tasks of `joblib.delayed`; it yields the results in order, each as soon as it is ready."""
    from joblib import Parallel  # importing it takes as long as the rest of a stage without a network

    return Parallel(n_jobs=max(1, workers), return_as="generator", idle_worker_timeout=IDLE, **options)
