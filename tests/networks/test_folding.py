"""Folding batch norm changes no output, and leaves a network alone that it would change."""

import copy

import pytest
import torch
from torch import Tensor, nn

from cpal.networks.backbones import build_backbone, fold_norms
from cpal.networks.folding import NORMS, folded


def example() -> Tensor:
    return torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(0)) * 255


def with_statistics(network: nn.Module) -> nn.Module:
    """Running statistics and affine parts as after a training: fresh ones fold to nothing."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, NORMS):
            for name, low in (("running_mean", -0.2), ("running_var", 0.5), ("weight", 0.5), ("bias", -0.2)):
                values = getattr(module, name)
                values.data.copy_(low + torch.rand(values.shape, generator=generator))
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in network.modules())


@pytest.mark.parametrize(
    ("name", "stride", "left"),
    # Each of the 17 blocks of WideResNet-38 first normalises a sum of two branches.
    [("test_efficientnet", 16, 0), ("tf_efficientnet_lite0", 16, 0), ("resnet50", 16, 0), ("wide_resnet38", 8, 17)],
)
@torch.no_grad()
def test_same_maps_with_fewer_layers(name: str, stride: int, left: int) -> None:
    network = with_statistics(build_backbone(name, weights="none", output_stride=stride))
    before = norms(network)
    found = copy.deepcopy(network)
    fold_norms(found)
    image = example().flip(-1)
    for ours, expected in zip(found(image), network(image), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    assert norms(found) == left < before


class TwoUses(nn.Module):
    """The convolution's output is normalised, and used as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        return self.norm(maps) + maps


class Twice(nn.Module):
    """One convolution in front of two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norms = nn.Conv2d(3, 3, 3), nn.ModuleList([nn.BatchNorm2d(3), nn.BatchNorm2d(3)])

    def forward(self, images: Tensor) -> Tensor:
        return self.norms[1](self.conv(self.norms[0](self.conv(images))))


@pytest.mark.parametrize("network", [TwoUses(), Twice()])
@torch.no_grad()
def test_what_cannot_be_folded_stays(network: nn.Module) -> None:
    with_statistics(network)
    found = folded(network, example())
    torch.testing.assert_close(found(example()), network(example()))
    assert norms(found) == norms(network)
