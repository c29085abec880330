"""How a stage ends before its time: by Ctrl-C, by a batch system's SIGTERM, or because DVC is gone."""

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer
from tqdm import tqdm

STOPPED = 130  # the exit code of a command that was interrupted, as shells have it
WATCH = 2.0  # seconds between two looks at DVC


def stoppable(main: Callable[..., None]) -> Callable[..., None]:
    """`main`, ending with one line that says how to go on when it is stopped. Outputs are whole at any time."""

    @functools.wraps(main)
    def run(*arguments: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _interrupt)
        if "DVC_STAGE" in os.environ:
            threading.Thread(target=_watch_dvc, daemon=True).start()
        try:
            main(*arguments, **options)
        except KeyboardInterrupt:
            say_stopped()
            raise typer.Exit(STOPPED) from None

    return run


def say_stopped() -> None:
    """The one line; a second signal no longer counts, since the rest takes a moment."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    tqdm.write("stopped: finished work is kept; the same command continues it", file=sys.stderr)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _watch_dvc() -> None:
    """Stop when DVC was killed, which would start this stage a second time while it still runs."""
    import psutil

    above = psutil.Process().parents()
    # Between DVC and the stage there may be a shell, which has DVC's variable as well.
    dvc = next((process for process in above if not _started_by_dvc(process)), None)
    while dvc is not None and dvc.is_running() and dvc.status() != psutil.STATUS_ZOMBIE:
        time.sleep(WATCH)
    tqdm.write("DVC has ended", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)


def _started_by_dvc(process: Any) -> bool:
    import psutil

    try:
        return "DVC_STAGE" in process.environ()
    except psutil.Error:
        return False
