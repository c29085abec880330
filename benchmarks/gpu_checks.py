"""Whether a device computes what the CPU computes, and what lower precision changes."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from cpal.method.classifier import Classifier


class Check(NamedTuple):
    """`difference` is the largest one, in the unit of the values. Without a tolerance it is shown only."""

    what: str
    difference: float
    tolerance: float | None

    @property
    def passed(self) -> bool:
        return self.tolerance is None or self.difference <= self.tolerance


def gap(found: Tensor, expected: Tensor) -> float:
    """Largest difference, by the largest expected value where that is above 1."""
    return float(
        (found.detach().cpu().double() - expected.double()).abs().max() / max(1.0, float(expected.abs().max()))
    )


def on_both(call: Callable[[torch.device], Any], device: torch.device) -> tuple[Any, Any]:
    """What the call gives on the device and on the CPU."""
    return call(device), call(torch.device("cpu"))


def functions(device: torch.device) -> Iterator[Check]:
    """The paper's functions, the taught CAM and the random walk; they need PyTorch only."""
    from cpal.affinity.random_walk import spread
    from cpal.method import prototypes as P
    from cpal.method.taught_cam import TaughtCam

    draw = torch.Generator().manual_seed(0)
    middle = torch.randn(4, 6, 32, generator=draw)
    bank = middle.repeat_interleave(20, dim=1) + 0.2 * torch.randn(4, 120, 32, generator=draw)
    z, maps = torch.randn(2, 32, 24, 24, generator=draw), torch.rand(2, 4, 24, 24, generator=draw)
    edge = torch.rand(40, 50, generator=draw) ** 3

    def method(where: torch.device) -> list[Tensor]:
        mask = P.prototype_masks(maps.to(where), threshold=0.5, background_threshold=0.6, exclusive=True)
        instance, _ = P.instance_prototypes(z.to(where), mask)
        filled, seeds = torch.ones(4, 120, dtype=torch.bool, device=where), torch.Generator().manual_seed(0)
        fitted = P.context_prototypes(bank.to(where), filled, num_prototypes=6, iterations=20, generator=seeds)
        context, unit = P.Context.of(*fitted), F.normalize(z.to(where), dim=1)
        weight = P.positiveness(instance, context, metric="cosine", temperature=0.3)
        index, weight = P.soft_neighbors(instance, context, weight, topk=3, rank_by="weighted")
        pacam = P.contrast(P.prototype_aware_cam(unit, context, index, weight, weighting="mean"), "ratio")
        loss = P.self_supervised_loss(maps.to(where), pacam, torch.ones(2, 1, 24, 24, device=where))
        taught = TaughtCam(4, 32).to(where)
        cells, labels = bank.flatten(0, 1).to(where), torch.arange(4, device=where).repeat_interleave(120)
        taught.learn(cells, labels, decay=torch.full((4,), 0.1, device=where))
        learned = taught(z.to(where), torch.ones(2, 3, device=where))
        walked = spread(
            maps[0, :, :, :].repeat(1, 2, 3)[:, :40, :50].to(where), edge.to(where), radius=5, beta=10, steps=64
        )
        return [mask, instance, fitted[0], pacam, loss, learned, walked]

    names = (
        "masks",
        "instance prototypes",
        "context prototypes",
        "PACAM",
        "L_Self",
        "taught CAM, learned",
        "random walk",
    )
    limits = (0, 1e-5, 1e-4, 1e-4, 1e-5, 1e-2, 1e-5)
    for name, limit, found, expected in zip(names, limits, *on_both(method, device), strict=True):
        yield Check(f"function: {name}", gap(found, expected), limit)


def network(trained: "Classifier", device: torch.device, side: int, scales: tuple[float, ...]) -> Iterator[Check]:
    """The classifier's losses, maps, masks and prototypes of one image; then its maps with --amp bf16."""
    import copy

    from cpal.data.views import image_views
    from cpal.method.classifier import Classifier
    from cpal.method.make_cams import localize
    from stages.job.half import compute_in_half

    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, side * 3 // 4, side), dtype=torch.uint8, generator=draw)
    views, count = image_views(image, scales, flip=True, long_side=None), trained.num_foreground
    label = torch.zeros(1, count)
    label[0, [0, count - 1]] = 1

    def moved(where: torch.device, half: bool) -> Classifier:
        host, learner, taught = copy.deepcopy((trained.host, trained.learner, trained.taught))
        assert learner is not None and taught is not None
        if half:
            compute_in_half(host, torch.bfloat16, where)
        return Classifier(host.to(where), count, learner.to(where), taught.to(where))

    def look(where: torch.device, half: bool = False) -> dict[str, Tensor]:
        found, own = moved(where, half), label.to(where)
        content = localize(found, own, (image.shape[1], image.shape[2]), views)
        features, cam, logits = found.look(views[0], own)
        assert found.learner is not None
        step = found.learner.instances(features, cam, own, refinements=0)
        loss = torch.nn.functional.multilabel_soft_margin_loss(logits, own)
        maps = {name: torch.from_numpy(map_) for name, map_ in content.maps.items()}
        return {"loss": loss, "share of mask cells": step.mask, "prototypes": step.prototypes, **maps}

    limits = {
        "loss": 1e-4,
        "share of mask cells": 0.002,
        "prototypes": 5e-3,
        "cam": 2e-3,
        "pacam": 1e-2,
        "taught": 1e-2,
    }
    with torch.no_grad():
        found, expected = on_both(look, device)
        for name, limit in limits.items():
            share = name.startswith("share")
            unequal = float((found[name].cpu() != expected[name]).float().mean()) if share else 0.0
            yield Check(f"network: {name}", unequal if share else gap(found[name], expected[name]), limit)
        lower = look(device, half=True)
        for name in ("cam", "pacam", "taught"):
            yield Check(f"network in bf16: {name}", gap(lower[name].float(), expected[name]), None)
