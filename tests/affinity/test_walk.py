"""What walks, what comes of it, and the file in between."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cpal.affinity.walk import start_maps, walk_maps
from cpal.errors import UserError
from cpal.maps.cams import CamFile
from cpal.maps.refined import Refined
from cpal.maps.seeds import SeedRule
from cpal.maps.walked import WalkFile, read_walk, walked_labels, write_walk
from cpal.settings.config import AffinityConfig, Config

CLASSES = np.array([2, 5])
RULE = SeedRule("both", 0.3, 0.5, 0.6)


def cams(size: tuple[int, int] = (30, 41)) -> CamFile:
    shape = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    rng = np.random.default_rng(0)
    return CamFile(CLASSES, rng.random((2, *shape), np.float32), rng.random((2, *shape), np.float32), size)


def test_seeds_walk_raw_beside_a_constant_background() -> None:
    content = cams()
    start = start_maps(content, CLASSES, RULE, "threshold").numpy()
    np.testing.assert_allclose(start, (content.cam + content.pacam) / 2, rtol=1e-6)


def test_seeds_that_walk_with_their_background_are_calibrated() -> None:
    """The argmax of the start is the seed: a class where it is above its threshold, else background."""
    content = cams()
    start = start_maps(content, CLASSES, SeedRule("cam", 0.3, 0.5, 0.6), "walk").numpy()
    assert start.shape == (3, 8, 11)
    seed = np.where(content.cam.max(axis=0) > 0.3, 1 + content.cam.argmax(axis=0), 0)
    np.testing.assert_array_equal(start.argmax(axis=0), seed)


def test_crf_walks_with_its_confidence() -> None:
    label = np.zeros((8, 12), np.uint8)
    label[:4, :4], label[4:, 8:] = 5, 2
    confidence = np.full((8, 12), 204, np.uint8)  # 0.8
    start = start_maps(Refined(label, confidence), CLASSES, RULE, "walk")
    assert start.shape == (3, 2, 3)
    torch.testing.assert_close(start[:, 0, 0], torch.tensor([0.1, 0.1, 0.8]))
    torch.testing.assert_close(start[:, 1, 2], torch.tensor([0.1, 0.8, 0.1]))
    torch.testing.assert_close(start.sum(dim=0), torch.ones(2, 3))
    assert torch.equal(start_maps(Refined(label, confidence), CLASSES, RULE, "threshold"), start[1:])


@pytest.fixture
def affinity(settings: Callable[..., Config]) -> Callable[..., AffinityConfig]:
    return lambda **keys: (
        settings(**{"affinity.powers": [1.0, 2.0]} | {f"affinity.{key}": value for key, value in keys.items()}).affinity
    )


@pytest.mark.parametrize("background", ["walk", "threshold"])
def test_each_power_is_a_walk_of_its_own(affinity: Callable[..., AffinityConfig], background: str) -> None:
    settings = affinity(background=background, walk_steps=8)
    start, edge = start_maps(cams(), CLASSES, RULE, background), torch.rand(8, 11)
    both = walk_maps(start, edge, CLASSES, (30, 41), settings)
    squared = walk_maps(start**2, edge, CLASSES, (30, 41), affinity(background=background, walk_steps=8, powers=[1.0]))
    np.testing.assert_allclose(both.scores[1], squared.scores[0], rtol=1e-5)
    if background == "walk":
        assert both.background_walked
        np.testing.assert_allclose(both.scores.sum(axis=1), 1, rtol=1e-5)
    else:
        np.testing.assert_allclose(both.scores.max(axis=(1, 2, 3)), 1, rtol=1e-5)


def test_labels_with_a_constant_background() -> None:
    scores = np.zeros((1, 2, 2, 2), np.float32)
    scores[0, 0], scores[0, 1, :, 1] = 0.2, 0.75
    content = WalkFile(CLASSES, scores, (8, 8))
    refined = walked_labels(content, 0, 0.25)
    assert refined.label[0, 0] == 0 and refined.label[-1, -1] == 5
    assert refined.confidence[-1, -1] == round(255 * 0.75 / (0.75 + 0.2 + 0.25))
    assert (walked_labels(content, 0, 0.15).label[:, 0] == 2).all()


def test_labels_with_a_walked_background_need_no_threshold() -> None:
    scores = np.array([0.5, 0.2, 0.3], np.float32)[None, :, None, None] * np.ones((1, 3, 3, 3), np.float32)
    for threshold in (0.01, 0.99):
        refined = walked_labels(WalkFile(CLASSES, scores, (9, 9)), 0, threshold)
        assert (refined.label == 0).all() and (refined.confidence == 128).all()


def test_where_no_map_reaches_there_is_unsure_background() -> None:
    refined = walked_labels(WalkFile(CLASSES, np.zeros((1, 3, 2, 2), np.float32), (8, 8)), 0, 0.25)
    assert not refined.label.any() and not refined.confidence.any()


def test_an_image_without_a_class_is_background(affinity: Callable[..., AffinityConfig]) -> None:
    none = np.zeros(0, np.int64)
    for background in ("walk", "threshold"):
        empty = CamFile(none, np.zeros((0, 3, 3), np.float32), np.zeros((0, 3, 3), np.float32), (9, 10))
        refined = Refined(np.zeros((9, 10), np.uint8), np.full((9, 10), 255, np.uint8))
        for source in (empty, refined):
            start = start_maps(source, none, RULE, background)
            content = walk_maps(start, torch.rand(3, 3), none, (9, 10), affinity(background=background))
            labels = walked_labels(content, 0, 0.3)
            assert labels.label.shape == (9, 10) and (labels.label == 0).all() and (labels.confidence == 255).all()


def test_file_round_trip(tmp_path: Path) -> None:
    content = WalkFile(CLASSES, np.random.default_rng(0).random((2, 3, 4, 5), np.float32), (13, 20))
    write_walk(tmp_path / "a.npz", content)
    again = read_walk(tmp_path / "a.npz")
    np.testing.assert_allclose(again.scores, content.scores, atol=5e-4)
    assert again.size == content.size and again.classes.tolist() == [2, 5] and again.background_walked


def test_a_power_that_is_not_walked_is_refused(settings: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"walk_power 2\.0 is none of affinity\.powers, which are walked: 1\.0"):
        settings(**{"pseudo_mask.walk_power": 2.0})
