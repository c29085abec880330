"""Exports the trained segmentation network as one ONNX file with its class names, and checks the file's labels."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpal.data.images import read_image
from cpal.data.masks import voc_palette
from cpal.errors import UserError
from cpal.files import whole_file
from cpal.maps.drawing import fit
from cpal.segmentation.deeplab import Segmentor

AGREEMENT = 0.999  # share of equal pixels that an exported network must reach
OPSET = 18


def export_checked(
    path: Path, segmentor: Segmentor, meta: dict[str, Any], photos: Sequence[Path], resize: dict[str, float]
) -> tuple[float, int]:
    """Write the ONNX file if ONNX Runtime and PyTorch give the same labels -> share of equal pixels, number of images.

    The labels are compared on up to eight photographs, or on noise if there are none, each at two sizes. Raises
    UserError, and keeps no file, if the labels differ or a package is missing. `meta` and `resize` as in `export_onnx`.
    """
    side = max(1, round(resize["long_side"] * resize["scale"]))
    images = [fit(read_image(photo), width=side, height=side) for photo in photos[:8]]
    if not images:
        images = [np.random.default_rng(0).integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)]
    images += [image[: -(-len(image) * 2 // 3), : -(-image.shape[1] // 2)].copy() for image in images]  # rounded up
    with whole_file(path) as temporary:
        export_onnx(temporary, segmentor, meta, resize)
        share = same_labels(temporary, segmentor, images)
        if share < AGREEMENT:
            raise UserError(
                f"{path}: not written; ONNX Runtime and PyTorch agree on {100 * share:.2f}% of the pixels only, which "
                f"should be {100 * AGREEMENT:.1f}%; please report it with your versions of torch and onnxruntime"
            )
    return share, len(images)


class OneScale(nn.Module):
    """The exported network: an image RGB float (1, 3, H, W) in 0..255 -> probabilities (1, K, H, W), at one scale."""

    def __init__(self, segmentor: Segmentor) -> None:
        super().__init__()
        self.segmentor = segmentor

    def forward(self, image: Tensor) -> Tensor:
        logits = self.segmentor(image, mode="tensor")
        return F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=False).softmax(dim=1)


def export_onnx(path: Path, segmentor: Segmentor, meta: dict[str, Any], resize: dict[str, float]) -> None:
    """Write the network for images of any size; `meta` is the description in its file of weights (`weights_meta`).

    `resize` tells the user of the file at which image size the network has learned objects: long_side in pixels, and an
    additional scale.

    Raises UserError if the package onnx is missing.
    """
    try:
        import onnx
    except ImportError:
        raise UserError("the export needs onnx and onnxruntime: pip install 'cpal[export]', or make setup") from None
    names = {"image": {2: "height", 3: "width"}, "probabilities": {2: "height", 3: "width"}}
    with warnings.catch_warnings():
        # This exporter is deprecated, but takes half a second. Its successor takes 90 seconds for the same graph.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        torch.onnx.export(
            OneScale(segmentor).cpu().eval(),
            (torch.zeros(1, 3, 96, 128),),
            str(path),
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_axes=names,
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(
        model, {key: json.dumps(value) for key, value in _facts(segmentor, meta, resize).items()}
    )
    onnx.save(model, str(path))


def _facts(segmentor: Segmentor, meta: dict[str, Any], resize: dict[str, float]) -> dict[str, Any]:
    classes = ["background", *meta["classes"]]
    return {
        "classes": classes,
        "palette": voc_palette()[: len(classes)].tolist(),
        "input": "image: float32 (1, 3, height, width), RGB, 0 to 255; the network normalizes it itself",
        "output": "probabilities: float32 (1, classes, height, width); the argmax over classes is the label",
        "normalization": {
            "mean": segmentor.backbone.mean.flatten().tolist(),
            "std": segmentor.backbone.std.flatten().tolist(),
            "inside": True,
        },
        "resize": resize
        | {"note": "before use, bring a picture whose long side exceeds this one to it; then enlarge by the scale"},
        "training": {key: value for key, value in meta.items() if key != "classes"},
        "license": "Code: MIT. Weights: learned from your images, starting from the backbone's ImageNet weights, whose "
        "license applies; EfficientNet-Lite0: Apache-2.0, torchvision's ResNet: BSD-3-Clause.",
    }


def same_labels(path: Path, segmentor: Segmentor, images: Sequence[np.ndarray]) -> float:
    """Share of pixels of images uint8 (H, W, 3) with the same label from ONNX Runtime and PyTorch.

    Raises UserError if the package onnxruntime is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError("the export needs onnx and onnxruntime: pip install 'cpal[export]', or make setup") from None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    network = OneScale(segmentor).cpu().eval()
    equal = pixels = 0
    for image in images:
        pixel = torch.from_numpy(image).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            ours = network(pixel).argmax(dim=1).numpy()
        theirs = session.run(["probabilities"], {"image": pixel.numpy()})[0].argmax(axis=1)
        equal, pixels = equal + int((ours == theirs).sum()), pixels + ours.size
    return equal / pixels
