"""The stages of the pipeline; each is a command: python -m stages.<name> --help."""

import os
import signal
import sys
import time
from types import FrameType

COMMAND = sys.argv[:1] == ["-m"]  # Python still looks for the command's module; no other program imports this package
BEGUN = time.monotonic()  # of a command, before its imports, which take seconds


def _stop_early(number: int, frame: FrameType | None) -> None:
    """Until stages.job.stopping takes over, nothing has begun: leave without the traceback of an import."""
    os.write(2, b"stopped: nothing has begun; run the same command again\n")
    os._exit(130)


if COMMAND:
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup, or in the background of a script
            signal.signal(number, _stop_early)
