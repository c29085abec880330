"""Stops a stage early: on Ctrl-C, on SIGTERM of a batch system, or when DVC has ended."""

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

from stages import COMMAND

STOPPED = 130  # exit code of an interrupted command, as in shells
CONTINUES = "finished work is kept; the same command continues it"  # images, epochs or checkpoints
STARTS_AGAIN = "run the same command again; it starts from the beginning"
WATCH = 2.0  # seconds between two checks whether DVC still runs


def stoppable(main: Callable[..., None], how: str) -> Callable[..., None]:
    """Wrap `main`: if it is stopped, print one line that says `how` to continue. Outputs are complete at any time."""

    @functools.wraps(main)
    def run(*arguments: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, _interrupt)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if "DVC_STAGE" in os.environ:
            threading.Thread(target=_watch_dvc, daemon=True).start()
        try:
            main(*arguments, **options)
            if COMMAND:
                ignore_signals()
        except KeyboardInterrupt:
            say_stopped(how)
            raise typer.Exit(STOPPED) from None

    return run


def ignore_signals() -> None:
    """What follows only cleans up, in a moment."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def say_stopped(how: str) -> None:
    """Print that the command was stopped, and `how` to continue."""
    ignore_signals()
    tqdm.write(f"stopped: {how}", file=sys.stderr)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _watch_dvc() -> None:
    """Stop this stage if DVC was killed: DVC, when started again, would start the stage a second time."""
    import psutil

    above = psutil.Process().parents()
    # A shell between DVC and the stage has the variable DVC_STAGE too.
    dvc = next((process for process in above if not _started_by_dvc(process)), None)
    while dvc is not None and _alive(dvc):
        time.sleep(WATCH)
    tqdm.write("DVC has ended", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGTERM)


def _alive(process: Any) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it has ended between the two questions
        return False


def _started_by_dvc(process: Any) -> bool:
    import psutil

    try:
        return "DVC_STAGE" in process.environ()
    except psutil.Error:
        return False
