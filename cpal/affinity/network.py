"""IRN's network of two branches (Ahn et al., CVPR 2019): edges between classes, and where a pixel's object has its
middle. It learns from pairs of pixels whose labels are sure, on a backbone that stays as it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from torch import Tensor, nn

from cpal.affinity.random_walk import offsets, pair_affinity, shifted
from cpal.data.dataset import Dataset
from cpal.data.masks import VOID
from cpal.data.training_samples import TrainingSamples
from cpal.data.views import pyramid_loader
from cpal.errors import UserError
from cpal.networks.backbones import Backbone, build_backbone
from cpal.networks.training import train
from cpal.networks.weights import load_weights
from cpal.settings.config import AffinityConfig

EPSILON = 1e-5


class AffinityNet(nn.Module):
    """Edge logits and displacements (dy, dx) in cells, at the resolution of the backbone's first stage.

    IRN reads ResNet-50's stem and four layers; here it is the four stages, which any backbone has.
    """

    mean_displacement: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone.requires_grad_(False)
        self.edges = nn.ModuleList(_reduce(width, 32, groups=4) for width in backbone.channels)
        self.edge = nn.Conv2d(4 * 32, 1, 1)
        self.fine = _reduce(backbone.channels[0], 128, groups=16)
        self.coarse = nn.ModuleList(_reduce(width, 256, groups=16) for width in backbone.channels[1:])
        self.joined = _reduce(3 * 256, 256, groups=16)
        self.displacement = nn.Sequential(
            _reduce(128 + 256, 256, groups=16), nn.ReLU(), nn.Conv2d(256, 2, 1, bias=False)
        )
        self.register_buffer("mean_displacement", torch.zeros(2))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images (B, 3, H, W) RGB in 0..255 -> edge logits (B, h, w), displacements (B, 2, h, w).

        In inference the displacements' mean over the training images is taken off (IRN's mean shift).
        """
        with torch.no_grad():
            stages = self.backbone(images)
        size = stages[0].shape[2:]
        reduced = [F.relu(_fit(branch(map_), size)) for branch, map_ in zip(self.edges, stages, strict=True)]
        edge = self.edge(torch.cat(reduced, dim=1))[:, 0]
        middle = stages[1].shape[2:]
        coarse = [F.relu(_fit(branch(map_), middle)) for branch, map_ in zip(self.coarse, stages[1:], strict=True)]
        joined = F.relu(_fit(self.joined(torch.cat(coarse, dim=1)), size))
        displacement = self.displacement(torch.cat([F.relu(self.fine(stages[0])), joined], dim=1))
        if not self.training:
            displacement = displacement - self.mean_displacement[:, None, None]
        return edge, displacement

    def train(self, mode: bool = True) -> "AffinityNet":
        """The backbone stays in inference, whatever the rest does."""
        super().train(mode)
        self.backbone.eval()
        return self

    def displacement_branch(self) -> list[nn.Module]:
        """What learns at head_learning_rate, ten times that of the edges in IRN."""
        return [self.fine, self.coarse, self.joined, self.displacement]


def _reduce(channels: int, out: int, *, groups: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, 1, bias=False), nn.GroupNorm(groups, out))


def _fit(map_: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(map_, size=tuple(size), mode="bilinear", align_corners=False)


class AffinityLoss(BaseModel):
    """IRN's loss over the pairs of cells nearer than `radius`, from labels at the cells' resolution."""

    def __init__(self, network: AffinityNet, radius: int) -> None:
        super().__init__()
        self.network, self.radius = network, radius

    def forward(
        self, image: Tensor, image_label: Tensor, mask: Tensor, padding: Tensor, mode: str = "loss"
    ) -> dict[str, Tensor]:
        """image (B, 3, S, S), mask (B, S, S) of sure labels, 255 elsewhere and on padding -> named losses."""
        assert mode == "loss"
        edge, displacement = self.network(image)  # below single precision, the logarithm of a weak edge is far off
        label = F.interpolate(mask[:, None].float(), size=edge.shape[1:], mode="nearest-exact")[:, 0]
        reach = self.radius - 1
        if min(label.shape[1] - reach, label.shape[2] - 2 * reach) < 1:
            raise UserError(
                f"affinity.radius: {self.radius}: a crop of {label.shape[2]} cells has no pair of cells so far apart; "
                f"take a crop_size of more than {2 * reach} cells, which are the backbone's first stage"
            )
        return pair_losses(edge.float().sigmoid(), displacement.float(), label, self.radius)


def pair_losses(edge: Tensor, displacement: Tensor, label: Tensor, radius: int) -> dict[str, Tensor]:
    """Affinity of pairs of sure cells, and displacement: pairs of a class differ by their distance, of background by 0.

    edge (B, h, w) in [0, 1], displacement (B, 2, h, w), label (B, h, w) with 255 where not sure. Pairs of background,
    of a class, and of two labels have a mean each; a kind that does not occur counts as no loss.
    """
    reach = radius - 1
    sums: dict[str, Any] = {name: torch.zeros((), device=edge.device) for name in _KINDS}
    counts = {name: torch.zeros((), device=edge.device) for name in ("background", "foreground", "different")}
    here, place = shifted(label, (0, 0), reach), shifted(displacement, (0, 0), reach)
    for offset in offsets(radius):
        there = shifted(label, offset, reach)
        sure = (here != VOID) & (there != VOID)
        same = sure & (here == there)
        kinds = {"background": same & (here == 0), "foreground": same & (here != 0), "different": sure & ~same}
        affinity = pair_affinity(edge, offset, reach)
        apart = -(1 + EPSILON - affinity).log()
        alike = -(affinity + EPSILON).log()
        moved = place - shifted(displacement, offset, reach)
        target = moved.new_tensor(offset)[:, None, None]
        for name, kind in kinds.items():
            counts[name] += kind.sum()
            sums[name] += ((apart if name == "different" else alike) * kind).sum()
        sums["moved_background"] += (moved.abs().mean(dim=1) * kinds["background"]).sum()
        sums["moved_foreground"] += ((moved - target).abs().mean(dim=1) * kinds["foreground"]).sum()
    mean = {name: total / (counts[name.removeprefix("moved_")] + EPSILON) for name, total in sums.items()}
    return {
        "loss_alike": (mean["background"] + mean["foreground"]) / 4,
        "loss_apart": mean["different"] / 2,
        "loss_displacement": (mean["moved_background"] + mean["moved_foreground"]) / 2,
    }


_KINDS = ("background", "foreground", "different", "moved_background", "moved_foreground")


def build_affinity_net(settings: AffinityConfig, *, weights: str | None = None) -> AffinityNet:
    """The network that `affinity` describes; `weights` overrules the backbone's source."""
    backbone = build_backbone(
        settings.backbone,
        weights=settings.weights if weights is None else weights,
        output_stride=settings.output_stride,
        dilated=False,
    )
    return AffinityNet(backbone)


def train_affinity(
    dataset: Dataset,
    labels: Path,
    settings: AffinityConfig,
    *,
    seed: int,
    folder: Path,
    device: torch.device,
    workers: int,
    limit: int | None = None,
) -> AffinityNet:
    """Train on the sure labels in `labels`; resumes from `folder`, see `training.train`."""
    torch.manual_seed(seed)
    network = build_affinity_net(settings)
    records = dataset.split("train", limit)
    samples = TrainingSamples(
        dataset,
        records,
        crop_size=settings.crop_size,
        scale_range=settings.scale_range,
        padding=network.backbone.color,
        seed=seed,
        mask_folder=labels,
    )
    steps = settings.epoch_steps(len(records))
    train(
        AffinityLoss(network, settings.radius),
        samples,
        settings,
        head=network.displacement_branch(),
        iterations=steps * settings.epochs,
        interval=steps,
        seed=seed,
        folder=folder,
        device=device,
        workers=workers,
    )
    loader = pyramid_loader(dataset, records, scales=(1.0,), flip=False, long_side=None, workers=workers)
    network.eval().mean_displacement.zero_()
    with torch.no_grad():
        found = [network(views[0].to(device))[1].mean(dim=(0, 2, 3)) for _, _, views in loader]
    network.mean_displacement.copy_(torch.stack(found).mean(dim=0))
    return network


@torch.no_grad()
def edges(network: AffinityNet, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Edge map (h, w) in [0, 1] of an image uint8 (3, H, W), the mean with its mirror image (before the sigmoid)."""
    views = torch.stack([image, image.flip(-1)]).to(network.mean_displacement.device)
    straight, mirrored = network(views)[0]
    return _fit(((straight + mirrored.flip(-1)) / 2)[None, None], size)[0, 0].sigmoid()


def weights_meta(settings: AffinityConfig) -> dict[str, Any]:
    """What a file of weights must agree on to be loaded."""
    return {"backbone": settings.backbone, "output_stride": settings.output_stride}


def load_affinity_net(path: Path, settings: AffinityConfig, *, device: torch.device) -> AffinityNet:
    """The trained network, ready for inference."""
    network = build_affinity_net(settings, weights="none")
    load_weights(path, {"network": network}, weights_meta(settings), stage="train_affinity")
    return network.to(device).eval()
