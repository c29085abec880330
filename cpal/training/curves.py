"""The curves of a training: its losses for DVCLive, a progress bar, and the stop at a loss that is NaN or infinite."""

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from dvclive import Live
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from cpal.errors import UserError
from cpal.running.progress import bar

CURVE_POINTS = 200  # approximate number of points of a training curve, whatever the number of steps


class TrainingLog(Hook):
    """Writes losses to DVCLive and shows a progress bar; stops the training if a loss is NaN or infinite.

    Checkpoints hold the curves, and a resumed run writes them again: a killed run ends with the same files.
    """

    def __init__(self, folder: Path, iterations: int) -> None:
        self.folder, self.iterations = folder, iterations
        self.interval = max(1, iterations // CURVE_POINTS)
        self.history: list[dict[str, float]] = []
        self.pending: dict[str, float] = {}
        self.unread: list[dict[str, Tensor]] = []  # to read a loss is to wait for the device, so not at every step
        self.live: Live | None = None

    def before_train(self, runner: Runner) -> None:
        self.bar = bar(total=self.iterations, initial=runner.iter, desc="train", unit="step", disable=runner.rank != 0)
        if runner.rank == 0:
            self.live = Live(
                str(self.folder),
                report=None,
                save_dvc_exp=False,
                dvcyaml=None,
                monitor_system=False,
            )
            for point in self.history:
                self._log(point)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        self.unread.append(outputs or {})
        self.bar.update()
        if (runner.iter + 1) % self.interval == 0:
            self._read(runner.iter + 1)
            rate = runner.optim_wrapper.param_groups[0]["lr"]
            point = {"step": runner.iter + 1, **self.pending, "learning_rate": rate}
            self.pending = {}
            self.history.append(point)
            if self.live is not None:
                self._log(point)
                self.bar.set_postfix(loss=f"{point['loss']:.4f}", refresh=False)

    def before_train_epoch(self, runner: Runner) -> None:
        if runner.world_size > 1:  # else all processes would drop the same values
            # A CPU's generator reads the lowest 32 bits only.
            torch.manual_seed(runner.seed * 100_003 + runner.epoch * runner.world_size + runner.rank)

    def after_train_epoch(self, runner: Runner) -> None:
        self._read(runner.iter)

    def _read(self, last: int) -> None:
        """Add the losses of the steps up to `last` to `pending`. Raises UserError where one is NaN or infinite."""
        for step, outputs in enumerate(self.unread, start=last - len(self.unread) + 1):
            losses = {name: value.item() for name, value in outputs.items()}
            if not all(math.isfinite(value) for value in losses.values()):
                raise UserError(
                    f"the loss became {losses} at step {step} of {self.iterations}; lower the learning rates, or set "
                    "clip_grad_norm, or amp: off"
                )
            for name, value in losses.items():
                self.pending[name] = self.pending.get(name, 0.0) + value / self.interval
        self.unread = []

    def _log(self, point: dict[str, float]) -> None:
        assert self.live is not None
        self.live.step = int(point["step"])
        for name, value in point.items():
            if name != "step":
                self.live.log_metric(name, value, timestamp=False)
        self.live.make_summary()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["training_log"] = {"history": self.history, "pending": self.pending}
        checkpoint["rng"] = torch.get_rng_state()  # dropout draws from it, or from the device's
        if runner.device.type == "cuda":
            checkpoint["rng_cuda"] = torch.cuda.get_rng_state(runner.device)
        elif runner.device.type == "mps":
            checkpoint["rng_mps"] = torch.mps.get_rng_state()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self.history = checkpoint["training_log"]["history"]
        self.pending = checkpoint["training_log"]["pending"]
        torch.set_rng_state(checkpoint["rng"])
        if runner.device.type == "cuda" and "rng_cuda" in checkpoint:  # not where the CPU began the training
            torch.cuda.set_rng_state(checkpoint["rng_cuda"], runner.device)
        elif runner.device.type == "mps" and "rng_mps" in checkpoint:
            torch.mps.set_rng_state(checkpoint["rng_mps"])

    def after_train(self, runner: Runner) -> None:
        self.bar.close()
        if self.live is not None:
            with quiet():
                self.live.end()
            # DVCLive's last losses, which are in the curves too; `dvc metrics` should show scores only.
            (self.folder / "metrics.json").unlink(missing_ok=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress log messages up to the level WARNING, which the libraries write; errors are still logged."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
