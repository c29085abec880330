"""Maps of one image against the network's bare passes, and PACAM against a cosine map for each neighbour."""

from functools import partial

from benchmarks.inputs import LITE0, SCALES, VOC_SIZE, classifier, image_labels, image_pyramid, no_grad
from benchmarks.measure import Comparison, Pair, Target


def maps(backbone: str, long_side: int, scales: tuple[float, ...], classes: int) -> Pair:
    """CAM, PACAM and taught CAM of one image with two classes, against the forward passes over the same views.

    The CAM must be the one that the bare passes give.
    """
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from cpal.maps.cams import CamFile, map_size
    from cpal.method.make_cams import localize

    trained = classifier(backbone, classes)
    views = image_pyramid(long_side, scales)
    label = image_labels(2, classes)[1:]
    names = label[0].nonzero()[:, 0]

    def bare() -> list[Tensor]:
        return [trained.host(view, label.expand(len(view), -1)).cam for view in views]

    def agree(found: CamFile, raw: list[Tensor]) -> str:
        total = torch.zeros(len(names), *map_size(VOC_SIZE))
        for straight, mirrored in raw:
            mean = F.relu((straight + mirrored.flip(-1)) / 2)[names]
            total += F.interpolate(mean[None], size=total.shape[1:], mode="bilinear", align_corners=False)[0]
        expected = total / (total.amax(dim=(1, 2), keepdim=True) + 1e-5 * len(scales))
        difference = float((torch.from_numpy(found.maps["cam"]) - expected).abs().max())
        assert difference < 1e-4, f"CAM differs by {difference:.1e}"
        assert set(found.maps) == {"cam", "pacam", "taught"}
        return f"CAM within {difference:.0e}"

    return Pair(lambda: localize(trained, label, VOC_SIZE, views), no_grad(bare), agree)


def pacam(side: int, channels: int, classes: int, neighbours: int, prototypes: int) -> Pair:
    """PACAM of one image (Eq. 13), folded into one product, against `F.cosine_similarity` for each neighbour."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from cpal.method.prototypes import Context, prototype_aware_cam

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, channels, side, side, generator=generator)
    context = torch.randn(classes + 1, prototypes, channels, generator=generator)
    order = torch.rand(1, classes + 1, prototypes, generator=generator).argsort(dim=-1)
    index, weight = order[..., :neighbours], torch.rand(1, classes + 1, neighbours, generator=generator)

    def each() -> Tensor:
        found = torch.zeros(1, classes + 1, side, side)
        for k in range(classes + 1):
            total = torch.zeros(1, side, side)
            for t in range(neighbours):
                prototype = context[k, index[0, k, t]][None, :, None, None]
                total += weight[0, k, t] * F.cosine_similarity(features, prototype, dim=1)
            found[:, k] = F.relu(total / weight[0, k].sum())
        return found

    def agree(found: Tensor, expected: Tensor) -> str:
        difference = float((found - expected).abs().max())
        assert difference < 1e-5, f"maps differ by {difference:.1e}"
        return f"within {difference:.0e}"

    filled = torch.ones(context.shape[:2], dtype=torch.bool)

    def work() -> Tensor:
        unit, known = F.normalize(features, dim=1), Context.of(context, filled)
        return prototype_aware_cam(unit, known, index, weight, weighting="mean")

    return Pair(no_grad(work), no_grad(each), agree)


def rows() -> list[Comparison]:
    what, other = "CAM, PACAM and taught CAM of one image, 4 scales and mirror images", "bare forward passes"
    neighbours = "PACAM of one image, 16 x 16, 20 neighbours, 20 classes and background"
    target = Target("at most", 1.05)
    return [
        Comparison(
            "maps-lite0", f"{what}, Lite0 at 320, 20 classes", other, target, partial(maps, LITE0, 320, SCALES, 20)
        ),
        Comparison(
            *("maps-resnet50", f"{what}, ResNet-50 at 320, 20 classes", other, target),
            partial(maps, "resnet50", 320, SCALES, 20),
            slow=True,
        ),
        *(
            Comparison(
                *(f"pacam-{channels}", f"{neighbours}, {channels} channels", "one cosine map for each neighbour"),
                *(Target("at least", 20), partial(pacam, 16, channels, 20, 20, 50)),
            )
            for channels in (432, 3072)
        ),
    ]
