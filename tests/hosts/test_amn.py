"""AMN's label conditioning and balanced loss, and the first round's labels that it learns from."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from cpal.data.dataset import Dataset
from cpal.data.images import read_image
from cpal.data.masks import VOID
from cpal.errors import UserError
from cpal.hosts.amn import AmnHost, balanced_loss
from cpal.hosts.build import build_host
from cpal.maps.cams import CamFile
from cpal.maps.crf import sure_seed_labels
from cpal.settings.config import Config
from cpal.settings.hosts import AmnConfig, HostSection

Settings = Callable[..., Config]
LABELS = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
SMALL = {"host": "amn", "hosts.amn.backbone": "mobilenetv3_small_050", "hosts.amn.weights": "none"}


@pytest.fixture
def host(settings: Settings) -> AmnHost:
    built = build_host(settings(**SMALL).chosen_host, ["red", "green", "blue"])
    assert isinstance(built, AmnHost)
    return built


def pictures(seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (2, 3, 48, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_balanced_loss_against_a_loop() -> None:
    logits, smoothing = torch.randn(2, 4, 3, 5), 0.4
    label = torch.randint(0, 4, (2, 3, 5))
    label[0, 0], label[1, 2, 1] = 0, VOID
    sums: dict[str, list[Tensor]] = {"background": [], "foreground": []}
    for b in range(2):
        for y in range(3):
            for x in range(5):
                if label[b, y, x] == VOID:
                    continue
                probability = logits[b, :, y, x].exp() / logits[b, :, y, x].exp().sum()
                target = [smoothing / 3] * 4
                target[label[b, y, x]] = 1 - smoothing
                loss = -sum(t * p.log() for t, p in zip(target, probability, strict=True))
                sums["background" if label[b, y, x] == 0 else "foreground"].append(loss)
    expected = sum(torch.stack(losses).mean() for losses in sums.values()) / 2
    torch.testing.assert_close(balanced_loss(logits, label, smoothing), expected)


@pytest.mark.parametrize("label", [0, 2, VOID])
def test_balanced_loss_of_one_kind_of_pixel_is_finite(label: int) -> None:
    logits = torch.randn(1, 4, 3, 3, requires_grad=True)
    loss = balanced_loss(logits, torch.full((1, 3, 3), label), 0.4)
    loss.backward()
    assert torch.isfinite(loss) and logits.grad is not None and torch.isfinite(logits.grad).all()
    assert (loss == 0) == (label == VOID)


def test_cam_is_a_probability_among_background_and_the_labels(host: AmnHost) -> None:
    with torch.no_grad():
        output = host.eval()(pictures(), LABELS)
        logits = host.pixel_logits(output.features[-1], LABELS)
    assert output.cam.shape == (2, 3, 3, 4) and output.logits.shape == (2, 3)
    assert (output.cam[0, 1:] == 0).all() and (output.cam[1, 0] == 0).all()
    torch.testing.assert_close(output.cam[0, 0], (logits[0, 1] - logits[0, 0]).sigmoid())
    both = logits[1, [0, 2, 3]].softmax(dim=0)
    torch.testing.assert_close(output.cam[1, 1:], both[1:])


def test_labels_condition_every_pixel(host: AmnHost) -> None:
    with torch.no_grad():
        last = host.eval().backbone(pictures())[-1]
        first, second = (host.pixel_logits(last, labels) for labels in (LABELS, LABELS.flip(0)))
        silent = host.pixel_logits(torch.zeros_like(last), LABELS)
    assert not torch.allclose(first, second)
    bias = torch.stack([branch.get_parameter("bias") for branch in host.branches]).sum(0)
    torch.testing.assert_close(silent, bias[None, :, None, None].expand_as(silent))


def test_overfits_four_colors(host: AmnHost) -> None:
    """Flat pictures whose left half is a class: the loss reaches the least that smoothing allows."""
    colors = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200]])
    images = torch.full((3, 3, 64, 64), 90)
    images[:, :, :, :32] = colors[:, :, None, None]
    masks = torch.zeros(3, 64, 64, dtype=torch.long)
    masks[:, :, :32] = torch.arange(1, 4)[:, None, None]
    labels = torch.eye(3)
    optimizer = torch.optim.Adam(host.train().parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        _, named = host.training_step(images, labels, masks)
        loss = sum(named.values(), torch.zeros(()))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
    target = torch.tensor([0.6, *[0.4 / 3] * 3])
    least = float(-(target * target.log()).sum())
    assert least - 1e-4 < losses[-1] < least + 0.35 * (losses[0] - least)
    assert (host.eval()(images, labels).cam[range(3), range(3)][:, :, 0] > 0.5).all()


def test_only_the_chosen_hosts_own_section_counts(settings: Settings) -> None:
    amn = settings(host="amn").chosen_host
    changed = settings(**{"host": "amn", "hosts.amn.learning_rate": 0.123, "hosts.irn.batch_size": 3}).chosen_host
    assert isinstance(changed, AmnConfig) and (changed.learning_rate, changed.optimizer) == (0.123, "adam")
    assert changed == amn.model_copy(update={"learning_rate": 0.123}) != amn
    irn = settings().chosen_host
    assert irn.name == "irn" and irn == settings().hosts.irn
    assert irn == settings(**{"hosts.amn.dropout": 0.9}).chosen_host


def test_a_host_that_cannot_be_built_is_named() -> None:
    class Other(HostSection):
        name = "other"

    with pytest.raises(UserError, match=r"hosts\.other: cpal/hosts/build\.py builds no such host"):
        build_host(Other.model_construct(), ["red"])


def test_a_sure_background_above_the_foreground_is_refused(settings: Settings) -> None:
    with pytest.raises(UserError, match=r"hosts\.amn: sure_background 0\.5 exceeds sure_foreground 0\.45"):
        settings(**{"hosts.amn.sure_background": 0.5})


def test_sure_labels_are_void_between_the_thresholds(settings: Settings, tiny_dataset: Dataset) -> None:
    found = {}
    for record in tiny_dataset.split("train"):
        if record.image_id not in ("a", "empty"):
            continue
        shape = [(side - 1) // 4 + 1 for side in (record.height, record.width)]
        ramp = np.linspace(0, 1, shape[1]) * np.ones(shape)
        cam = np.repeat(ramp[None], len(record.labels), axis=0)
        content = CamFile(np.array(record.labels, np.int64), {"cam": cam}, record.size)
        image = read_image(tiny_dataset.image_path(record))
        crf = settings(**{"crf.iterations": 0}).crf
        found[record.image_id] = sure_seed_labels(image, content, "cam", (0.25, 0.75), crf)
        assert found[record.image_id].shape == (record.height, record.width)
    quarters = found["a"][:, [2, found["a"].shape[1] // 2, -2]]
    assert (quarters[:, 0] == 0).all() and (quarters[:, 1] == VOID).all() and (quarters[:, 2] == 1).all()
    assert (found["empty"] == 0).all()
