"""Label maps as palette PNG."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cpal.data.dataset import Dataset, Record
from cpal.data.masks import VOID, LabelMaps, read_mask, read_truth, voc_palette, write_mask
from cpal.errors import UserError


def test_palette_is_vocs() -> None:
    palette = voc_palette()
    colors = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 4: (0, 0, 128), 8: (64, 0, 0)}
    colors |= {15: (192, 128, 128), 20: (0, 64, 128), 21: (128, 64, 128), VOID: (224, 224, 192)}
    assert {label: tuple(palette[label].tolist()) for label in colors} == colors
    assert palette.shape == (256, 3) and len({tuple(color) for color in palette.tolist()}) == 256


def test_round_trip_of_every_label(tmp_path: Path) -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(8, 32)
    write_mask(tmp_path / "new" / "a.png", mask)
    read = read_mask(tmp_path / "new" / "a.png")
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, mask)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), voc_palette()[mask])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_the_same_mask_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_mask(tmp_path / name, np.eye(9, dtype=np.uint8))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_gray_and_small_palettes_hold_labels_too(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [3, 2]], np.uint8)
    Image.fromarray(mask).save(tmp_path / "gray.png")
    image = Image.fromarray(mask)
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "four.png", bits=2)
    for name in ("gray.png", "four.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name), mask)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "1"])
def test_other_modes_are_no_labels(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (3, 2)).save(tmp_path / "a.png")
    with pytest.raises(
        UserError, match=rf"a\.png: mode {mode} does not hold 8-bit labels; save it as an 8-bit palette PNG"
    ):
        read_mask(tmp_path / "a.png")


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    write_mask(tmp_path / "half.png", np.random.default_rng(0).integers(0, 20, (64, 64)).astype(np.uint8))
    whole = (tmp_path / "half.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    for name, what in {"half.png": "unreadable mask", "text.png": "unreadable mask", "missing.png": "no such"}.items():
        with pytest.raises(UserError, match=f"{name}: {what}"):
            read_mask(tmp_path / name)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.zeros((2, 2), np.uint8))
    before = (tmp_path / "a.png").read_bytes()
    with pytest.raises(TypeError):
        write_mask(tmp_path / "a.png", np.full((2, 2), 0.5))
    assert (tmp_path / "a.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


class TestAgainstTheRecord:
    RECORD = Record("a", "train", True, "a.jpg", 5, 4, (2,), None, "")

    def refused(self, folder: Path, mask: np.ndarray, message: str, *, foreground: int | None = None) -> None:
        write_mask(folder / "a.png", mask)
        with pytest.raises(UserError, match=rf"a\.png: {message}.*run the walk stage again: dvc repro -f -s walk"):
            LabelMaps(folder, "walk", foreground).read(self.RECORD)

    def test_its_own_labels_or_any_class(self, tmp_path: Path) -> None:
        mask = np.full((4, 5), 2, np.uint8)
        mask[0], mask[1] = 0, VOID
        write_mask(tmp_path / "a.png", mask)
        for maps in (LabelMaps(tmp_path, "walk"), LabelMaps(tmp_path, "walk", 3)):
            np.testing.assert_array_equal(maps.read(self.RECORD), mask)
        self.refused(tmp_path, np.full((4, 5), 3, np.uint8), r"shows \[3\], which are no labels of this image")
        self.refused(tmp_path, np.full((4, 5), 4, np.uint8), r"shows \[4\]", foreground=3)

    def test_another_image_s_or_a_damaged_one(self, tmp_path: Path) -> None:
        self.refused(tmp_path, np.zeros((5, 4), np.uint8), r"is of \(5, 4\), but the image is of \(4, 5\)")
        (tmp_path / "a.png").write_bytes(b"\x89PNG")
        with pytest.raises(UserError, match="unreadable mask.*run the walk stage again"):
            LabelMaps(tmp_path, "walk").read(self.RECORD)
        (tmp_path / "a.png").unlink()
        with pytest.raises(UserError, match="no such file; run the walk stage first: dvc repro walk"):
            LabelMaps(tmp_path, "walk").read(self.RECORD)

    def test_ground_truth(self, tiny_dataset: Dataset) -> None:
        (record,) = (record for record in tiny_dataset.records if record.image_id == "a")
        assert set(np.unique(read_truth(tiny_dataset, record))) == {0, 1}


@pytest.mark.parametrize("seed", range(3))
def test_a_flipped_bit_of_a_written_map_is_noticed(tmp_path: Path, tiny_dataset: Dataset, seed: int) -> None:
    """Pillow decodes without the checksums, and shows other labels for one flipped bit in nine."""
    record, path = tiny_dataset.records[0], tmp_path / f"{tiny_dataset.records[0].image_id}.png"
    rng = np.random.default_rng(seed)
    mask = rng.choice([0, *record.labels, VOID], record.size).astype(np.uint8)
    write_mask(path, mask)
    whole = path.read_bytes()
    refused = 0
    for place in rng.choice(len(whole), 100, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(LabelMaps(tmp_path, "make").read(record), mask)
        except UserError as error:
            assert str(error).startswith(str(path)) and "dvc repro -f -s make" in str(error)
            refused += 1
    assert refused > 90
