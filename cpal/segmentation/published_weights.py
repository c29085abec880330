"""Converts DeepLab's published ResNet-101 from the tensor names of deeplab-pytorch to ours."""

from collections.abc import Mapping

from torch import Tensor

from cpal.errors import UserError

BLOCKS = {"layer2": 3, "layer3": 4, "layer4": 23, "layer5": 3}
UNITS = {"reduce": ("conv1", "bn1"), "conv3x3": ("conv2", "bn2"), "increase": ("conv3", "bn3")}
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
HEAD = ("fc.", "classifier.", "aspp.")
PREFIXES = ("module.", "scale.", "base.")


def published_names() -> dict[str, str]:
    """Published tensor name -> our tensor name (torchvision's), for the backbone."""
    pairs = {"layer1.conv1": ("conv1", "bn1")}
    for layer, blocks in BLOCKS.items():
        ours = f"layer{int(layer[-1]) - 1}"
        for n in range(blocks):
            for unit, (conv, norm) in UNITS.items():
                pairs[f"{layer}.block{n + 1}.{unit}"] = (f"{ours}.{n}.{conv}", f"{ours}.{n}.{norm}")
        pairs[f"{layer}.block1.shortcut"] = (f"{ours}.0.downsample.0", f"{ours}.0.downsample.1")
    names = {f"{theirs}.conv.weight": f"{conv}.weight" for theirs, (conv, _) in pairs.items()}
    return names | {f"{theirs}.bn.{key}": f"{norm}.{key}" for theirs, (_, norm) in pairs.items() for key in NORM}


def convert(stored: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """State dict of our backbone, as `backbone.*`.

    The first convolution was trained on blue, green, red, so its input channels are reversed. Classifier and ASPP are
    left out: they know other classes. num_batches_tracked may be missing. Raises UserError, which names `source`, if
    tensors are missing or unknown.
    """
    plain = {_without_prefix(key): value for key, value in stored.items()}
    names = published_names()
    missing = [key for key in names if key not in plain and not key.endswith("num_batches_tracked")]
    unknown = [key for key in plain if key not in names and not key.startswith(HEAD)]
    if missing or unknown:
        listed = [f"lacks {len(missing)} tensors, such as {missing[0]}"] if missing else []
        listed += [f"has {len(unknown)} that DeepLab's ResNet-101 has not, such as {unknown[0]}"] if unknown else []
        raise UserError(f"{source}: {' and '.join(listed)}; it must be deeplab-pytorch's ResNet-101")
    converted = {f"backbone.{ours}": plain[theirs] for theirs, ours in names.items() if theirs in plain}
    converted["backbone.conv1.weight"] = converted["backbone.conv1.weight"].flip(1)
    return converted


def _without_prefix(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name
