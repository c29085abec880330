"""A progress bar on a terminal; elsewhere, as in a batch system's log, a whole line now and then."""

import sys
import time
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

LINE = "{desc}: {n_fmt}/{total_fmt} {unit}, {rate_fmt}{postfix}, {elapsed} so far, {remaining} left"
BETWEEN = 30  # seconds between two lines at least


def bar(items: Iterable[Any] | None = None, **options: Any) -> Any:
    """tqdm with these options, shown on stderr: items on their way, or a bar to be told of each step."""
    if sys.stderr.isatty():
        return tqdm(items, mininterval=0.5, **options)
    return tqdm(items, mininterval=BETWEEN, bar_format=LINE, file=_WholeLines(), **options)


class _WholeLines:
    """What tqdm writes over its last line becomes a line of its own, with the time of day."""

    def write(self, text: str) -> None:
        if text := text.strip():
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def flush(self) -> None:
        sys.stderr.flush()
