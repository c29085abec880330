"""IRN's network and loss: against loops over pairs, on drawn labels, and through its file."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_random_walk import dense
from torch import Tensor, nn

from cpal.affinity.network import (
    EPSILON,
    AffinityLoss,
    AffinityNet,
    build_affinity_net,
    edges,
    load_affinity_net,
    pair_losses,
    train_affinity,
    weights_meta,
)
from cpal.affinity.random_walk import line, spread
from cpal.data.dataset import Dataset
from cpal.data.images import read_image
from cpal.data.masks import VOID, LabelMaps
from cpal.errors import UserError
from cpal.maps.cams import map_size
from cpal.networks.weights import save_weights
from cpal.settings.config import AffinityConfig, Config
from cpal.training.loop import Run

SMALL = {
    "affinity.backbone": "mobilenetv3_small_050",
    "affinity.weights": "none",
    "affinity.crop_size": 64,
    "affinity.batch_size": 2,
    "affinity.radius": 4,
}


@pytest.fixture
def small(settings: Callable[..., Config]) -> AffinityConfig:
    return settings(**SMALL).affinity


@pytest.fixture
def masks(tiny_dataset: Dataset, tmp_path: Path) -> Path:
    """The ground truth as the labels to learn from."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for record in tiny_dataset.split("train"):
        (folder / f"{record.image_id}.png").write_bytes(tiny_dataset.mask_path(record).read_bytes())
    return folder


def test_losses_against_a_loop_over_pairs() -> None:
    radius, size = 4, (7, 10)
    edge = torch.rand(2, *size)
    label = torch.tensor([0, 1, 2, VOID])[torch.randint(0, 4, (2, *size))]
    found = pair_losses(edge, label, radius)
    assert set(found) == {"loss_alike", "loss_apart"}
    values: dict[str, list[float]] = {name: [] for name in ("background", "foreground", "different")}
    reach = radius - 1
    for b in range(2):
        for y in range(size[0] - reach):
            for x in range(reach, size[1] - reach):
                for dy in range(radius):
                    for dx in range(-reach, radius):
                        if math.hypot(dy, dx) >= radius or (dy, dx) <= (0, 0):
                            continue
                        a, c = int(label[b, y, x]), int(label[b, y + dy, x + dx])
                        if VOID in (a, c):
                            continue
                        affinity = 1 - max(float(edge[b, y + v, x + u]) for v, u in line((dy, dx)))
                        if a != c:
                            values["different"].append(-math.log(1 + EPSILON - affinity))
                        elif a == 0:
                            values["background"].append(-math.log(affinity + EPSILON))
                        else:
                            values["foreground"].append(-math.log(affinity + EPSILON))
    mean = {name: sum(items) / len(items) for name, items in values.items()}
    assert found["loss_alike"].item() == pytest.approx((mean["background"] + mean["foreground"]) / 4, rel=1e-4)
    assert found["loss_apart"].item() == pytest.approx(mean["different"] / 2, rel=1e-4)


def test_nothing_sure_costs_nothing() -> None:
    edge = torch.rand(1, 9, 9, requires_grad=True)
    losses = pair_losses(edge, torch.full((1, 9, 9), VOID), 3)
    sum(losses.values(), torch.zeros(())).backward()
    assert all(loss == 0 for loss in losses.values()) and edge.grad is not None and (edge.grad == 0).all()


class Says(AffinityNet):
    """Gives these edge logits of any image."""

    def __init__(self, output: Tensor) -> None:
        nn.Module.__init__(self)
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        return self.output


def test_weak_edges_keep_their_loss_in_mixed_precision(small: AffinityConfig) -> None:
    """In bfloat16 an affinity of 0.999 is 1, and its gradient a hundred times too large."""

    found = []
    mask = torch.zeros(1, 32, 32, dtype=torch.long)
    mask[..., 16:] = 1
    for kind in (torch.float32, torch.bfloat16):
        output = torch.full((1, 8, 8), -7.0, dtype=kind)
        losses = AffinityLoss(Says(output), 4)(torch.zeros(1, 3, 32, 32), torch.ones(1, 1), mask, mask > 1)
        found.append(losses["loss_apart"])
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("cells", [5, 6])
def test_a_crop_smaller_than_the_radius_is_refused(cells: int) -> None:
    """With a radius of 4 six cells would learn nothing without a word, and fewer would not fit together."""
    output = torch.zeros(1, cells, cells)
    mask = torch.zeros(1, 4 * cells, 4 * cells, dtype=torch.long)
    with pytest.raises(UserError, match=r"affinity\.radius: 4: .* more than 6 cells"):
        AffinityLoss(Says(output), 4)(mask[:, None].float(), torch.ones(1, 1), mask, mask > 1)


def test_an_edge_between_labels_is_the_optimum() -> None:
    label = torch.zeros(1, 12, 12)
    label[:, :, 6:] = 1
    flat, wall = torch.full((1, 12, 12), 0.1), torch.full((1, 12, 12), 0.1)
    wall[:, :, 5:7] = 0.9
    losses = [pair_losses(edge, label, 4) for edge in (flat, wall)]
    assert losses[1]["loss_apart"] < 0.2 * losses[0]["loss_apart"]


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (1, 40), (130, 70)])
def test_edges_of_any_size(small: AffinityConfig, size: tuple[int, int]) -> None:
    network = build_affinity_net(small).eval()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    cells = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    found = edges(network, image, cells)
    assert tuple(found.shape) == cells and 0 <= found.min() and found.max() <= 1
    torch.testing.assert_close(edges(network, image.flip(-1), cells), found.flip(-1), atol=1e-5, rtol=1e-4)


def test_the_backbone_learns_nothing(small: AffinityConfig) -> None:
    network = build_affinity_net(small).train()
    assert not network.backbone.training
    assert not any(p.requires_grad for p in network.backbone.parameters())
    edge = network(torch.rand(2, 3, 64, 64) * 255)
    assert edge.shape == (2, 16, 16)
    edge.sum().backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    named = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert named == {"edges", "edge"}


def trained(dataset: Dataset, masks: Path, settings: AffinityConfig, folder: Path) -> AffinityNet:
    run = Run(0, folder, torch.device("cpu"), workers=0)
    return train_affinity(dataset, dataset.split("train"), LabelMaps(masks, "any"), settings, run).eval()


def test_training_survives_its_file(small: AffinityConfig, tiny_dataset: Dataset, masks: Path, tmp_path: Path) -> None:
    network = trained(tiny_dataset, masks, small, tmp_path)
    torch.manual_seed(0)
    fresh = build_affinity_net(small)
    assert isinstance(network, AffinityNet) and not torch.equal(network.edge.weight, fresh.edge.weight)
    for key, value in fresh.backbone.state_dict().items():
        assert torch.equal(network.backbone.state_dict()[key], value), key
    save_weights(tmp_path / "net.safetensors", {"network": network}, weights_meta(small))
    loaded = load_affinity_net(tmp_path / "net.safetensors", small, device=torch.device("cpu"))
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        torch.testing.assert_close(network(image), loaded(image), atol=1e-4, rtol=1e-4)  # its batch norm is folded


def test_walk_on_trained_edges_is_the_dense_matrix(
    small: AffinityConfig, tiny_dataset: Dataset, masks: Path, tmp_path: Path
) -> None:
    longer = small.model_copy(update={"epochs": 30, "learning_rate": 0.1})
    network = trained(tiny_dataset, masks, longer, tmp_path)
    record = tiny_dataset.split("train")[2]
    image = read_image(tiny_dataset.image_path(record))
    edge = edges(network, torch.from_numpy(image).permute(2, 0, 1), map_size(image.shape[:2]))
    assert edge.max() - edge.min() > 0.2, "it has learned something"
    maps = torch.rand(3, *edge.shape)
    expected = dense(maps.double().numpy(), edge.double().numpy(), 5, beta=10, doublings=8)
    found = spread(maps, edge, radius=5, beta=10, steps=256).numpy()
    assert abs(found / expected - 1).max() < 1e-4
    assert (found.argmax(0) == expected.argmax(0)).all()
