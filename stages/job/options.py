"""Shared by all stages: options, --out for debugging, progress bars, and errors without tracebacks."""

import errno
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from tqdm import tqdm

from cpal.errors import UserError
from cpal.running.progress import bar
from stages.job.cores import available_cores
from stages.job.launch import RANK
from stages.job.stopping import STARTS_AGAIN, STOPPED, say_stopped, stoppable

Params = Annotated[Path, typer.Option("--params", metavar="PATH", help="Settings file.")]
Workers = Annotated[
    int,
    typer.Option("--workers", min=0, help="Processes that work on images in parallel."),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Only the first N images; a stage that writes needs --out."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write into this folder, and nothing into the pipeline's outputs."),
]

WRITTEN = ".cpal"  # file below --out: names of outputs that stages wrote there, and may replace
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DEFAULT_WORKERS = available_cores()


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


def destination(out: Path, limit: int | None, debug: Path | None) -> Path:
    """The path that a stage writes: its DVC output, or the same name below --out. Call it before any work.

    Raises UserError for --limit without --out; if --out is the folder of DVC's outputs, because DVC would then keep a
    partial result; and if a file of the user would be replaced.
    """
    if debug is None:
        if limit is not None:
            raise UserError("--limit makes a partial result, which must not become a DVC output; add --out DIR")
        return out
    target, written = debug / out.name, debug / WRITTEN
    if target.resolve() == out.resolve():
        raise UserError(f"--out {debug}: there lies DVC's output {out}; give --out a new folder")
    if not debug.exists():
        debug.mkdir(parents=True, exist_ok=True)
    if not written.exists() or out.name not in written.read_text(encoding="utf-8").splitlines():
        if any(target.iterdir()) if target.is_dir() else target.exists():
            raise UserError(f"{debug}: holds {out.name}, which this command did not write; give --out a new folder")
        with written.open("a", encoding="utf-8") as stream:
            stream.write(f"{out.name}\n")
    return target


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
