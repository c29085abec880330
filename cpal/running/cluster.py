"""Runs tasks on images on a Dask or Ray cluster whose machines share the project's folder: docs/scale.md.

joblib's backends for Dask and Ray are not used. With joblib 1.6, the Dask backend loses a task with large arguments if
its worker ends, and the Ray backend returns no result before all tasks are done.
"""

import logging
import os
import pickle
import sys
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cpal
from cpal.errors import UserError
from cpal.files import temporary_name

ANSWER = 10  # seconds that a scheduler may take to answer
WORKER = 60  # seconds that the first worker may take to connect
AHEAD = 4  # tasks that are submitted for each core: one runs, and the others wait so that no core is idle
LOST = "connection lost; finished work is kept: start the cluster, then the same command"

Task = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]  # what `joblib.delayed` returns


@dataclass(frozen=True)
class Engine:
    """A connected cluster: its number of cores, a function that sends a task, and one that waits for its result."""

    cores: int
    submit: Callable[[Task], Any]
    result: Callable[[Any], Any]


def on_cluster(address: str, tasks: Iterable[Task]) -> Iterator[Any]:
    """Yield the results of `joblib.delayed` tasks in their order. A task whose worker has ended is repeated.

    Raises UserError if the address is wrong, if Dask or Ray is not installed, if the scheduler does not answer or its
    connection is lost, or if a worker does not see this folder or runs older code.
    """
    with connected(address) as engine:
        yield from in_order(engine, tasks)


def in_order(engine: Engine, tasks: Iterable[Task]) -> Iterator[Any]:
    """Yield the results of the tasks in their order. At most AHEAD tasks for each core wait or run, to bound memory."""
    out: deque[Any] = deque()
    for task in tasks:
        out.append(engine.submit(task))
        if len(out) >= AHEAD * engine.cores:
            yield engine.result(out.popleft())
    while out:
        yield engine.result(out.popleft())


def connected(address: str) -> AbstractContextManager[Engine]:
    """Connect to the cluster at this address. Raises UserError as `on_cluster` does."""
    scheme = address.partition("://")[0]
    if scheme in ("tcp", "tls"):
        return _dask(address)
    if scheme == "ray":
        return _ray(address)
    raise _error(address, "unknown; give tcp://HOST:8786 for Dask or ray://HOST:10001 for Ray")


def _error(address: str, what: str) -> UserError:
    return UserError(f"CPAL_CLUSTER={address}: {what}")


@contextmanager
def _dask(address: str) -> Iterator[Engine]:
    try:
        import cloudpickle  # a dependency of Dask
        from distributed import Client, KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm.core import CommClosedError
    except ImportError:
        raise _error(address, "needs Dask: pip install 'dask[distributed]'") from None
    for name in [*logging.root.manager.loggerDict]:  # Dask gives several loggers a level; the messages below suffice
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Sending large graph", category=UserWarning)  # maps of an image
    try:
        client = Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError):
        raise _error(address, "no scheduler answers; start one there with: python -m dask scheduler") from None

    def submit(task: Task) -> Any:
        # As bytes, which Dask does not search for a graph. The scheduler keeps them until the task is done.
        return client.submit(_call, cloudpickle.dumps(task), pure=False)

    try:
        _wait_for_workers(client, address)
        yield Engine(sum(client.ncores().values()), submit, lambda future: future.result())
    except KilledWorker:
        raise _error(address, "workers ended, one after the other, at the same image; give them more memory") from None
    except Exception as error:
        if isinstance(error, CommClosedError | FutureCancelledError) or client.status != "running":
            raise _error(address, LOST) from None
        raise
    finally:
        client.close(timeout=2)


def _call(task: bytes) -> Any:
    function, arguments, keywords = pickle.loads(task)
    return function(*arguments, **keywords)


def _wait_for_workers(client: Any, address: str) -> None:
    """Raises UserError if no worker connects, or if a worker cannot run this project's tasks."""
    start = f"cd {Path.cwd()} && python -m dask worker {address}"
    try:
        client.wait_for_workers(1, timeout=WORKER)
    except TimeoutError:
        raise _error(address, f"has no workers; start some: {start}") from None
    with _probe() as probe:
        look = _look(probe.name, str(Path(cpal.__file__).resolve()), sys.version_info[:2])
        for worker, answer in client.run(look, on_error="return").items():
            if answer is not None:
                raise _error(address, f"worker {worker} {answer}; start it again, on a disk that both share: {start}")


@contextmanager
def _probe() -> Iterator[Path]:
    """An empty file in this folder, by which workers recognize the folder."""
    probe = Path(temporary_name())
    probe.touch()
    try:
        yield probe
    finally:
        probe.unlink(missing_ok=True)


def _look(probe: str, package: str, python: tuple[int, int]) -> Callable[[], str | None]:
    """The check that a worker runs. An inner function is sent as code, so the worker need not import this module."""

    def look() -> str | None:
        import importlib.util
        import os
        import sys

        import psutil

        if sys.version_info[:2] != python:
            return f"has another Python, {sys.version.split()[0]}"
        if not os.path.exists(probe):
            return f"runs in {os.getcwd()}, which is not the folder of this project"
        found = importlib.util.find_spec("cpal")
        if found is None or os.path.realpath(found.origin or "") != package:
            return "does not import this project's code"
        begun = psutil.Process().create_time()
        for name, module in list(sys.modules.items()):
            path = getattr(module, "__file__", None)
            if name.partition(".")[0] in ("cpal", "stages") and path and os.path.getmtime(path) > begun:
                return f"began before {path} was changed"
        return None

    return look


@contextmanager
def _ray(address: str) -> Iterator[Engine]:
    try:
        import ray
        from ray import cloudpickle
    except ImportError:
        raise _error(address, "needs Ray: pip install 'ray[client]'") from None
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError):
        raise _error(address, "no cluster answers; start one there with: ray start --head") from None
    call = ray.remote(_caller(os.getcwd()))

    def result(reference: Any) -> Any:
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # of the task itself
            raise error.cause from None

    try:
        cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        yield Engine(cores, lambda task: call.remote(cloudpickle.dumps(task)), result)
    except ray.exceptions.WorkerCrashedError:
        raise _error(address, "workers ended, one after the other, at the same image; give them more memory") from None
    except (ConnectionError, ray.exceptions.RaySystemError):
        raise _error(address, LOST) from None
    finally:
        ray.shutdown()


def _caller(project: str) -> Callable[[bytes], Any]:
    """A function that runs a task in the project's folder. Ray starts new workers for each connection, elsewhere."""

    def call(task: bytes) -> Any:
        import os
        import pickle
        import sys

        os.chdir(project)
        if project not in sys.path:
            sys.path.insert(0, project)
        function, arguments, keywords = pickle.loads(task)
        return function(*arguments, **keywords)

    return call
