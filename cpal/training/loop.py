"""Training with mmengine's Runner, built from plain objects; all networks that train on images share it."""

import contextlib
import logging
import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dvclive import Live
from mmengine.dist import get_rank, get_world_size, is_distributed
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel, MMDistributedDataParallel
from mmengine.optim import AmpOptimWrapper, OptimWrapper, PolyLR
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cpal.errors import UserError
from cpal.running.progress import bar
from cpal.settings.base import FinetuningSection, TrainingSection
from cpal.training.checkpoints import Checkpoints, State, newest_checkpoint, resume
from cpal.training.samples import SampleStream, TrainingSamples

CURVE_POINTS = 200  # approximate number of points of a training curve, whatever the number of steps
FILL = "fill_uninitialized_memory"  # of torch.utils.deterministic: fills each new tensor with NaN, 7 % of a step


class _Runner(Runner):
    """mmengine's Runner, on the given device rather than the best available device, and with our own checkpoints."""

    def __init__(self, device: torch.device, state: State | None, **settings: Any) -> None:
        self.device, self.state = device, state  # before mmengine's constructor, which wraps the model
        super().__init__(**settings)

    def load_or_resume(self) -> None:
        """Replaces mmengine's method, which would run code in a checkpoint and follow an absolute path to it."""
        if self.state is not None:
            resume(self, self.state)
            self.state = None  # the tensors have been copied; free their memory

    def dump_config(self) -> None:
        """Replaces mmengine's method: there are no settings to write, and Ctrl-C would become a SyntaxError."""

    def wrap_model(self, model_wrapper_cfg: dict[str, Any] | None, model: nn.Module) -> nn.Module:
        model = model.to(self.device)
        if not self.distributed:
            return model
        gpus = [self.device.index] if self.device.type == "cuda" else None
        return _Distributed(model, device_ids=gpus, broadcast_buffers=False)


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
            torch.manual_seed((runner.seed << 32) + runner.epoch * runner.world_size + runner.rank)

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
            with _quiet():
                self.live.end()
            # DVCLive's last losses, which are in the curves too; `dvc metrics` should show scores only.
            (self.folder / "metrics.json").unlink(missing_ok=True)


class LossModel(BaseModel):
    """A network together with its losses; `train` trains it. `accumulate`: parts of a batch, see `accumulated_step`."""

    accumulate = 1

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        return accumulated_step(self, self, data, optim_wrapper)

    def new_layers(self) -> list[nn.Module]:
        """The layers that learn at head_learning_rate, if the settings have this key."""
        return []


class _Distributed(MMDistributedDataParallel):
    """mmengine's wrapper for batches in parts: the processes exchange gradients only after the last part."""

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        return accumulated_step(self, self.module, data, optim_wrapper)


def accumulated_step(
    called: LossModel | _Distributed, model: LossModel, data: dict[str, Tensor], optim_wrapper: OptimWrapper
) -> dict[str, Tensor]:
    """Split a batch into model.accumulate parts, make one optimizer step for all parts, and return the mean losses.

    The gradient is the mean of the parts' gradients. For a loss that is a mean over images, this is the gradient of the
    whole batch; for a mean over labeled pixels, it is close to that. `called` is `model` or the wrapper of `model`.
    """
    data = model.data_preprocessor(data, True)  # moves it to the device
    data["mask"] = data["mask"].long()  # the loaders send bytes
    parts = zip(*(values.chunk(model.accumulate) for values in data.values()), strict=True)
    apart = called.no_sync if isinstance(called, _Distributed) else contextlib.nullcontext
    logs = []
    for number, part in enumerate(parts, start=1):
        with apart() if number < model.accumulate else contextlib.nullcontext():
            with optim_wrapper.optim_context(called):
                losses = called._run_forward(dict(zip(data, part, strict=True)), mode="loss")
            loss, log = model.parse_losses(losses)
            optim_wrapper.backward(loss / model.accumulate)
        logs.append(log)
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return {name: torch.stack([log[name].detach() for log in logs]).mean() for name in logs[0]}


@dataclass(frozen=True)
class Run:
    """A training's random seed, the folder for its unfinished work, its device, and its number of loader processes."""

    seed: int
    folder: Path
    device: torch.device
    workers: int


def train(
    model: LossModel,
    samples: TrainingSamples,
    settings: TrainingSection,
    run: Run,
    *,
    iterations: int,
    interval: int,
    hooks: Sequence[Hook] = (),
) -> nn.Module:
    """Train for `iterations` steps and return the model; the curves are written to run.folder/curves.

    A checkpoint is written every `interval` steps. Training continues from the newest checkpoint in run.folder: the
    stream of samples, the optimizer and the curves continue as in a run without interruption. With torch.distributed,
    each process takes its share of the batch, and all processes end with the same model. Raises UserError if the loss
    is NaN or infinite, or if a setting does not fit the device or the data.
    """
    assert iterations % interval == 0, "a training ends with a checkpoint"
    rank, world = get_rank(), get_world_size()
    if uneven := settings.uneven(world):
        raise UserError(uneven)
    model.accumulate = settings.accumulate
    # From pinned memory, which only CUDA has, a batch is copied while the step before it is computed.
    model.data_preprocessor = BaseDataPreprocessor(non_blocking=run.device.type == "cuda")
    stream = SampleStream(
        len(samples),
        length=interval * settings.batch_size,
        seed=run.seed,
        rank=rank,
        world=world,
    )
    loader = DataLoader(
        samples,
        batch_size=settings.batch_size // world,
        sampler=stream,
        num_workers=run.workers,
        persistent_workers=run.workers > 0,
        pin_memory=run.device.type == "cuda",
        generator=torch.Generator().manual_seed(run.seed),
    )
    optimizer = _optimizer(model, settings)
    checkpoints = run.folder / "checkpoints"
    state = newest_checkpoint(checkpoints)
    autotune = torch.backends.cudnn.benchmark
    with _quiet():
        runner = _Runner(
            run.device,
            state,
            model=model,
            work_dir=str(run.folder / "mmengine"),
            train_dataloader=loader,
            train_cfg={"by_epoch": True, "max_epochs": iterations // interval},
            optim_wrapper=_wrap(optimizer, settings, run.device),
            param_scheduler=[PolyLR(optimizer, power=settings.poly_power, end=iterations, by_epoch=False)],
            # Nothing reads what runtime_info keeps, and its formatter of settings turns Ctrl-C into a SyntaxError.
            default_hooks={"runtime_info": None, "timer": None, "logger": None, "checkpoint": None},
            custom_hooks=[TrainingLog(run.folder / "curves", iterations), *hooks, Checkpoints(checkpoints)],
            launcher="pytorch" if is_distributed() else "none",
            randomness={"seed": run.seed, "deterministic": True},
            log_level="ERROR",
            experiment_name=f"train-{uuid.uuid4().hex}",
            cfg={},
        )
    # The Runner has switched it on. On a GPU, NLLLoss, which segmentation needs, would then raise an error.
    torch.use_deterministic_algorithms(run.device.type == "cpu")
    setattr(torch.utils.deterministic, FILL, False)
    torch.backends.cudnn.benchmark = (
        autotune  # which the Runner switches off; cuDNN stays with deterministic algorithms
    )
    runner.train()
    if is_distributed():
        for buffer in model.buffers():  # a batch norm's statistics are those of each process's own images
            if buffer.is_floating_point():
                torch.distributed.broadcast(buffer, src=0)
    return model.eval()


def _optimizer(model: LossModel, settings: TrainingSection) -> torch.optim.Optimizer:
    """The optimizer, with separate groups of parameters for pretrained and new layers; an empty group is left out."""
    new = {id(p) for module in model.new_layers() for p in module.parameters()}
    head_rate = settings.head_learning_rate if isinstance(settings, FinetuningSection) else settings.learning_rate
    learned = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {
            "params": [p for p in learned if id(p) not in new],
            "lr": settings.learning_rate,
        },
        {
            "params": [p for p in learned if id(p) in new],
            "lr": head_rate,
        },
    ]
    groups = [group for group in groups if group["params"]]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.weight_decay)
    adam = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return adam(groups, weight_decay=settings.weight_decay)


def _wrap(optimizer: torch.optim.Optimizer, settings: TrainingSection, device: torch.device) -> OptimWrapper:
    """mmengine's wrapper of an optimizer, with gradient clipping and mixed precision.

    Raises UserError for mixed precision without a CUDA device.
    """
    clip = {"max_norm": settings.clip_grad_norm} if settings.clip_grad_norm else None
    if settings.amp == "off":
        return OptimWrapper(optimizer, clip_grad=clip)
    if device.type != "cuda":
        raise UserError(f"amp: {settings.amp} needs a CUDA device, this run is on {device.type}; set amp: off")
    if settings.amp == "bf16":
        return AmpOptimWrapper(optimizer=optimizer, clip_grad=clip, dtype="bfloat16", loss_scale=1.0)
    return AmpOptimWrapper(optimizer=optimizer, clip_grad=clip, dtype="float16", loss_scale="dynamic")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log messages up to the level WARNING, which the libraries write; errors are still logged."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(level)
