"""A trained network as CPAL uses it: the host, the learner of its prototypes, and the taught CAM."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cpal.data.dataset import Record
from cpal.hosts import Host
from cpal.hosts.build import build_host
from cpal.hosts.outputs import view_output
from cpal.method.learner import ContextPrototypeLearner, build_learner, select
from cpal.method.taught_cam import TaughtCam
from cpal.networks.backbones import fold_norms
from cpal.networks.weights import load_weights
from cpal.settings.cpal import CpalSettings
from cpal.settings.hosts import HostSection

Diagnosis = dict[str, float | None]  # what `diagnose.diagnose` finds, by name
Diagnose = Callable[[Host, ContextPrototypeLearner], Diagnosis]


@dataclass(frozen=True)
class Classifier:
    """Host, learner and taught CAM on one device. A first round has no learner; `taught` is None until it has learned.

    `host` gives a HostOutput for images and labels: a Host, or one whose outputs are cached.
    """

    host: nn.Module
    num_foreground: int
    learner: ContextPrototypeLearner | None = None
    taught: TaughtCam | None = None

    @property
    def device(self) -> torch.device:
        return next(self.host.parameters()).device

    def label(self, record: Record) -> Tensor:
        """The record's image-level label, (1, N) of 0/1."""
        return torch.from_numpy(record.multi_hot(self.num_foreground)).to(self.device)[None]

    def look(self, view: Tensor, label: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """Features that make z, CAM (1, N, h, w) and logits (1, N) of an image, from its view (V, 3, h, w)."""
        output = view_output(self.host, view, label)
        features = [] if self.learner is None else select(output.features, self.learner.settings)
        return features, output.cam, output.logits


def weights_meta(settings: HostSection, classes: Sequence[str]) -> dict[str, Any]:
    """The description of a trained classifier's file, which must agree with the settings that load it."""
    meta = {
        "host": settings.name,
        "backbone": settings.backbone,
        "output_stride": getattr(settings, "output_stride", None),
        "classes": list(classes),
    }
    if dilations := getattr(settings, "dilations", None):  # of AMN; tensors of other dilations have the same shapes
        meta["dilations"] = list(dilations)
    return meta


def load_classifier(
    path: Path, classes: Sequence[str], settings: HostSection, cpal: CpalSettings, *, seed: int, device: torch.device
) -> tuple[Host, ContextPrototypeLearner]:
    """The trained network, ready for inference, and a learner with its projections and an empty bank.

    Raises UserError when the file is missing, damaged, or of other settings.
    """
    host = build_host(settings, classes, weights="none")
    learner = build_learner(host, len(classes), cpal, seed=seed)
    modules = {"host": host, "projections": learner.projections}
    load_weights(path, modules, weights_meta(settings, classes), stage="train_cam")
    fold_norms(host)
    return host.to(device).eval(), learner.to(device).eval()
