"""Names of classes in scripts that Pillow's own font lacks."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pytest import MonkeyPatch

from cpal.maps import fonts
from cpal.maps.drawing import INK, legend, strip

COLORS = np.array([[228, 74, 60], [58, 134, 224]])


@pytest.fixture
def system(tmp_path: Path, monkeypatch: MonkeyPatch) -> Iterator[Path]:
    """The folder of the system's fonts, empty for a start."""
    monkeypatch.setattr(fonts, "FOLDERS", (str(tmp_path),))
    for cached in (fonts._font_files, fonts._system_font):
        cached.cache_clear()
    yield tmp_path
    for cached in (fonts._font_files, fonts._system_font):
        cached.cache_clear()


def install(folder: Path) -> None:
    """DejaVu Sans, which has Greek, Cyrillic and Arabic letters, as Matplotlib brings it."""
    (folder / "damaged.ttf").write_bytes(b"no font")
    (folder / "DejaVuSans.ttf").symlink_to(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf")


def test_latin_letters_are_drawn_as_ever(system: Path) -> None:
    """One text with Pillow's own font, the same pixels as without any choice."""
    name = "traffic light 86%"
    sheet = Image.new("RGB", (300, 27), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 7.0, 13, 20.0), fill=(228, 74, 60))
    draw.text((19, 13.5), name, fill=INK, font=ImageFont.load_default(15), anchor="lm")
    np.testing.assert_array_equal(legend([name], COLORS[:1], width=300), np.array(sheet))
    assert fonts.note([name]) is None


def test_a_font_of_the_system_is_found(system: Path) -> None:
    names = ["кошка", "cat"]
    before = legend(["1", "2"], COLORS, width=300)
    assert fonts.drawable(names[0], 1) == "1"
    assert fonts.note(names) == (
        f"no font here has the characters of some classes: pictures show their numbers (1 {names[0]})"
    )
    install(system)
    for cached in (fonts._font_files, fonts._system_font):
        cached.cache_clear()
    assert fonts.drawable(names[0], 1) == names[0] and fonts.note(names) is None
    mixed = fonts.parts(f"{names[0]} 86%")
    assert mixed is not None and len(mixed) == 1 and mixed[0][1].path.endswith("DejaVuSans.ttf")
    assert legend([f"{names[0]} 86%"], COLORS[:1], width=300).shape == (27, 300, 3)
    assert not np.array_equal(legend(names, COLORS, width=300), before)
    assert strip([np.zeros((9, 200, 3), np.uint8)], [f"{names[0]} 86%"]).shape == (36, 200, 3)


def test_a_font_that_lacks_latin_letters_draws_its_part(monkeypatch: MonkeyPatch) -> None:
    other = ImageFont.load_default(15)
    monkeypatch.setattr(fonts, "_system_font", lambda text: other if set(text) <= set("猫") else None)
    assert fonts.parts("猫 86%") == [("猫", other), (" 86%", fonts.own_font())]
    assert legend(["猫 86%"], COLORS[:1], width=100).shape == (27, 100, 3)
    assert strip([np.zeros((9, 200, 3), np.uint8)], ["猫 86%"]).shape == (36, 200, 3)


def test_names_that_no_font_has_get_their_number(system: Path) -> None:
    install(system)
    assert [fonts.drawable(name, n) for n, name in enumerate(("cat", "猫"), 1)] == ["cat", "2"]
    assert legend(["猫"], COLORS[:1], width=100).shape == (27, 100, 3), "nothing is raised"
