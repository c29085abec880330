"""IRN's network and loss: against loops over pairs, on drawn labels, and through its file."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from test_random_walk import dense

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
from cpal.data.dataset import Dataset, read_image
from cpal.data.masks import VOID
from cpal.errors import UserError
from cpal.maps.cams import map_size
from cpal.networks.weights import save_weights
from cpal.settings.config import AffinityConfig, Config

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
    edge, displacement = torch.rand(2, *size), torch.randn(2, 2, *size)
    label = torch.tensor([0, 1, 2, VOID])[torch.randint(0, 4, (2, *size))]
    found = pair_losses(edge, displacement, label, radius)
    values: dict[str, list[float]] = {name: [] for name in ("background", "foreground", "different", "still", "moved")}
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
                        moved = displacement[b, :, y, x] - displacement[b, :, y + dy, x + dx]
                        if a != c:
                            values["different"].append(-math.log(1 + EPSILON - affinity))
                        elif a == 0:
                            values["background"].append(-math.log(affinity + EPSILON))
                            values["still"].append(float(moved.abs().mean()))
                        else:
                            values["foreground"].append(-math.log(affinity + EPSILON))
                            values["moved"].append(float((moved - torch.tensor([dy, dx])).abs().mean()))
    mean = {name: sum(items) / len(items) for name, items in values.items()}
    assert found["loss_alike"].item() == pytest.approx((mean["background"] + mean["foreground"]) / 4, rel=1e-4)
    assert found["loss_apart"].item() == pytest.approx(mean["different"] / 2, rel=1e-4)
    assert found["loss_displacement"].item() == pytest.approx((mean["still"] + mean["moved"]) / 2, rel=1e-4)


def test_nothing_sure_costs_nothing() -> None:
    edge = torch.rand(1, 9, 9, requires_grad=True)
    losses = pair_losses(edge, torch.randn(1, 2, 9, 9), torch.full((1, 9, 9), VOID), 3)
    sum(losses.values()).backward()
    assert all(loss == 0 for loss in losses.values()) and (edge.grad == 0).all()


def test_weak_edges_keep_their_loss_in_mixed_precision(small: AffinityConfig) -> None:
    """In bfloat16 an affinity of 0.999 is 1, and its gradient a hundred times too large."""

    found = []
    mask = torch.zeros(1, 32, 32, dtype=torch.long)
    mask[..., 16:] = 1
    for kind in (torch.float32, torch.bfloat16):
        output = torch.full((1, 8, 8), -7.0, dtype=kind), torch.zeros(1, 2, 8, 8, dtype=kind)
        losses = AffinityLoss(lambda _, output=output: output, 4)(
            torch.zeros(1, 3, 32, 32), torch.ones(1, 1), mask, mask > 1
        )
        found.append(losses["loss_apart"])
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("cells", [5, 6])
def test_a_crop_smaller_than_the_radius_is_refused(cells: int) -> None:
    """With a radius of 4 six cells would learn nothing without a word, and fewer would not fit together."""
    output = torch.zeros(1, cells, cells), torch.zeros(1, 2, cells, cells)
    mask = torch.zeros(1, 4 * cells, 4 * cells, dtype=torch.long)
    with pytest.raises(UserError, match=r"affinity\.radius: 4: .* more than 6 cells"):
        AffinityLoss(lambda _: output, 4)(mask[:, None].float(), torch.ones(1, 1), mask, mask > 1)


def test_an_edge_between_labels_is_the_optimum() -> None:
    label = torch.zeros(1, 12, 12)
    label[:, :, 6:] = 1
    flat, wall = torch.full((1, 12, 12), 0.1), torch.full((1, 12, 12), 0.1)
    wall[:, :, 5:7] = 0.9
    losses = [pair_losses(edge, torch.zeros(1, 2, 12, 12), label, 4) for edge in (flat, wall)]
    assert losses[1]["loss_apart"] < 0.2 * losses[0]["loss_apart"]


@pytest.mark.parametrize("size", [(64, 64), (37, 50), (1, 40), (130, 70)])
def test_edges_of_any_size(small: AffinityConfig, size: tuple[int, int]) -> None:
    network = build_affinity_net(small).eval()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    cells = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    found = edges(network, image, cells)
    assert found.shape == cells and 0 <= found.min() and found.max() <= 1
    torch.testing.assert_close(edges(network, image.flip(-1), cells), found.flip(-1), atol=1e-5, rtol=1e-4)


def test_the_backbone_learns_nothing(small: AffinityConfig) -> None:
    network = build_affinity_net(small).train()
    assert not network.backbone.training
    assert not any(p.requires_grad for p in network.backbone.parameters())
    edge, displacement = network(torch.rand(2, 3, 64, 64) * 255)
    assert edge.shape == (2, 16, 16) and displacement.shape == (2, 2, 16, 16)
    (edge.sum() + displacement.sum()).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    slow = {id(p) for module in network.displacement_branch() for p in module.parameters()}
    named = {name.split(".")[0] for name, p in network.named_parameters() if p.requires_grad and id(p) not in slow}
    assert named == {"edges", "edge"}


def test_mean_shift_is_of_inference_only(small: AffinityConfig) -> None:
    network = build_affinity_net(small)
    network.mean_displacement.copy_(torch.tensor([3.0, -2.0]))
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        free, shifted = network.train()(image)[1], network.eval()(image)[1]
    torch.testing.assert_close(free - shifted, torch.tensor([3.0, -2.0])[None, :, None, None].expand_as(free))


def test_training_takes_the_mean_displacement_off_and_survives_its_file(
    small: AffinityConfig, tiny_dataset: Dataset, masks: Path, tmp_path: Path
) -> None:
    network = train_affinity(
        tiny_dataset, masks, small, seed=0, folder=tmp_path, device=torch.device("cpu"), workers=0
    ).eval()
    assert isinstance(network, AffinityNet) and network.mean_displacement.abs().sum() > 0
    save_weights(tmp_path / "net.safetensors", {"network": network}, weights_meta(small))
    loaded = load_affinity_net(tmp_path / "net.safetensors", small, device=torch.device("cpu"))
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        for a, b in zip(network(image), loaded(image), strict=True):
            assert torch.equal(a, b)


def test_walk_on_trained_edges_is_the_dense_matrix(
    small: AffinityConfig, tiny_dataset: Dataset, masks: Path, tmp_path: Path
) -> None:
    longer = small.model_copy(update={"epochs": 30, "learning_rate": 0.1})
    network = train_affinity(
        tiny_dataset, masks, longer, seed=0, folder=tmp_path, device=torch.device("cpu"), workers=0
    ).eval()
    record = tiny_dataset.split("train")[2]
    image = read_image(tiny_dataset.image_path(record))
    edge = edges(network, torch.from_numpy(image).permute(2, 0, 1), map_size(image.shape[:2]))
    assert edge.max() - edge.min() > 0.2, "it has learned something"
    maps = torch.rand(3, *edge.shape)
    expected = dense(maps.double().numpy(), edge.double().numpy(), 5, beta=10, doublings=8)
    found = spread(maps, edge, radius=5, beta=10, steps=256).numpy()
    assert abs(found / expected - 1).max() < 1e-4
    assert (found.argmax(0) == expected.argmax(0)).all()
