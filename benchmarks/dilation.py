"""A training pass through a dilated backbone, against the same pass with PyTorch's own dilated convolutions."""

from functools import partial

from benchmarks.inputs import LITE0
from benchmarks.measure import Comparison, Pair, Target

NETWORKS = {LITE0: ("Lite0", 16), "tf_efficientnet_lite2": ("Lite2", 8)}  # name and batch
SIDE = 224


def passes(backbone: str, batch: int) -> Pair:
    """Forward and backward pass on a fixed batch; both sides must give the same maps."""
    import timm
    import torch
    from torch import Tensor, nn

    from cpal.networks.backbones import build_backbone

    ours = build_backbone(backbone, weights="bundled", output_stride=16).eval().body  # as with frozen batch norm
    plain = timm.create_model(backbone, features_only=True, output_stride=16, out_indices=(-4, -3, -2, -1)).eval()
    plain.load_state_dict(ours.state_dict())
    plain.to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)

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
