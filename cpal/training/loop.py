"""Training with mmengine's Runner, built from plain objects; all networks that train on images share it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank, get_world_size, is_distributed
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import AmpOptimWrapper, OptimWrapper, PolyLR
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from cpal.errors import UserError
from cpal.settings.base import FinetuningSection, TrainingSection
from cpal.training.checkpoints import Checkpoints, State, newest_checkpoint, resume
from cpal.training.curves import TrainingLog, quiet
from cpal.training.samples import SampleStream, TrainingSamples
from cpal.training.step import Distributed, LossModel

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
        return Distributed(model, device_ids=gpus, broadcast_buffers=False)


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
    if uneven := settings.uneven(get_world_size()):
        raise UserError(uneven)
    model.accumulate = settings.accumulate
    # From pinned memory, which only CUDA has, a batch is copied while the step before it is computed.
    model.data_preprocessor = BaseDataPreprocessor(non_blocking=run.device.type == "cuda")
    optimizer = _optimizer(model, settings)
    checkpoints = run.folder / "checkpoints"
    state = newest_checkpoint(checkpoints)
    autotune = torch.backends.cudnn.benchmark
    with quiet():
        runner = _Runner(
            run.device,
            state,
            model=model,
            work_dir=str(run.folder / "mmengine"),
            train_dataloader=_batches(samples, settings, run, interval),
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
    torch.backends.cudnn.benchmark = autotune  # the Runner switches it off; cuDNN stays with deterministic algorithms
    runner.train()
    if is_distributed():
        for buffer in model.buffers():  # a batch norm's statistics are those of each process's own images
            if buffer.is_floating_point():
                torch.distributed.broadcast(buffer, src=0)
    return model.eval()


def _batches(
    samples: TrainingSamples, settings: TrainingSection, run: Run, interval: int
) -> DataLoader[dict[str, torch.Tensor]]:
    """This process's share of the batches, of `interval` steps in each epoch."""
    world = get_world_size()
    length = interval * settings.batch_size
    return DataLoader(
        samples,
        batch_size=settings.batch_size // world,
        sampler=SampleStream(len(samples), length=length, seed=run.seed, rank=get_rank(), world=world),
        num_workers=run.workers,
        persistent_workers=run.workers > 0,
        pin_memory=run.device.type == "cuda",
        generator=torch.Generator().manual_seed(run.seed),
    )


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
