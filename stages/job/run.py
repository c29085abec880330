"""Runs a function as a command whose errors are messages without tracebacks."""

import errno
import sys
from collections.abc import Callable
from typing import NoReturn

import typer
from tqdm import tqdm

from cpal.errors import UserError
from stages.job.stopping import STARTS_AGAIN, STOPPED, say_stopped, stoppable

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run(main: Callable[..., None], *, help: str | None = None, stopped: str = STARTS_AGAIN) -> None:
    """Run a function as a command; an error that the user can fix ends with one message and exit code 2.

    `help` describes the command; the default is the docstring of the function's module. `stopped` says how
    to continue after Ctrl-C.
    """
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(help=help or sys.modules[main.__module__].__doc__)(stoppable(main, stopped))
    try:
        app()
    except KeyboardInterrupt:  # before or after the command itself
        say_stopped(stopped)
        sys.exit(STOPPED)
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.errno in DISK_FULL:
            _fail(f"{error.filename or 'disk'}: {error.strerror}; free some space and run again")
        if error.errno is None or error.filename is None:  # not about a file, such as a lost connection
            raise
        _fail(f"{error.filename}: {error.strerror}; check that the path exists and can be written")


def _fail(message: str) -> NoReturn:
    tqdm.write(f"error: {message}", file=sys.stderr)  # on a new line below an unfinished bar
    sys.exit(2)
