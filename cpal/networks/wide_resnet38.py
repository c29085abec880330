"""Wide ResNet-38 (model A1 of Wu et al., 2016) at output stride 8; tensor names are those of the weights in common use.

Each unit normalises before it convolves. The last two units are dilated bottlenecks with dropout of channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Unit(nn.Module):
    """Two 3x3 convolutions; the shortcut is a 1x1 convolution if the shape changes."""

    def __init__(
        self, channels: int, middle: int, out: int, *, stride: int = 1, first_dilation: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(channels)
        self.conv_branch2a = nn.Conv2d(
            channels, middle, 3, stride, padding=first_dilation, dilation=first_dilation, bias=False
        )
        self.bn_branch2b1 = nn.BatchNorm2d(middle)
        self.conv_branch2b1 = nn.Conv2d(middle, out, 3, padding=dilation, dilation=dilation, bias=False)
        if channels != out or stride != 1:
            self.conv_branch1 = nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn_branch2a(x))
        shortcut = self.conv_branch1(active) if hasattr(self, "conv_branch1") else x
        return shortcut + self.conv_branch2b1(F.relu(self.bn_branch2b1(self.conv_branch2a(active))))


class Bottleneck(nn.Module):
    """Convolutions: 1x1 to out / 4 channels, dilated 3x3 to out / 2, 1x1 to out. The shortcut is a 1x1 convolution."""

    def __init__(self, channels: int, out: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(channels)
        self.conv_branch2a = nn.Conv2d(channels, out // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(out // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = nn.Conv2d(out // 4, out // 2, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn_branch2b2 = nn.BatchNorm2d(out // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = nn.Conv2d(out // 2, out, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(channels, out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn_branch2a(x))
        middle = self.conv_branch2b1(self.dropout_2b1(F.relu(self.bn_branch2b1(self.conv_branch2a(active)))))
        return self.conv_branch1(active) + self.conv_branch2b2(self.dropout_2b2(F.relu(self.bn_branch2b2(middle))))


class WideResNet38(nn.Module):
    """images (B, 3, H, W) -> four maps: b3, b4 and b5 at strides 4, 8, 8, and the normalised last map at stride 8."""

    channels = (256, 512, 1024, 4096)

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        for name, channels, width, more in (("b2", 64, 128, 2), ("b3", 128, 256, 2), ("b4", 256, 512, 5)):
            self.add_module(name, Unit(channels, width, width, stride=2))
            for n in range(1, more + 1):
                self.add_module(f"{name}_{n}", Unit(width, width, width))
        self.b5 = Unit(512, 512, 1024, dilation=2)
        self.b5_1 = Unit(1024, 512, 1024, first_dilation=2, dilation=2)
        self.b5_2 = Unit(1024, 512, 1024, first_dilation=2, dilation=2)
        self.b6 = Bottleneck(1024, 2048, dilation=4, dropout=0.3)
        self.b7 = Bottleneck(2048, 4096, dilation=4, dropout=0.5)
        self.bn7 = nn.BatchNorm2d(4096)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], images
        for name, module in self.named_children():
            if name == "bn7":
                break
            x = module(x)
            if name in ("b3_2", "b4_5", "b5_2"):
                maps.append(x)
        return [*maps, F.relu(self.bn7(x))]
