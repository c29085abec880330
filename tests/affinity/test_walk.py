"""What walks, what comes of it, and the file in between."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cpal.affinity.walk import start_maps, walk_maps
from cpal.data.dataset import Record
from cpal.errors import UserError
from cpal.maps.cams import CamFile
from cpal.maps.refined import Refined, write_crf
from cpal.maps.seeds import SeedRule
from cpal.maps.walked import WalkFile, is_walk, read_walk, read_walk_or_crf, walked_labels, write_walk
from cpal.settings.config import Config, WalkConfig

CLASSES = np.array([2, 5])
RULE = SeedRule("both", {"cam": 0.3, "pacam": 0.5})


def cams(size: tuple[int, int] = (30, 41)) -> CamFile:
    shape = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    rng = np.random.default_rng(0)
    return CamFile(CLASSES, {name: rng.random((2, *shape), np.float32) for name in ("cam", "pacam")}, size)


def test_seeds_walk_raw_beside_a_constant_background() -> None:
    content = cams()
    start = start_maps(content, CLASSES, RULE, "threshold").numpy()
    np.testing.assert_allclose(start, (content.maps["cam"] + content.maps["pacam"]) / 2, rtol=1e-6)


def test_seeds_that_walk_with_their_background_are_calibrated() -> None:
    """The argmax of the start is the seed: a class where it is above its threshold, else background."""
    content = cams()
    start = start_maps(content, CLASSES, SeedRule("cam", {"cam": 0.3}), "walk").numpy()
    assert start.shape == (3, 8, 11)
    seed = np.where(content.maps["cam"].max(axis=0) > 0.3, 1 + content.maps["cam"].argmax(axis=0), 0)
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
def walk(settings: Callable[..., Config]) -> Callable[..., WalkConfig]:
    return lambda **keys: (
        settings(**{"walk.powers": [1.0, 2.0]} | {f"walk.{key}": value for key, value in keys.items()}).walk
    )


@pytest.mark.parametrize("background", ["walk", "threshold"])
def test_each_power_is_a_walk_of_its_own(walk: Callable[..., WalkConfig], background: str) -> None:
    settings = walk(background=background, steps=8)
    start, edge = start_maps(cams(), CLASSES, RULE, background), torch.rand(8, 11)
    both = walk_maps(start, edge, CLASSES, (30, 41), settings)
    squared = walk_maps(start**2, edge, CLASSES, (30, 41), walk(background=background, steps=8, powers=[1.0]))
    np.testing.assert_allclose(both.scores[1], squared.scores[0], rtol=1e-5)
    assert both.powers == (1.0, 2.0)
    assert np.array_equal(both.at(1.0), both.scores[0]) and np.array_equal(both.at(2.0), both.scores[1])
    if background == "walk":
        assert both.background_walked
        np.testing.assert_allclose(both.scores.sum(axis=1), 1, rtol=1e-5)
    else:
        np.testing.assert_allclose(both.scores.max(axis=(1, 2, 3)), 1, rtol=1e-5)


def test_beside_a_constant_background_classes_keep_their_ratio(walk: Callable[..., WalkConfig]) -> None:
    """One maximum divides all classes of a power: where only a weak class walks, it must not become a strong one."""
    strong, edge = torch.rand(8, 11), torch.rand(8, 11)
    scores = walk_maps(torch.stack([strong, strong / 4]), edge, CLASSES, (30, 41), walk(background="threshold")).scores
    for power, of_power in ((1, scores[0]), (2, scores[1])):
        assert of_power[0].max() == pytest.approx(1)
        np.testing.assert_allclose(of_power[1], of_power[0] / 4**power, rtol=1e-4, atol=1e-7)


def test_labels_with_a_constant_background() -> None:
    scores = np.zeros((1, 2, 2, 2), np.float32)
    scores[0, 0], scores[0, 1, :, 1] = 0.2, 0.75
    content = WalkFile(CLASSES, scores, (8, 8), (1.0,))
    refined = walked_labels(content, 1.0, 0.25)
    assert refined.label[0, 0] == 0 and refined.label[-1, -1] == 5
    assert refined.confidence[-1, -1] == round(255 * 0.75 / (0.75 + 0.2 + 0.25))
    assert (walked_labels(content, 1.0, 0.15).label[:, 0] == 2).all()


def test_labels_of_a_power_that_was_not_walked() -> None:
    content = WalkFile(CLASSES, np.ones((1, 2, 2, 2), np.float32), (8, 8), (1.0,))
    with pytest.raises(UserError, match=r"the walk has the powers 1.0, not 1.5; .*dvc repro -f -s propagate_affinity"):
        walked_labels(content, 1.5, 0.25)


def test_labels_with_a_walked_background_need_no_threshold() -> None:
    scores = np.array([0.5, 0.2, 0.3], np.float32)[None, :, None, None] * np.ones((1, 3, 3, 3), np.float32)
    for threshold in (0.01, 0.99):
        refined = walked_labels(WalkFile(CLASSES, scores, (9, 9), (1.0,)), 1.0, threshold)
        assert (refined.label == 0).all() and (refined.confidence == 128).all()


def test_where_no_map_reaches_there_is_unsure_background() -> None:
    refined = walked_labels(WalkFile(CLASSES, np.zeros((1, 3, 2, 2), np.float32), (8, 8), (1.0,)), 1.0, 0.25)
    assert not refined.label.any() and not refined.confidence.any()


def test_an_image_without_a_class_is_background(walk: Callable[..., WalkConfig]) -> None:
    none = np.zeros(0, np.int64)
    for background in ("walk", "threshold"):
        empty = CamFile(none, dict.fromkeys(("cam", "pacam"), np.zeros((0, 3, 3), np.float32)), (9, 10))
        refined = Refined(np.zeros((9, 10), np.uint8), np.full((9, 10), 255, np.uint8))
        for source in (empty, refined):
            start = start_maps(source, none, RULE, background)
            content = walk_maps(start, torch.rand(3, 3), none, (9, 10), walk(background=background))
            labels = walked_labels(content, 1.0, 0.3)
            assert labels.label.shape == (9, 10) and (labels.label == 0).all() and (labels.confidence == 255).all()


def test_file_round_trip(tmp_path: Path) -> None:
    content = WalkFile(CLASSES, np.random.default_rng(0).random((2, 3, 4, 5), np.float32), (13, 20), (1.0, 0.3))
    write_walk(tmp_path / "a.npz", content)
    again = read_walk(tmp_path, Record("a", "train", False, "a.jpg", 20, 13, (2, 5), None, ""))
    np.testing.assert_allclose(again.scores, content.scores, atol=5e-4)
    assert again.size == content.size and again.classes.tolist() == [2, 5] and again.background_walked
    assert again.powers == content.powers
    np.testing.assert_array_equal(again.at(0.3), again.scores[1])


def test_a_power_that_is_not_walked_is_refused(settings: Callable[..., Config]) -> None:
    with pytest.raises(UserError, match=r"walk_power 2\.0 is none of walk\.powers, which are walked: 1\.0"):
        settings(**{"pseudo_mask.walk_power": 2.0})


def picture(image_id: str) -> Record:
    return Record(image_id, "train", False, f"{image_id}.jpg", 8, 8, (2, 5), None, "")


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_labels_come_from_either_kind_of_file(tmp_path: Path, power: float) -> None:
    """Scores of a walk give those of the power asked for; with method none there are labels already."""
    walk, crf = picture("walk"), picture("crf")
    scores = np.zeros((2, 2, 2, 2), np.float32)
    scores[0, 0], scores[1, 1] = 0.75, 0.5
    write_walk(tmp_path / "walk.npz", WalkFile(CLASSES, scores, (8, 8), (1.0, 2.0)))
    found = read_walk_or_crf(tmp_path, walk, power=power, background_threshold=0.25)
    assert (found.label == {1.0: 2, 2.0: 5}[power]).all()
    assert (found.confidence == round(255 * {1.0: 0.75, 2.0: 2 / 3}[power])).all()
    passed_on = Refined(np.full((8, 8), 5, np.uint8), np.full((8, 8), 99, np.uint8))
    write_crf(tmp_path / "crf.npz", passed_on)
    found = read_walk_or_crf(tmp_path, crf, power=power, background_threshold=0.25)
    assert np.array_equal(found.label, passed_on.label) and np.array_equal(found.confidence, passed_on.confidence)
    assert is_walk(tmp_path, walk) and not is_walk(tmp_path, crf)


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_a_file_that_cannot_be_read_names_its_stage(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="a.npz: .*propagate_affinity"):
        read_walk_or_crf(tmp_path, picture("a"), power=1.0, background_threshold=0.25)
