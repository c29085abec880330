"""The toy data set: the same bytes from the same seed, masks that agree with labels, and the mixture asked for."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpal.data.dataset import read_dataset
from cpal.data.images import read_image
from cpal.data.masks import BACKGROUND, VOID, read_mask
from cpal.settings.config import Config
from cpal.settings.data import ToyConfig
from cpal.sources.toy import CLASSES, HOMES, NEUTRAL, choose_scene, draw_dataset, draw_image, void_rim
from cpal.sources.toy_objects import OBJECTS

Settings = Callable[..., Config]


@pytest.fixture(scope="module")
def toy(settings: Settings) -> ToyConfig:
    return settings().toy


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_seed_gives_its_bytes_again_and_another_seed_others(tmp_path: Path, toy: ToyConfig) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        draw_dataset(tmp_path / name, toy, seed=seed)
    first, second, other = (files(tmp_path / name) for name in "abc")
    assert first == second
    assert len(first) == 2 * (toy.train_images + toy.val_images) + 1
    assert first.keys() == other.keys()
    assert all(first[name] != other[name] for name in first)


def test_an_image_does_not_depend_on_how_many_there_are(tmp_path: Path, toy: ToyConfig) -> None:
    draw_dataset(tmp_path / "few", toy.model_copy(update={"train_images": 2, "val_images": 1}), seed=3)
    draw_dataset(tmp_path / "many", toy, seed=3)
    few, many = files(tmp_path / "few"), files(tmp_path / "many")
    assert all(many[name] == digest for name, digest in few.items() if name != "dataset.json")


def test_records_agree_with_the_files(tmp_path: Path, toy: ToyConfig) -> None:
    draw_dataset(tmp_path, toy, seed=0)
    dataset = read_dataset(tmp_path)
    assert dataset.classes == CLASSES == tuple(OBJECTS)
    assert len(dataset.split("train")) == toy.train_images and len(dataset.split("val")) == toy.val_images
    for record in dataset.records:
        mask, image = read_mask(dataset.mask_path(record)), read_image(dataset.image_path(record))
        assert image.shape == (record.height, record.width, 3) and mask.shape == image.shape[:2]
        assert tuple(np.setdiff1d(mask, (BACKGROUND, VOID))) == record.labels
        assert hashlib.sha256(dataset.image_path(record).read_bytes()).hexdigest() == record.sha256


def test_sides_objects_and_classes_spread_over_what_is_allowed(toy: ToyConfig) -> None:
    drawings = [draw_image(np.random.default_rng((0, n)), toy) for n in range(150)]
    sides = np.array([drawing.mask.shape for drawing in drawings])
    assert sides.min() >= toy.min_side and sides.max() <= toy.max_side
    assert (sides % 2 == 1).any() and (sides[:, 0] != sides[:, 1]).any()
    counts = Counter(len(drawing.labels) for drawing in drawings)
    assert set(counts) == {1, 2, 3} and counts[1] > counts[2] > counts[3]
    shown = Counter(label for drawing in drawings for label in drawing.labels)
    assert set(shown) == set(range(1, len(CLASSES) + 1))
    assert max(shown.values()) < 2 * min(shown.values())
    areas = [np.bincount(drawing.mask.ravel(), minlength=256) / drawing.mask.size for drawing in drawings]
    background = np.mean([area[BACKGROUND] for area in areas])
    assert 0.4 < background < 0.85, "objects fill the picture neither nearly all nor hardly"


def test_one_object_where_one_is_the_most(toy: ToyConfig) -> None:
    alone = toy.model_copy(update={"max_objects": 1})
    assert {len(draw_image(np.random.default_rng(n), alone).labels) for n in range(20)} == {1}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_several_parts_with_varied_pose(name: str) -> None:
    first, second = (OBJECTS[name](np.random.default_rng(seed)) for seed in (0, 1))
    assert len(first) >= 4 and len({part.paint for part in first}) >= 2
    moved = [not np.allclose(a.outline, b.outline) for a, b in zip(first, second, strict=False)]
    assert any(moved) or (name == "train" and len(first) == len(second))


def test_cat_and_dog_share_body_and_legs_and_differ_in_head_and_tail() -> None:
    """So do horse and cow; a plain CAM that lights the head only is the failure this data set shows."""
    for pair, shared in ((("cat", "dog"), 7), (("horse", "cow"), 6)):
        a, b = ([part.outline for part in OBJECTS[name](np.random.default_rng(5))] for name in pair)
        common = sum(any(x.shape == y.shape and np.allclose(x, y) for y in b) for x in a)
        assert common == shared
        assert common < len(a) and common < len(b)


@pytest.mark.parametrize(("bias", "expected"), [(0.0, 0.0), (0.8, 0.8), (1.0, 1.0)])
def test_boats_lie_on_water_as_often_as_asked(toy: ToyConfig, bias: float, expected: float) -> None:
    chosen = toy.model_copy(update={"scene_bias": bias})
    rng = np.random.default_rng(0)
    for name, home in HOMES.items():
        scenes = [choose_scene(rng, [name], chosen) for _ in range(400)]
        assert np.mean([scene == home for scene in scenes]) == pytest.approx(expected, abs=0.07)
        assert {scene for scene in scenes if scene != home} <= set(NEUTRAL)


def test_water_and_rails_come_without_their_object_as_often_as_asked(toy: ToyConfig) -> None:
    rng = np.random.default_rng(0)
    scenes = [choose_scene(rng, ["cat"], toy.model_copy(update={"empty_scene": 0.25})) for _ in range(800)]
    assert np.mean([scene in HOMES.values() for scene in scenes]) == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("width", [0, 1, 2])
def test_void_rim_against_a_loop(width: int) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (5, 4)).repeat(3, 0).repeat(4, 1).astype(np.uint8)
    expected = mask.copy()
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            near = mask[max(0, y - width) : y + width + 1, max(0, x - width) : x + width + 1]
            if (near != mask[y, x]).any():
                expected[y, x] = VOID
    np.testing.assert_array_equal(void_rim(mask, width), expected)


def test_limit_takes_the_first_of_each_split(tmp_path: Path, toy: ToyConfig) -> None:
    draw_dataset(tmp_path, toy, seed=0, limit=2)
    assert [record.image_id for record in read_dataset(tmp_path).records] == [
        "train_0000", "train_0001", "val_0000", "val_0001",
    ]  # fmt: skip
    with Image.open(tmp_path / "masks" / "val_0001.png") as mask:
        assert mask.mode == "P"
