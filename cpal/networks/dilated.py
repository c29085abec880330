"""Dilated depthwise convolutions in a form whose gradient is fast on a CPU."""

from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DilatedDepthwise(nn.Conv2d):
    """nn.Conv2d with one filter for each channel, a dilation d and no stride; the output has the size of the input.

    Where gradients are computed on a CPU, each map is split into the d x d maps of its every d-th row and column, on
    which the filter is not dilated: the same products and sums. oneDNN's gradient of a dilated filter takes three to
    five times as long.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        if not torch.is_grad_enabled() or maps.device.type != "cpu":
            return super().forward(maps)
        step, (height, width) = self.dilation[0], maps.shape[2:]
        # Zeros below and right of the maps are what the convolution itself assumes there.
        padded = F.pad(maps, (0, -width % step, 0, -height % step))
        parts = F.conv2d(_split(padded, step), self.weight, self.bias, padding="same", groups=self.groups)
        return _joined(parts, step)[:, :, :height, :width]


def _split(maps: Tensor, step: int) -> Tensor:
    """(B, C, step * h, step * w) -> (step * step * B, C, h, w), in the memory order of channels_last."""
    rows = maps.permute(0, 2, 3, 1)
    batch, height, width, channels = rows.shape
    cells = rows.reshape(batch, height // step, step, width // step, step, channels)
    return cells.permute(2, 4, 0, 1, 3, 5).reshape(-1, height // step, width // step, channels).permute(0, 3, 1, 2)


def _joined(parts: Tensor, step: int) -> Tensor:
    """The inverse of `_split`."""
    rows = parts.permute(0, 2, 3, 1)
    _, height, width, channels = rows.shape
    cells = rows.reshape(step, step, -1, height, width, channels).permute(2, 3, 0, 4, 1, 5)
    return cells.reshape(-1, height * step, width * step, channels).permute(0, 3, 1, 2)


def replace_dilated(network: nn.Module) -> None:
    """Put a DilatedDepthwise in place of each convolution that it can stand for; the weights stay the same tensors."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if _fits(child):
                setattr(parent, name, _of(child))


def _fits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    if type(module) is not nn.Conv2d or isinstance(module.padding, str):
        return False
    depthwise = module.groups == module.in_channels == module.out_channels
    dilated = module.dilation[0] == module.dilation[1] > 1 and module.stride == (1, 1)
    pads = zip(module.padding, module.dilation, module.kernel_size, strict=True)
    return depthwise and dilated and all(2 * pad == step * (side - 1) for pad, step, side in pads)


def _of(conv: nn.Conv2d) -> DilatedDepthwise:
    size: dict[str, Any] = {name: getattr(conv, name) for name in ("kernel_size", "padding", "dilation", "groups")}
    fast = DilatedDepthwise(conv.in_channels, conv.out_channels, device="meta", **size)
    fast.weight, fast.bias = conv.weight, conv.bias
    return fast
