"""Classifier with CPAL: the loss of Eq. 1, its training, and the files that hold the network and the prototypes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from cpal.data.dataset import Dataset
from cpal.data.training_samples import TrainingSamples
from cpal.errors import UserError
from cpal.hosts import Host
from cpal.hosts.build import HostSettings, build_host
from cpal.method.learner import ContextPrototypeLearner, build_learner, select
from cpal.networks.training import train
from cpal.networks.weights import load_weights
from cpal.settings.config import CpalConfig

Diagnosis = dict[str, float | None]
Diagnose = Callable[[Host, ContextPrototypeLearner], Diagnosis]


class CpalLoss(BaseModel):
    """The host's own loss, L_BCE in Eq. 1, and lambda_Self L_Self. Without a learner, the host's alone."""

    def __init__(
        self,
        host: Host,
        learner: ContextPrototypeLearner | None,
        settings: CpalConfig,
    ) -> None:
        super().__init__()
        self.host, self.learner, self.settings = host, learner, settings
        self.register_buffer("warm", torch.zeros((), dtype=torch.bool))

    def forward(
        self, image: Tensor, image_label: Tensor, mask: Tensor, padding: Tensor, mode: str = "loss"
    ) -> dict[str, Tensor]:
        """image (B, 3, S, S), image_label (B, N), mask (B, S, S), padding (B, S, S) bool -> named losses."""
        assert mode == "loss"
        output, losses = self.host.training_step(image, image_label, mask)
        if self.learner is not None:
            padding = F.adaptive_max_pool2d(padding.float()[:, None], output.cam.shape[2:])[:, 0] > 0
            features = select(output.features, self.settings)
            _, self_loss = self.learner(features, output.cam, image_label, padding=padding)
            losses["loss_self"] = self.settings.self_weight * self_loss * self.warm
        return losses


class DiagnoseEachEpoch(Hook):
    """Rows of what `diagnose` finds at the end of each epoch; kept in the checkpoint, so that a resumed run has all."""

    def __init__(self, diagnose: Diagnose, host: Host, learner: ContextPrototypeLearner) -> None:
        self.diagnose, self.host, self.learner = diagnose, host, learner
        self.rows: list[Diagnosis] = []

    def after_train_epoch(self, runner: Runner) -> None:
        self.rows.append({"epoch": runner.epoch + 1, **self.diagnose(self.host, self.learner)})

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["diagnostics"] = self.rows

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self.rows = checkpoint["diagnostics"]


class ClusterEachEpoch(Hook):
    """Renews the context prototypes at the beginning of each epoch, and lets L_Self in when its epoch has come."""

    def __init__(self, loss: CpalLoss) -> None:
        self.loss = loss

    def before_train_epoch(self, runner: Runner) -> None:
        if self.loss.learner is not None and runner.epoch > 0:
            self.loss.learner.cluster()
            self.loss.warm.fill_(runner.epoch >= self.loss.settings.self_start_epoch)


def train_classifier(
    dataset: Dataset,
    settings: HostSettings,
    cpal: CpalConfig,
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    workers: int,
    diagnose: Diagnose,
    masks: Path | None = None,
    limit: int | None = None,
) -> tuple[Host, ContextPrototypeLearner, list[Diagnosis]]:
    """Train host and learner on the image-level labels; resumes from `folder`, see `training.train`.

    `masks` holds the first round's labels, for a host that learns from them. The rows are what `diagnose` found, one an
    epoch. A host of which nothing learns is given back as it is; raises UserError where a projection should learn.
    """
    torch.manual_seed(seed)
    host = build_host(settings, dataset.classes)
    # Without L_Self the learner is no part of the model that `train` moves to the device, but is still diagnosed.
    learner = build_learner(host, dataset.num_foreground, cpal, seed=seed).to(device)
    if not any(parameter.requires_grad for parameter in host.parameters()):
        if cpal.projection:
            raise UserError(f"host: {settings.host} is not trained, and no projection learns; set cpal.projection: 0")
        return host, learner, []
    loss = CpalLoss(host, learner if cpal.self_weight > 0 else None, cpal)
    records = dataset.split("train", limit)
    samples = TrainingSamples(
        dataset,
        records,
        crop_size=settings.training.crop_size,
        resize_long=settings.training.resize_long,
        padding=host.padding,
        seed=seed,
        mask_folder=masks,
    )
    diagnostics = DiagnoseEachEpoch(diagnose, host, learner)
    steps = settings.training.epoch_steps(len(records))
    train(
        loss,
        samples,
        settings.training,
        head=[*host.new_layers(), learner.projections],
        iterations=steps * settings.training.epochs,
        interval=steps,
        seed=seed,
        folder=folder,
        device=device,
        workers=workers,
        hooks=[ClusterEachEpoch(loss), diagnostics],
    )
    return host, learner, diagnostics.rows


def weights_meta(settings: HostSettings, classes: Sequence[str]) -> dict[str, Any]:
    """What a file of weights must agree on to be loaded."""
    return {
        "host": settings.host,
        "backbone": getattr(settings.own, "backbone", settings.classifier.backbone),
        "output_stride": settings.classifier.output_stride,
        "classes": list(classes),
    }


def load_classifier(
    path: Path, dataset: Dataset, settings: HostSettings, cpal: CpalConfig, *, seed: int, device: torch.device
) -> tuple[Host, ContextPrototypeLearner]:
    """The trained network, ready for inference, and a learner with its projections and an empty bank."""
    host = build_host(settings, dataset.classes, weights="none")
    learner = build_learner(host, dataset.num_foreground, cpal, seed=seed)
    modules = {"host": host, "projections": learner.projections}
    load_weights(path, modules, weights_meta(settings, dataset.classes), stage="train_cam")
    return host.to(device).eval(), learner.to(device).eval()
