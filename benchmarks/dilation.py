"""A training pass through a dilated backbone, against the same pass with PyTorch's own dilated convolutions."""

from functools import partial

from benchmarks.inputs import LITE0
from benchmarks.measure import Comparison, Pair, Target

NETWORKS = {LITE0: ("Lite0", 16), "tf_efficientnet_lite2": ("Lite2", 8)}  # name and batch
SIDE = 224


def passes(backbone: str, batch: int) -> Pair:
    """Forward and backward pass on a fixed batch; both sides must give the same maps."""
    import torch
    from torch import Tensor, nn

    from cpal.networks.backbones import build_backbone
    from cpal.networks.dilated import DilatedDepthwise

    ours, plain = (build_backbone(backbone, weights="bundled", output_stride=16).train() for _ in range(2))
    for module in plain.modules():
        if isinstance(module, DilatedDepthwise):
            module.forward = partial(nn.Conv2d.forward, module)  # type: ignore[method-assign]
    images = torch.randint(0, 256, (batch, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0))

    def run(network: nn.Module) -> Tensor:
        network.zero_grad()
        maps = network(images)[-1]
        maps.square().mean().backward()
        return maps.detach()

    def agree(found: Tensor, expected: Tensor) -> str:
        assert torch.equal(found, expected)
        return "maps equal"

    return Pair(partial(run, ours), partial(run, plain), agree)


def rows() -> list[Comparison]:
    other, target = "the same with PyTorch's own dilated convolutions", Target("at least", 1.2)
    return [
        Comparison(
            f"dilation-{short.lower()}",
            f"training pass of {short} at {SIDE}, batch {batch}, output stride 16",
            *(other, target, partial(passes, backbone, batch)),
        )
        for backbone, (short, batch) in NETWORKS.items()
    ]
