"""DenseCRF on drawn pictures, its file, and the pseudo-mask made from it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpal.data.dataset import Record
from cpal.data.masks import VOID
from cpal.maps import crf as crf_module
from cpal.maps.crf import refine
from cpal.maps.refined import Refined, pseudo_mask, read_crf, void_unsure, write_crf
from cpal.settings.config import Config, CrfConfig

Settings = Callable[..., Config]


@pytest.fixture
def crf(settings: Settings) -> Callable[..., CrfConfig]:
    """The section `crf` with overrides."""
    return lambda **keys: settings(**{f"crf.{key}": value for key, value in keys.items()}).crf


def disc(size: tuple[int, int] = (41, 53), radius: int = 13) -> tuple[np.ndarray, np.ndarray]:
    """A blue disc on sand, with a little noise, and its mask."""
    y, x = np.mgrid[: size[0], : size[1]]
    mask = (y - size[0] // 2) ** 2 + (x - size[1] // 2) ** 2 < radius**2
    colors = np.where(mask[..., None], (40, 70, 190), (200, 180, 120))
    noise = np.random.default_rng(0).integers(-2, 3, (*size, 3))
    return (colors + noise).astype(np.uint8), mask


def scores_of(seed: np.ndarray, num_labels: int) -> np.ndarray:
    """Maps whose argmax is `seed`: 0.5 for background, 0.9 and 0.1 for the rest."""
    scores = np.where(seed == np.arange(num_labels)[:, None, None], 0.9, 0.1)
    scores[0] = 0.5
    return scores.astype(np.float32)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("unary", ["labels", "scores"])
def test_no_iteration_gives_the_seed_back(crf: Callable[..., CrfConfig], unary: str) -> None:
    seed = np.random.default_rng(0).integers(0, 3, (17, 23))
    image = np.random.default_rng(1).integers(0, 256, (17, 23, 3)).astype(np.uint8)
    refined = refine(image, scores_of(seed, 3), np.array([4, 9]), crf(iterations=0, unary=unary, certainty=0.7))
    np.testing.assert_array_equal(refined.label, np.array([0, 4, 9])[seed])
    if unary == "labels":
        assert (refined.confidence == round(0.7 * 255)).all()
    else:  # 0.5 of 0.7, or 0.9 of 1.5
        np.testing.assert_array_equal(refined.confidence, np.where(seed == 0, round(255 * 0.5 / 0.7), round(255 * 0.6)))


@pytest.mark.parametrize("unary", ["labels", "scores"])
@pytest.mark.parametrize("size", [(41, 53), (40, 64), (33, 31)])
def test_cleans_a_ragged_seed(crf: Callable[..., CrfConfig], unary: str, size: tuple[int, int]) -> None:
    image, mask = disc(size)
    y, x = np.mgrid[: size[0], : size[1]]
    seed = (np.abs(y - size[0] // 2) < 10) & (np.abs(x - size[1] // 2) < 12)  # a box, as blurred maps are
    flipped = np.random.default_rng(3).random(size) < 0.1
    seed = seed ^ flipped
    refined = refine(image, scores_of(seed.astype(int), 2), np.array([7]), crf(iterations=10, unary=unary))
    assert refined.label.shape == refined.confidence.shape == size
    assert refined.label.dtype == refined.confidence.dtype == np.uint8
    assert set(np.unique(refined.label)) == {0, 7}
    assert iou(refined.label == 7, mask) > 0.97 > 0.7 > iou(seed, mask)


def test_each_setting_reaches_its_energy(crf: Callable[..., CrfConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    class Field:
        def __init__(self, width: int, height: int, labels: int) -> None:
            told["size"] = (height, width, labels)

        def addPairwiseGaussian(self, **keys: Any) -> None:
            told.update({f"gaussian_{key}": value for key, value in keys.items()})

        def addPairwiseBilateral(self, **keys: Any) -> None:
            told.update({f"bilateral_{key}": value for key, value in keys.items()})

        def setUnaryEnergy(self, unary: np.ndarray) -> None:
            self.unary = unary

        def inference(self, iterations: int) -> np.ndarray:
            told["iterations"] = iterations
            return np.exp(-self.unary)

    monkeypatch.setattr(crf_module, "DenseCRF2D", Field)
    image, mask = disc((6, 9), 2)
    numbers = {"gaussian_sxy": 2, "gaussian_compat": 3.5, "bilateral_sxy": 40, "bilateral_srgb": 7}
    numbers |= {"bilateral_compat": 9, "iterations": 6}
    refine(image, scores_of(mask.astype(int), 2), np.array([1]), crf(**numbers))
    assert np.array_equal(told.pop("bilateral_rgbim"), image)
    assert told == numbers | {"size": (6, 9, 2)}


def test_an_image_without_class_is_background(crf: Callable[..., CrfConfig]) -> None:
    image, _ = disc((9, 7), 2)
    refined = refine(image, np.full((1, 9, 7), 0.5, np.float32), np.zeros(0, np.int64), crf())
    assert not refined.label.any() and (refined.confidence == 255).all() and refined.label.shape == (9, 7)


def test_takes_read_only_and_mirrored_pictures(crf: Callable[..., CrfConfig]) -> None:
    image, mask = disc()
    scores = scores_of(mask.astype(int), 2)
    expected = refine(image, scores, np.array([1]), crf())
    mirrored = image[:, ::-1]
    mirrored.setflags(write=False)
    refined = refine(mirrored, scores[:, :, ::-1], np.array([1]), crf())
    np.testing.assert_array_equal(refined.label[:, ::-1], expected.label)


def test_scores_of_zero_are_no_error(crf: Callable[..., CrfConfig]) -> None:
    image, mask = disc()
    scores = np.stack([np.full(mask.shape, 0.5), mask.astype(float), np.zeros(mask.shape)]).astype(np.float32)
    refined = refine(image, scores, np.array([1, 2]), crf(unary="scores"))
    assert set(np.unique(refined.label)) == {0, 1}


def test_file_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    written = Refined(rng.integers(0, 21, (11, 7)).astype(np.uint8), rng.integers(0, 256, (11, 7)).astype(np.uint8))
    write_crf(tmp_path / "a.npz", written)
    read = read_crf(tmp_path, Record("a", "train", False, "a.jpg", 7, 11, tuple(range(1, 21)), None, ""))
    np.testing.assert_array_equal(read.label, written.label)
    np.testing.assert_array_equal(read.confidence, written.confidence)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert sorted(stored) == ["confidence", "format", "label"]


class TestPseudoMask:
    def refined(self, probability: np.ndarray) -> Refined:
        label = np.arange(probability.size).reshape(probability.shape) % 3
        return Refined(label.astype(np.uint8), np.round(255 * probability).astype(np.uint8))

    @pytest.mark.parametrize("minimum", [0.0, 0.25, 0.6, 0.75, 0.9, 1.0])
    def test_what_is_uncertain_becomes_void(self, minimum: float) -> None:
        probability = np.linspace(0, 1, 2001).reshape(3, 667)
        refined = self.refined(probability)
        mask = pseudo_mask(refined, min_confidence=minimum)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask[mask != VOID], refined.label[mask != VOID])
        assert (mask[probability >= minimum] != VOID).all()
        assert (mask[probability < minimum - 2 / 255] == VOID).all()  # the file holds steps of 1/255

    def test_zero_keeps_everything(self) -> None:
        assert VOID not in pseudo_mask(self.refined(np.zeros((2, 3))), min_confidence=0.0)


def test_background_that_scores_more_than_the_threshold_is_void() -> None:
    mask = np.array([[0, 0, 0, 0, 1, VOID]], np.uint8)
    scores = np.array([[[0.1, 0.35, 0.36, 0.0, 0.9, 0.9]], [[0.2, 0.0, 0.0, 0.7, 0.9, 0.1]]], np.float32)
    found = void_unsure(mask, scores, 0.35)
    assert found.dtype == np.uint8 and found.tolist() == [[0, 0, VOID, VOID, 1, VOID]]
    np.testing.assert_array_equal(void_unsure(mask, np.empty((0, 1, 6), np.float32), 0.0), mask)  # no label, no class
