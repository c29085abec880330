"""IRN's network that predicts edges between classes (Ahn et al., CVPR 2019).

It learns from pairs of pixels with sure labels, on a frozen backbone. IRN has a second branch for instance
segmentation, which predicts the displacement of each pixel to the middle of its object. The random walk reads edges
only, so this branch is left out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpal.affinity.random_walk import offsets, pair_affinity, shifted
from cpal.data.dataset import Dataset, Record
from cpal.data.masks import VOID, LabelMaps
from cpal.errors import UserError
from cpal.networks.backbones import Backbone, build_backbone, fold_norms
from cpal.networks.weights import load_weights
from cpal.settings.config import AffinityConfig
from cpal.training.loop import Run, train
from cpal.training.samples import Augmentation, TrainingSamples
from cpal.training.step import LossModel

EPSILON = 1e-5


class AffinityNet(nn.Module):
    """Edge logits at the resolution of the backbone's first stage.

    IRN uses the stem and four layers of ResNet-50; this network uses the four stages, which every backbone has.
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.edges = nn.ModuleList(_reduce(width, 32, groups=4) for width in backbone.channels)
        self.edge = nn.Conv2d(4 * 32, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        """images (B, 3, H, W) RGB in 0..255 -> edge logits (B, h, w)."""
        with torch.no_grad():
            stages = self.backbone(images)
        size = stages[0].shape[2:]
        reduced = [F.relu(_fit(branch(map_), size)) for branch, map_ in zip(self.edges, stages, strict=True)]
        return self.edge(torch.cat(reduced, dim=1))[:, 0]

    def train(self, mode: bool = True) -> "AffinityNet":
        """The backbone always stays in inference mode."""
        super().train(mode)
        self.backbone.eval()
        return self


def _reduce(channels: int, out: int, *, groups: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.GroupNorm(groups, out))


def _fit(map_: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(map_, size=tuple(size), mode="bilinear", align_corners=False)


class AffinityLoss(LossModel):
    """IRN's loss over pairs of cells that are nearer than `radius`, with labels at the resolution of the cells."""

    def __init__(self, network: AffinityNet, radius: int) -> None:
        super().__init__()
        self.network, self.radius = network, radius

    def forward(
        self, image: Tensor, image_label: Tensor, mask: Tensor, padding: Tensor, mode: str = "loss"
    ) -> dict[str, Tensor]:
        """image (B, 3, S, S), mask (B, S, S) of sure labels, 255 elsewhere and on padding -> named losses."""
        assert mode == "loss"
        edge = self.network(image)  # cast to float below: in half precision, the logarithm of a weak edge is far off
        label = F.interpolate(mask[:, None].float(), size=edge.shape[1:], mode="nearest-exact")[:, 0]
        reach = self.radius - 1
        if min(label.shape[1] - reach, label.shape[2] - 2 * reach) < 1:
            raise UserError(
                f"affinity.radius: {self.radius}: a crop of {label.shape[2]} cells has no pair of cells so far apart; "
                f"take a crop_size of more than {2 * reach} cells, which are the backbone's first stage"
            )
        return pair_losses(edge.float().sigmoid(), label, self.radius)


def pair_losses(edge: Tensor, label: Tensor, radius: int) -> dict[str, Tensor]:
    """IRN's loss of the affinity of pairs of sure cells.

    edge (B, h, w) in [0, 1]; label (B, h, w), 255 where not sure. Three kinds of pairs have a mean loss each: both
    cells background, both of the same class, and two different labels. The mean of a kind without pairs counts as 0.
    """
    reach = radius - 1
    sums: dict[str, Any] = {name: torch.zeros((), device=edge.device) for name in _KINDS}
    counts = {name: torch.zeros((), device=edge.device) for name in _KINDS}
    here = shifted(label, (0, 0), reach)
    for offset in offsets(radius):
        there = shifted(label, offset, reach)
        sure = (here != VOID) & (there != VOID)
        same = sure & (here == there)
        kinds = {"background": same & (here == 0), "foreground": same & (here != 0), "different": sure & ~same}
        affinity = pair_affinity(edge, offset, reach)
        apart = -(1 + EPSILON - affinity).log()
        alike = -(affinity + EPSILON).log()
        for name, kind in kinds.items():
            counts[name] += kind.sum()
            sums[name] += ((apart if name == "different" else alike) * kind).sum()
    mean = {name: total / (counts[name] + EPSILON) for name, total in sums.items()}
    return {
        "loss_alike": (mean["background"] + mean["foreground"]) / 4,
        "loss_apart": mean["different"] / 2,
    }


_KINDS = ("background", "foreground", "different")


def build_affinity_net(settings: AffinityConfig, *, weights: str | None = None) -> AffinityNet:
    """The network that the section `affinity` describes; `weights` replaces the setting for the backbone's weights."""
    backbone = build_backbone(
        settings.backbone,
        weights=settings.weights if weights is None else weights,
        output_stride=settings.output_stride,
        dilated=False,
    )
    return AffinityNet(backbone)


def train_affinity(
    dataset: Dataset, records: list[Record], labels: LabelMaps, settings: AffinityConfig, run: Run
) -> AffinityNet:
    """Train on the records' sure labels; a killed training continues, see `loop.train`."""
    torch.manual_seed(run.seed)
    network = build_affinity_net(settings)
    augmentation = Augmentation(run.seed, settings.crop_size, network.backbone.color, scales=settings.scale_range)
    samples = TrainingSamples(dataset, records, augmentation, labels)
    steps = settings.epoch_steps(len(records))
    loss = AffinityLoss(network, settings.radius)
    train(loss, samples, settings, run, iterations=steps * settings.epochs, interval=steps)
    return network


@torch.no_grad()
def edges(network: AffinityNet, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Edge map (h, w) in [0, 1] of an image uint8 (3, H, W); averages the logits of the image and its mirror image."""
    views = torch.stack([image, image.flip(-1)]).to(network.edge.weight.device)
    straight, mirrored = network(views)
    return _fit(((straight + mirrored.flip(-1)) / 2)[None, None], size)[0, 0].sigmoid()


def weights_meta(settings: AffinityConfig) -> dict[str, Any]:
    """The description that must match when a file of weights is loaded."""
    return {"backbone": settings.backbone, "output_stride": settings.output_stride}


def load_affinity_net(path: Path, settings: AffinityConfig, *, device: torch.device) -> AffinityNet:
    """The trained network, ready for inference."""
    network = build_affinity_net(settings, weights="none")
    load_weights(path, {"network": network}, weights_meta(settings), stage="train_affinity")
    fold_norms(network)
    return network.to(device).eval()
