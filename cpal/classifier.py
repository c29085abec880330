"""Classifier with CPAL: the loss of Eq. 1, its training, and the files that hold the network and the prototypes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from cpal.config import ClassifierConfig, CpalConfig
from cpal.dataset import Dataset
from cpal.hosts.irn import IrnHost, build_irn_host
from cpal.learner import ContextPrototypeLearner
from cpal.masks import VOID
from cpal.samples import TrainingSamples
from cpal.training import train
from cpal.weights import load_weights

Diagnosis = dict[str, float | None]
Diagnose = Callable[[IrnHost, ContextPrototypeLearner], Diagnosis]


class CpalLoss(BaseModel):
    """lambda_BCE L_BCE + lambda_Self L_Self, Eq. 1, of a host and its learner. Without a learner, L_BCE alone."""

    def __init__(
        self,
        host: IrnHost,
        learner: ContextPrototypeLearner | None,
        settings: CpalConfig,
    ) -> None:
        super().__init__()
        self.host, self.learner, self.settings = host, learner, settings
        self.register_buffer("warm", torch.zeros((), dtype=torch.bool))

    def forward(self, image: Tensor, image_label: Tensor, mask: Tensor, mode: str = "loss") -> dict[str, Tensor]:
        """image (B, 3, S, S), image_label (B, N), mask (B, S, S) with 255 on padding -> named losses."""
        assert mode == "loss"
        output = self.host(image)
        losses = {"loss_classification": F.multilabel_soft_margin_loss(output.logits, image_label)}
        if self.learner is not None:
            stride = mask.shape[-1] // output.cam.shape[-1]
            padding = F.max_pool2d((mask == VOID).float()[:, None], stride)[:, 0] > 0
            features = select(output.features, self.settings)
            _, self_loss = self.learner(features, output.cam, image_label, padding=padding)
            losses["loss_self"] = self.settings.self_weight * self_loss * self.warm
        return losses


class DiagnoseEachEpoch(Hook):
    """Rows of what `diagnose` finds at the end of each epoch; kept in the checkpoint, so that a resumed run has all."""

    def __init__(self, diagnose: Diagnose, host: IrnHost, learner: ContextPrototypeLearner) -> None:
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


def select(features: list[Tensor], settings: CpalConfig) -> list[Tensor]:
    """The stages' maps that make z."""
    return [features[stage - 1] for stage in settings.features]


def build_learner(host: IrnHost, num_foreground: int, settings: CpalConfig, *, seed: int) -> ContextPrototypeLearner:
    """A learner of the host's stages that `cpal.features` names."""
    channels = [host.channels[stage - 1] for stage in settings.features]
    return ContextPrototypeLearner(num_foreground, channels, settings, seed=seed)


def train_classifier(
    dataset: Dataset,
    settings: ClassifierConfig,
    cpal: CpalConfig,
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    workers: int,
    diagnose: Diagnose,
    limit: int | None = None,
) -> tuple[IrnHost, ContextPrototypeLearner, list[Diagnosis]]:
    """Train host and learner on the image-level labels; resumes from `folder`, see `training.train`.

    The rows are what `diagnose` found, one an epoch.
    """
    torch.manual_seed(seed)
    host = build_irn_host(settings, dataset.num_foreground)
    learner = build_learner(host, dataset.num_foreground, cpal, seed=seed)
    loss = CpalLoss(host, learner if cpal.self_weight > 0 else None, cpal)
    records = dataset.split("train", limit)
    samples = TrainingSamples(
        dataset,
        records,
        crop_size=settings.crop_size,
        resize_long=settings.resize_long,
        padding=tuple(host.backbone.mean.flatten().tolist()),
        seed=seed,
    )
    diagnostics = DiagnoseEachEpoch(diagnose, host, learner)
    steps = max(1, len(records) // settings.batch_size)
    train(
        loss,
        samples,
        settings,
        head=[host.classifier, learner.projections],
        iterations=steps * settings.epochs,
        interval=steps,
        seed=seed,
        folder=folder,
        device=device,
        workers=workers,
        hooks=[ClusterEachEpoch(loss), diagnostics],
    )
    return host, learner, diagnostics.rows


def describe(settings: ClassifierConfig, dataset: Dataset) -> dict[str, Any]:
    """What a file of weights must agree on to be loaded."""
    return {
        "backbone": settings.backbone,
        "output_stride": settings.output_stride,
        "classes": list(dataset.classes),
    }


def load_classifier(
    path: Path, dataset: Dataset, settings: ClassifierConfig, cpal: CpalConfig, *, seed: int, device: torch.device
) -> tuple[IrnHost, ContextPrototypeLearner]:
    """The trained network, ready for inference, and a learner with its projections and an empty bank."""
    host = build_irn_host(settings, dataset.num_foreground, weights="none")
    learner = build_learner(host, dataset.num_foreground, cpal, seed=seed)
    modules = {"host": host, "projections": learner.projections}
    load_weights(path, modules, describe(settings, dataset), stage="train_cam")
    return host.to(device).eval(), learner.to(device).eval()
