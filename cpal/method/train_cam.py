"""The training of the classifier with CPAL: the loss of Eq. 1, and what is renewed and diagnosed each epoch."""

from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import LabelMaps
from cpal.errors import UserError
from cpal.hosts import Host, HostOutput
from cpal.hosts.build import build_host
from cpal.method.classifier import Diagnose, Diagnosis
from cpal.method.learner import ContextPrototypeLearner, build_learner, select
from cpal.settings.cpal import CpalSettings
from cpal.settings.hosts import HostSection, TrainedHost
from cpal.training.loop import Run, train
from cpal.training.samples import Augmentation, TrainingSamples
from cpal.training.step import LossModel


class CpalLoss(LossModel):
    """The host's own loss, L_BCE in Eq. 1, and lambda_Self L_Self. Without a learner, the host's alone."""

    def __init__(
        self,
        host: Host,
        learner: ContextPrototypeLearner | None,
        settings: CpalSettings,
    ) -> None:
        super().__init__()
        self.host, self.learner, self.settings = host, learner, settings
        self.register_buffer("warm", torch.zeros((), dtype=torch.bool))

    def new_layers(self) -> list[nn.Module]:
        return self.host.new_layers() + ([] if self.learner is None else [self.learner.projections])

    def forward(
        self, image: Tensor, image_label: Tensor, mask: Tensor, padding: Tensor, mode: str = "loss"
    ) -> dict[str, Tensor]:
        """image (B, 3, S, S), image_label (B, N), mask (B, S, S), padding (B, S, S) bool -> named losses."""
        assert mode == "loss"
        output, losses = self.host.training_step(image, image_label, mask)
        if self.learner is not None:
            losses["loss_self"] = self.settings.self_weight * self._self_loss(output, image_label, padding) * self.warm
        return losses

    def _self_loss(self, output: HostOutput, image_label: Tensor, padding: Tensor) -> Tensor:
        """L_Self. Prototypes and maps are computed in full precision, also where the host trains with amp."""
        assert self.learner is not None
        padding = F.adaptive_max_pool2d(padding.float()[:, None], output.cam.shape[2:])[:, 0] > 0
        features = [map_.float() for map_ in select(output.features, self.settings)]
        cam, probability = output.cam.float(), output.logits.detach().float().sigmoid()
        with torch.autocast(cam.device.type, enabled=False):
            return self.learner(features, cam, image_label, padding=padding, probability=probability)[1]


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
    records: list[Record],
    settings: HostSection,
    cpal: CpalSettings,
    run: Run,
    *,
    diagnose: Diagnose,
    masks: LabelMaps | None = None,
) -> tuple[Host, ContextPrototypeLearner, list[Diagnosis]]:
    """Train host and learner on the records' image-level labels; continues a killed training, see `loop.train`.

    `masks` are the first round's labels, for a host that learns from them. The rows are what `diagnose` found, one an
    epoch. A host that learns nothing is given back as it is; raises UserError where a projection should learn.
    """
    torch.manual_seed(run.seed)
    host = build_host(settings, dataset.classes)
    # Without L_Self the learner is no part of the model that `train` moves to the device, but is still diagnosed.
    learner = build_learner(host, dataset.num_foreground, cpal, seed=run.seed).to(run.device)
    if not isinstance(settings, TrainedHost):
        if cpal.projection:
            raise UserError(f"host: {settings.name} is not trained, and no projection learns; set cpal.projection: 0")
        return host, learner, []
    loss = CpalLoss(host, learner if cpal.self_weight > 0 else None, cpal)
    augmentation = Augmentation(run.seed, settings.crop_size, host.padding, long_sides=settings.resize_long)
    samples = TrainingSamples(dataset, records, augmentation, masks)
    diagnostics = DiagnoseEachEpoch(diagnose, host, learner)
    steps = settings.epoch_steps(len(records))
    hooks = [ClusterEachEpoch(loss), diagnostics]
    train(loss, samples, settings, run, iterations=steps * settings.epochs, interval=steps, hooks=hooks)
    return host, learner, diagnostics.rows
