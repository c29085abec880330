"""Training checkpoints step_N-HASH.pth: a killed training continues from the newest undamaged checkpoint."""

import hashlib
import io
import logging
import os
import pickle
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from cpal.errors import UserError
from cpal.files import file_sha256, whole_file

KEPT = 2  # the newest checkpoint, and the checkpoint before it in case the newest is damaged

State = dict[str, Any]


class Checkpoints(Hook):
    """Saves the state of a training at the end of each epoch, after all other hooks."""

    priority = "VERY_LOW"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def after_train_epoch(self, runner: Runner) -> None:
        if runner.rank != 0:
            return
        state: State = {
            "epoch": runner.epoch + 1,
            "iter": runner.iter,
            "model": plain(runner.model).state_dict(),
            "optimizer": runner.optim_wrapper.state_dict(),
            "schedulers": [scheduler.state_dict() for scheduler in runner.param_schedulers],
        }
        runner.call_hook("before_save_checkpoint", checkpoint=state)
        write_checkpoint(self.folder, runner.iter, state)


def resume(runner: Runner, state: State) -> None:
    """Set a runner that has not started to the state that `Checkpoints` saved."""
    runner.train_loop._epoch, runner.train_loop._iter = state["epoch"], state["iter"]
    plain(runner.model).load_state_dict(state["model"])
    runner.optim_wrapper.load_state_dict(state["optimizer"])
    for scheduler, kept in zip(runner.param_schedulers, state["schedulers"], strict=True):
        scheduler.load_state_dict(kept)
    runner.call_hook("after_load_checkpoint", checkpoint=state)


def plain(model: Any) -> torch.nn.Module:
    """The network inside a wrapper of torch.distributed."""
    return model.module if is_model_wrapper(model) else model


def write_checkpoint(folder: Path, step: int, state: State) -> None:
    """Write a checkpoint, complete or not at all, and delete all but the KEPT newest checkpoints."""
    content = io.BytesIO()  # a full disk raises OSError only if Python itself writes the file
    torch.save(state, content)
    name = f"step_{step:08d}-{hashlib.sha256(content.getbuffer()).hexdigest()[:16]}.pth"
    with whole_file(folder / name, folder.parent) as temporary, temporary.open("wb") as stream:
        stream.write(content.getbuffer())
        stream.flush()
        os.fsync(stream.fileno())  # costs milliseconds; a power failure could cost hours of training
    for old in _newest_first(folder)[KEPT:]:
        old.unlink()


def newest_checkpoint(folder: Path) -> State | None:
    """The newest undamaged checkpoint, on the CPU; None if there is none.

    A damaged checkpoint is skipped with a warning. Only tensors and plain values are loaded, so that no code in a file
    can run. Raises UserError if the processes of torchrun find different checkpoints.
    """
    state = next((found for path in _newest_first(folder) if (found := _read(path)) is not None), None)
    steps = all_gather_object(0 if state is None else state["iter"])
    if len(set(steps)) > 1:
        raise UserError(
            f"{folder}: the processes find checkpoints of different steps {steps}; set CPAL_CACHE to a folder that all "
            "machines share"
        )
    return state


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step_*-*.pth"), reverse=True)


def _read(path: Path) -> State | None:
    """The state in a file; None, with a warning, if the file is damaged."""
    problem = "is not what was written"
    if file_sha256(path)[:16] == path.stem.rpartition("-")[2]:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
            problem = f"cannot be loaded ({type(error).__name__})"
    logging.getLogger(__name__).warning("%s: %s; the training goes on from an older one, or afresh", path, problem)
    return None
