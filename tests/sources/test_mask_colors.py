"""Masks of colors, with tables as CVAT, datumaro and CamVid write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cpal.data.masks import VOID, voc_palette
from cpal.errors import UserError
from cpal.sources.mask_colors import ColorTable, read_color_table, read_values, voc_colors

CVAT = """# label:color_rgb:parts:actions
cat:48,112,32::
cow:32,183,250:head,body:
traffic light:176,112,32::
background:0,0,0::
"""  # CVAT's export "Segmentation mask 1.1"; its documentation has lines with parts
CSV = (
    "name,r,g,b\ncat,48,112,32\ncow,32,183,250\ntraffic light,176,112,32\nbackground,0,0,0\n"  # CamVid's class_dict.csv
)
INDEXED = (  # class_dict.csv of other copies of CamVid
    "id,name,r,g,b,class_11\n1,cat,48,112,32,1\n2,cow,32,183,250,1\n3,traffic light,176,112,32,1\n"
    "0,background,0,0,0,0\n"
)
HEXADECIMAL = "cat,#307020\ncow,#20b7FA\ntraffic light,#B07020\nbackground,#000000\n"  # as in annotation tools
BRACKETS = "cat: [48, 112, 32]\ncow: [32, 183, 250]\ntraffic light: [176, 112, 32]\nbackground: [0, 0, 0]\n"  # YAML
COLUMNS_LAST = "48 112 32\tcat\n32 183 250\tcow\n176 112 32\ttraffic light\n0 0 0\tVoid\n"  # CamVid's label_colors.txt
COLORS: dict[int, tuple[int, int, int]] = {0: (0, 0, 0), 1: (48, 112, 32), 2: (32, 183, 250), 3: (176, 112, 32)}


@pytest.fixture
def table(tmp_path: Path) -> ColorTable:
    (tmp_path / "labelmap.txt").write_text(CVAT)
    return read_color_table(tmp_path / "labelmap.txt")


def values() -> np.ndarray:
    mask = np.zeros((30, 40), np.uint8)
    mask[3:9, 3:9], mask[12:20, 10:30], mask[25:, :] = 1, 2, 3
    return mask


def colored(mask: np.ndarray, colors: dict[int, tuple[int, int, int]]) -> np.ndarray:
    return np.array([colors.get(value, (1, 1, 1)) for value in range(4)], np.uint8)[mask]


@pytest.mark.parametrize(
    "text", [CVAT, CSV, CSV.replace(",", ";"), CSV.replace(",", "\t"), "\ufeff" + CSV, INDEXED, HEXADECIMAL, BRACKETS]
)
def test_tables(tmp_path: Path, text: str) -> None:
    (tmp_path / "t").write_text(text, encoding="utf-8")
    found = read_color_table(tmp_path / "t")
    assert found.names == ("cat", "cow", "traffic light")
    assert found.values == {color: value for value, color in COLORS.items()}


def test_brackets_in_a_name_stay(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("car (parked):1,2,3::\nbus [city],(4, 5, 6)\n{van}: [7,8,9]\n")
    assert read_color_table(tmp_path / "t").names == ("car (parked)", "bus [city]", "{van}")


def test_a_table_with_names_last_and_void(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(COLUMNS_LAST)
    found = read_color_table(tmp_path / "t")
    assert found.names == ("cat", "cow", "traffic light") and found.values[0, 0, 0] == VOID


def test_json_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t").write_text('{"cat": [48, 112, 32], "cow": [1, 2, 3]}')
    with pytest.raises(UserError, match="JSON, which is not read; write a line name,r,g,b for each class"):
        read_color_table(tmp_path / "t")


def test_a_class_of_two_colors(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("person,1,2,3\nfoot,4,5,6\nperson,7,8,9\n")
    found = read_color_table(tmp_path / "t")
    assert found.names == ("person", "foot") and found.values == {(1, 2, 3): 1, (4, 5, 6): 2, (7, 8, 9): 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat:48,112,32::\ndog:48,112,32::\n", "line 2: dog has the color of cat; give each class its own"),
        ("cat,48,112,32\ndog,#ff00\n", "line 2: write name,r,g,b with three numbers from 0 to 255"),
        ("cat,48,112,320\n", "line 1: write name,r,g,b with three numbers"),
        ("name,r,g,b\nbackground,0,0,0\n", "names 0 classes with a color; write a line name,r,g,b for each"),
        ("", "names 0 classes"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(UserError, match=message):
        read_color_table(tmp_path / "t")
    with pytest.raises(UserError, match="no such file; data.mask_colors names"):
        read_color_table(tmp_path / "gone.txt")


@pytest.mark.parametrize("form", ["RGB", "RGBA", "own palette", "bmp", "tif"])
def test_colors_become_values_exactly(tmp_path: Path, table: ColorTable, form: str) -> None:
    image = Image.fromarray(colored(values(), COLORS))
    path = tmp_path / f"a.{form if form in ('bmp', 'tif') else 'png'}"
    {"RGBA": image.convert("RGBA"), "own palette": image.quantize(16)}.get(form, image).save(path)
    np.testing.assert_array_equal(read_values(path, table), values())


def test_vocs_palette(tmp_path: Path) -> None:
    mask = values()
    mask[0, :] = VOID
    Image.fromarray(voc_palette()[mask]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_values(tmp_path / "a.png", voc_colors(("cat", "cow", "light"))), mask)
    with pytest.raises(UserError, match="a.png: 200 pixel.*VOC's palette does not name .most: 128,128,0"):
        read_values(tmp_path / "a.png", voc_colors(("cat", "cow")))


def test_unknown_colors_are_counted(tmp_path: Path, table: ColorTable) -> None:
    pixels = colored(values(), COLORS)
    pixels[0, :7], pixels[1, :2] = (48, 112, 33), (9, 9, 9)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(UserError) as error:
        read_values(tmp_path / "a.png", table)
    assert str(error.value) == (
        f"{tmp_path / 'a.png'}: 9 pixel(s) of 2 color(s) that labelmap.txt does not name (most: 48,112,33 with 7 "
        "pixels; the nearest is cat 48,112,32); save masks without smoothing, JPEG or another palette, "
        "or add the colors to the table"
    )


def test_see_through_and_deep_masks_are_refused(tmp_path: Path, table: ColorTable) -> None:
    clear: Any = Image.fromarray(colored(values(), COLORS)).convert("RGBA")
    clear.putpixel((0, 0), (0, 0, 0, 0))
    clear.save(tmp_path / "a.png")
    Image.new("I;16", (4, 4)).save(tmp_path / "b.png")
    for name, what in {"a.png": "has see-through pixels", "b.png": "mode I;16 does not hold colors"}.items():
        with pytest.raises(UserError, match=f"{name}: {what}"):
            read_values(tmp_path / name, table)


@pytest.mark.parametrize("lines", ["1,cat,255,0,0\n2,dog,0,255,0\n", "1;cat;#ff0000\n2;dog;#00ff00\n"])
def test_a_number_in_front_of_the_name_is_no_part_of_it(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "colors.csv"
    path.write_text(lines)
    assert read_color_table(path).names == ("cat", "dog")
