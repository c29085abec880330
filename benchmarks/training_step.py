"""A training step of the classifier with CPAL against the same step with the classification loss only."""

import importlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from benchmarks.inputs import LITE0, image_labels, irn_host, random_prototypes
from benchmarks.measure import Comparison, Figure, Pair, Target

NETWORKS = {LITE0: (224, 16), "resnet50": (321, 4)}  # crop and batch
CLASSES = (6, 20)
ROUNDS = 11  # a step's time varies by a tenth on a shared machine, and its target is 1.05


def step(backbone: str, side: int, batch: int, classes: int, *, with_cpal: bool) -> Callable[[], float]:
    """One step of forward, backward and optimiser on a fixed batch; returns the classification loss.

    The learning rate is 0, so that every step does the same.
    """
    import torch

    from cpal.method.learner import build_learner
    from cpal.method.train_cam import CpalLoss
    from cpal.settings.cpal import CpalSettings

    host = irn_host(backbone, classes)
    settings = CpalSettings.preset("default", self_weight=1.0)  # else there is no learner in the training
    learner = build_learner(host, classes, settings, seed=0) if with_cpal else None
    if learner is not None:
        random_prototypes(learner)
    loss = CpalLoss(host, learner, settings).train()
    loss.warm.fill_(True)
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.0, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, generator=generator)
    mask = torch.zeros(batch, side, side, dtype=torch.long)
    padding = torch.zeros(batch, side, side, dtype=torch.bool)
    padding[:, :, -side // 8 :] = True
    label = image_labels(batch, classes)

    def run() -> float:
        losses = loss(image, label, mask, padding)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        return float(losses["loss_classification"].detach())

    return run


def pair(backbone: str, side: int, batch: int, classes: int) -> Pair:
    """Both steps on the same network and batch; they must have the same classification loss."""
    work, reference = (step(backbone, side, batch, classes, with_cpal=with_cpal) for with_cpal in (True, False))

    def agree(found: float, expected: float) -> str:
        assert found == expected, f"classification loss {found}, not {expected}"
        return "classification loss equal"

    return Pair(work, reference, agree)


def peak_memory(backbone: str, side: int, batch: int, classes: int, with_cpal: bool) -> float:
    """Peak resident memory in MB of a process that takes two steps, less what it holds after its imports."""
    import torch

    for module in ("cpal.method.train_cam", "cpal.networks.backbones"):  # what the steps import, measured apart
        importlib.import_module(module)
    torch.set_num_threads(1)
    before = peak_resident()
    run = step(backbone, side, batch, classes, with_cpal=with_cpal)
    run(), run()
    return peak_resident() - before


def peak_resident() -> float:
    """Peak resident memory of this process in MB. Linux only: getrusage counts the parent's memory at the start too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def memory_ratio(backbone: str, side: int, batch: int, classes: int) -> tuple[float, str]:
    """Peak memory with CPAL over that without, each in a fresh process."""
    peaks = []
    for with_cpal in (True, False):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks.append(pool.submit(peak_memory, backbone, side, batch, classes, with_cpal).result())
    return peaks[0] / peaks[1], f"{peaks[0]:.0f} MB / {peaks[1]:.0f} MB"


def rows() -> list[Comparison | Figure]:
    found: list[Comparison | Figure] = []
    for backbone, (side, batch) in NETWORKS.items():
        short, slow = {LITE0: "Lite0", "resnet50": "ResNet-50"}[backbone], backbone != LITE0
        for classes in CLASSES:
            name, sizes = (
                f"step-{backbone.removeprefix('tf_efficientnet_')}-{classes}",
                (backbone, side, batch, classes),
            )
            what = f"CPAL training step, {short} at {side}, batch {batch}, {classes} classes"
            other = "the same step, classification loss only"
            make, target = partial(pair, *sizes), Target("at most", 1.05)
            found.append(Comparison(name, what, other, target, make, slow=slow, rounds=ROUNDS))
            how, once = "peak resident memory above the imports, a fresh process each", partial(memory_ratio, *sizes)
            limit = Target("at most", 1.10)
            found.append(Figure(f"{name}-memory", f"memory of: {what}", other, limit, "x", once, how, slow))
    return found
