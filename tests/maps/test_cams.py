"""CAM arithmetic by hand, and its file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cpal.data.dataset import Record
from cpal.maps.cams import MAP_NAMES, CamFile, read_maps, resize_maps, write_cam
from cpal.maps.seeds import SeedRule, calibrate, seed_scores
from cpal.method.cam import normalize, with_background


class TestNormalize:
    def test_by_hand(self) -> None:
        cam = torch.tensor([[[[4.0, 2.0, -1.0]], [[-3.0, -2.0, -1.0]], [[0.5, 0.25, 1.0]]]])
        normalized = normalize(cam, torch.tensor([[1.0, 1.0, 0.0]]))
        expected = torch.tensor([[[[1.0, 0.5, 0.0]], [[0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]])
        torch.testing.assert_close(normalized, expected, atol=1e-5, rtol=0)

    def test_each_map_has_its_own_maximum(self) -> None:
        cam, label = torch.randn(3, 4, 5, 6), torch.tensor([[1.0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]])
        normalized = normalize(cam, label)
        torch.testing.assert_close(normalized.amax((2, 3)), label, atol=1e-4, rtol=0)
        assert normalized.min() >= 0 and normalized.max() <= 1

    def test_gradient_is_finite_where_nothing_is_active(self) -> None:
        cam = torch.full((1, 2, 3, 3), -1.0, requires_grad=True)
        normalize(cam, torch.ones(1, 2)).sum().backward()
        assert cam.grad is not None and torch.isfinite(cam.grad).all()


class TestBackground:
    CAM = torch.tensor([[[[0.9, 0.2, 0.0]], [[0.0, 0.5, 0.0]]]])

    def test_is_what_no_present_class_claims(self) -> None:
        maps = with_background(self.CAM)
        torch.testing.assert_close(maps[:, :1], torch.tensor([[[[0.1, 0.5, 1.0]]]]))
        assert torch.equal(maps[:, 1:], self.CAM)

    def test_from_other_maps(self) -> None:
        maps = with_background(self.CAM, torch.tensor([[[[0.0, 0.7, 0.4]]]]))
        torch.testing.assert_close(maps[:, :1], torch.tensor([[[[1.0, 0.3, 0.6]]]]))

    def test_without_any_class_everything_is_background(self) -> None:
        assert torch.equal(with_background(torch.zeros(1, 3, 2, 2))[:, 0], torch.ones(1, 2, 2))


class TestCalibrate:
    @pytest.mark.parametrize("threshold", [0.1, 0.3, 0.535, 0.9])
    def test_fixed_points_order_and_range(self, threshold: float) -> None:
        values = np.linspace(0, 1, 101)
        calibrated = calibrate(values, threshold)
        assert (np.diff(calibrated) > 0).all()
        found = calibrate(np.array([0.0, threshold / 2, threshold, (1 + threshold) / 2, 1.0]), threshold)
        np.testing.assert_allclose(found, [0, 0.25, 0.5, 0.75, 1], atol=1e-12)

    def test_the_middle_is_the_identity(self) -> None:
        values = np.linspace(0, 1, 11)
        np.testing.assert_allclose(calibrate(values, 0.5), values)


def content(classes: int = 2, size: tuple[int, int] = (17, 22)) -> CamFile:
    rng = np.random.default_rng(0)
    shape = (classes, (size[0] + 3) // 4, (size[1] + 3) // 4)
    return CamFile(np.arange(classes) * 3 + 1, {name: rng.random(shape, np.float32) for name in MAP_NAMES}, size)


def record_of(file: CamFile) -> Record:
    return Record("a", "train", False, "a.jpg", file.size[1], file.size[0], tuple(file.classes.tolist()), None, "")


class TestFile:
    @pytest.mark.parametrize("classes", [2, 0])
    def test_round_trip(self, tmp_path: Path, classes: int) -> None:
        written = content(classes)
        write_cam(tmp_path / "a.npz", written)
        read = read_maps(tmp_path, record_of(written))
        assert read.size == written.size and read.classes.dtype == np.int64 and read.maps["cam"].dtype == np.float32
        np.testing.assert_array_equal(read.classes, written.classes)
        for name in ("cam", "pacam", "taught"):  # atol: half a step of float16 below 1
            np.testing.assert_allclose(read.maps[name], written.maps[name], atol=2**-11)

    def test_maps_that_are_not_there_stay_so(self, tmp_path: Path) -> None:
        written = replace(content(), maps={"cam": content().maps["cam"]})
        write_cam(tmp_path / "a.npz", written)
        read = read_maps(tmp_path, record_of(written))
        assert list(read.maps) == ["cam"]

    def test_holds_no_pickle_and_small_numbers(self, tmp_path: Path) -> None:
        write_cam(tmp_path / "a.npz", content())
        with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
            assert {name: stored[name].dtype for name in stored} == {
                "format": np.int64,
                "classes": np.int64,
                "cam": np.uint8,
                "pacam": np.uint8,
                "taught": np.uint8,
                "size": np.int64,
            }

    def test_is_read_with_numpy_as_documented(self, tmp_path: Path) -> None:
        written = content()
        write_cam(tmp_path / "a.npz", written)
        low, high = np.load(tmp_path / "a.npz")["taught"].astype(np.uint16)
        maps = (high * 256 + low).view(np.float16)
        np.testing.assert_array_equal(maps, written.maps["taught"].astype(np.float16))

    def test_files_of_format_1_are_read(self, tmp_path: Path) -> None:
        """Imported maps that an earlier version wrote."""
        written = content()
        maps: dict[str, Any] = {name: map_.astype(np.float16) for name, map_ in written.maps.items()}
        np.savez(tmp_path / "a.npz", format=np.int64(1), classes=written.classes, size=np.array(written.size), **maps)
        read = read_maps(tmp_path, record_of(written))
        for name in ("cam", "pacam", "taught"):
            np.testing.assert_array_equal(read.maps[name], maps[name].astype(np.float32))


class TestSeed:
    THRESHOLDS = {"cam": 0.3, "pacam": 0.6, "taught": 0.4}

    def test_argmax_is_the_class_above_its_threshold(self) -> None:
        cam = np.array([[[0.31, 0.29, 0.8]], [[0.1, 0.2, 0.9]]], np.float32)
        pacam = np.array([[[0.59, 0.61, 0.7]], [[0.1, 0.2, 0.65]]], np.float32)
        taught = np.array([[[0.41, 0.39, 0.5]], [[0.42, 0.38, 0.4]]], np.float32)
        file = CamFile(np.array([2, 5]), {"cam": cam, "pacam": pacam, "taught": taught}, (1, 3))
        labels = {
            source: seed_scores(file, SeedRule(source, self.THRESHOLDS)).argmax(0).tolist()
            for source in ("cam", "pacam", "taught", "both", "imported")
        }
        cam_labels = [[1, 0, 2]]
        assert labels == {
            "cam": cam_labels,
            "pacam": [[0, 1, 1]],
            "taught": [[2, 0, 1]],
            "both": [[0, 0, 2]],
            "imported": cam_labels,
        }

    def test_both_is_the_mean_of_the_calibrated_maps(self) -> None:
        cam, pacam, both = (
            seed_scores(content(), SeedRule(source, self.THRESHOLDS)) for source in ("cam", "pacam", "both")
        )
        np.testing.assert_allclose(both, (cam + pacam) / 2, atol=1e-6)
        assert both.shape == (3, 17, 22) and both.dtype == np.float32 and (both[0] == 0.5).all()

    def test_an_image_without_labels_is_background(self) -> None:
        scores = seed_scores(content(0), SeedRule("pacam", self.THRESHOLDS))
        assert scores.shape == (1, 17, 22)


def naive_resize(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear with pixel centers at half positions, edges repeated."""
    height, width = plane.shape
    out = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            v = min(max((y + 0.5) * height / size[0] - 0.5, 0), height - 1)
            u = min(max((x + 0.5) * width / size[1] - 0.5, 0), width - 1)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            out[y, x] = (plane[top, left] * (1 - u + left) + plane[top, right] * (u - left)) * (1 - v + top) + (
                plane[bottom, left] * (1 - u + left) + plane[bottom, right] * (u - left)
            ) * (v - top)
    return out


def test_resize_is_bilinear() -> None:
    maps = np.random.default_rng(0).random((2, 4, 5), np.float32)
    for size in [(9, 13), (4, 5), (2, 3)]:
        expected = [naive_resize(plane, size) for plane in maps]
        np.testing.assert_allclose(resize_maps(maps, size), expected, atol=1e-6)
    assert resize_maps(maps[:0], (9, 13)).shape == (0, 9, 13)


@pytest.mark.parametrize("size", [(192, 256), (48, 64), (17, 23), (1, 1), (375, 500)])
def test_resize_is_torchs(size: tuple[int, int]) -> None:
    """To the rounding of the last bit; an equal size leaves maps as they are."""
    maps = np.random.default_rng(0).random((3, 48, 64), np.float32)
    found = resize_maps(maps, size)
    expected = F.interpolate(torch.from_numpy(maps)[None], size=size, mode="bilinear", align_corners=False)[0].numpy()
    assert found.dtype == np.float32 and np.abs(found - expected).max() < 2e-7
    assert size != (48, 64) or np.array_equal(found, maps)


def test_the_crf_and_scores_of_maps_load_no_torch() -> None:
    """Each of their worker processes would load it, for seconds."""
    for module in ("stages.refine_crf", "stages.evaluate_seed", "stages.evaluate_pseudo_mask"):
        code = f"import sys, {module}; print(sorted({{'torch', 'mmengine', 'sklearn'}} & set(sys.modules)))"
        root = Path(__file__).parents[2]
        assert subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True).stdout == "[]\n"
