"""Dilated depthwise convolutions against those of PyTorch: values, gradients, and which layers are replaced."""

from typing import Any

import pytest
import timm
import torch
from torch import nn

from cpal.networks.backbones import build_backbone
from cpal.networks.dilated import DilatedDepthwise, replace_dilated


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (3, 1), (13, 5)])
@pytest.mark.parametrize(("side", "step"), [(3, 2), (5, 2), (3, 4), (5, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_those_of_pytorch(size: tuple[int, int], side: int, step: int, bias: bool) -> None:
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "kernel_size": side,
        "padding": step * (side // 2),
        "dilation": step,
        "groups": 6,
        "bias": bias,
    }
    shape |= {"groups": 6, "bias": bias}
    plain = nn.Conv2d(6, 6, **shape, dtype=torch.float64)
    network = nn.Sequential(nn.Conv2d(6, 6, **shape, dtype=torch.float64))
    network.load_state_dict({f"0.{name}": value for name, value in plain.state_dict().items()})
    replace_dilated(network)
    assert type(network[0]) is DilatedDepthwise
    maps = torch.randn(2, 6, *size, dtype=torch.float64)
    goal = torch.randn(2, 6, *size, dtype=torch.float64)
    found = []
    for layer in (plain, network):
        given = maps.clone().requires_grad_()
        output = layer(given)
        (output * goal).sum().backward()
        found.append([output.detach(), given.grad, *(parameter.grad for parameter in layer.parameters())])
    torch.testing.assert_close(found[1], found[0], rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(network(maps), plain(maps), rtol=0, atol=0)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),  # not dilated
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),  # not depthwise
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),  # two filters a channel
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4),  # a smaller output
        nn.Conv2d(4, 4, 3, padding=(1, 2), dilation=(1, 2), groups=4),
    ],
)
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    network = nn.Sequential(conv)
    replace_dilated(network)
    assert network[0] is conv


def test_a_backbone_stays_timms_network() -> None:
    name = "tf_efficientnet_lite0"
    ours = build_backbone(name, weights="none", output_stride=16, freeze_norm=False)
    theirs = timm.create_model(name, features_only=True, output_stride=16, out_indices=(-4, -3, -2, -1))
    assert list(ours.body.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(ours.body.state_dict())
    replaced = [module for module in ours.modules() if isinstance(module, DilatedDepthwise)]
    assert len(replaced) == 4 and all(module.dilation == (2, 2) for module in replaced)
    ours.double(), theirs.double()
    images = torch.rand(2, 3, 50, 66).double() * 255
    for mine, its in zip(ours(images), theirs((images - ours.mean) / ours.std), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-9)
