"""Several processes for one stage: torchrun starts them, each does its share of the images, the first one publishes."""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

from cpal.errors import UserError
from cpal.settings.config import Config


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() else default


RANK = _number("RANK", 0)  # torchrun's: this process among all of them,
PROCESSES = _number("WORLD_SIZE", 1)  # how many there are,
ON_THIS_MACHINE = _number("LOCAL_WORLD_SIZE", 1)  # and how many of them run here
NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")

T = TypeVar("T")


def check_launch(config: Config, name: str, *, shared: bool) -> None:
    """Raise UserError if the stage `name` cannot run in the processes that the environment describes.

    `shared`: whether several processes can share the stage. A training also checks the batch sizes of the other
    trainings, so that an unsuitable one is known before days of work.
    """
    variables = {key: os.environ.get(key) for key in NUMBERS}
    wrong = [key for key, value in variables.items() if value is not None and not value.isdecimal()]
    lacking = [key for key in (*NUMBERS, "MASTER_ADDR", "MASTER_PORT") if PROCESSES > 1 and key not in os.environ]
    if wrong or lacking:
        what = f"{wrong[0]} is {variables[wrong[0]]!r}" if wrong else f"WORLD_SIZE is {PROCESSES} without {lacking[0]}"
        raise UserError(f"{what}; start several processes with torchrun, or unset {', '.join(NUMBERS)}")
    if PROCESSES > 1 and not shared:
        raise UserError(
            f"{name} runs no network, and {PROCESSES} processes would do the same work; start it without torchrun: "
            f"python -m stages.{name} --workers N"
        )
    if name.startswith("train_") or name == "first_round":
        for key, section in config.trainings.items():
            if uneven := section.uneven(PROCESSES):
                raise UserError(f"{key}.{uneven}")


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


def gathered(own: T) -> list[T]:
    """What each process hands in, in the order of `share`."""
    if PROCESSES == 1:
        return [own]
    import torch.distributed

    parts: list[Any] = [None] * PROCESSES
    torch.distributed.all_gather_object(parts, own)
    return parts


def leave() -> None:
    """End the meetings of all processes. Not after an error, when the others may never come."""
    if PROCESSES > 1:
        import torch.distributed

        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def meet() -> None:
    """Wait until all processes are here."""
    if PROCESSES > 1:
        import torch.distributed

        torch.distributed.barrier()
