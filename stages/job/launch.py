"""Several processes for one stage: torchrun starts them, each does its share of the images, the first one publishes."""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import TypeVar

from cpal.errors import UserError

RANK = int(os.environ.get("RANK", 0))  # torchrun's: this process among all of them,
PROCESSES = int(os.environ.get("WORLD_SIZE", 1))  # how many there are,
ON_THIS_MACHINE = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # and how many of them run here

T = TypeVar("T")


def relaunch(name: str) -> None:
    """Become `$CPAL_LAUNCH -m stages.NAME`, such as `torchrun --nproc-per-node 4`, where that variable is set.

    An environment variable, since a command in dvc.yaml or a setting would make the results of other machines stale.
    Raises UserError when there is no such command.
    """
    launcher = shlex.split(os.environ.get("CPAL_LAUNCH", ""))
    if not launcher or "RANK" in os.environ:
        return
    try:
        os.execvp(launcher[0], [*launcher, "-m", f"stages.{name}", *sys.argv[1:]])
    except OSError as error:
        raise UserError(
            f"CPAL_LAUNCH: {launcher[0]} cannot be started ({error.strerror}); give a command such as "
            "`torchrun --nproc-per-node 4`, or unset it"
        ) from None


def share(items: Sequence[T]) -> list[T]:
    """The part of the items that this process works on: consecutive ones, so that all parts in a row are the items."""
    ends = [len(items) * rank // PROCESSES for rank in (RANK, RANK + 1)]
    return list(items[ends[0] : ends[1]])


def meet() -> None:
    """Wait until all processes are here."""
    if PROCESSES > 1:
        import torch.distributed

        torch.distributed.barrier()
