"""Masks whose colors stand for classes: the table of colors, and the exact conversion into values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpal.data.images import open_image
from cpal.data.masks import BACKGROUND, VOID, read_mask, voc_palette
from cpal.errors import UserError
from cpal.settings.access import check_readable

Color = tuple[int, int, int]
NAMES = {"background": BACKGROUND, "_background_": BACKGROUND, "void": VOID, "ignore": VOID, "ignored": VOID}
NUMBERS = r"(?P<color>\d+\s*[,;\s]\s*\d+\s*[,;\s]\s*\d+)"
LINES = (  # CVAT's name:r,g,b:parts:actions and name,r,g,b; then r,g,b,name
    re.compile(rf"(?P<name>.+?)\s*[:,;\t]\s*{NUMBERS}\s*([:,;\t].*)?"),
    re.compile(rf"{NUMBERS}\s*[,;\s]\s*(?P<name>[^\d\s].*)"),
)

BRACKETS = re.compile(r"[\[({]\s*((?:\d+\s*[,;\s]\s*){2}\d+)\s*[\])}]")  # around the three numbers
NUMBER = re.compile(r"^\d+\s*[,;\t]\s*")  # of the class, in front of its name
HEX = re.compile(r"#([0-9a-fA-F]{6})\b")
HEADER = (  # words of the columns
    ("name", ("name", "class", "label", "class_name", "classname")),
    *(("r", ("r", "red")), ("g", ("g", "green")), ("b", ("b", "blue"))),
)


@dataclass(frozen=True)
class ColorTable:
    """`values`: mask value of each color: 1, 2, ... for `names`, and the values of background and void."""

    source: str
    names: tuple[str, ...]
    values: dict[Color, int]

    def label(self, color: Color) -> str:
        value = self.values[color]
        return {BACKGROUND: "background", VOID: "void"}.get(value) or self.names[value - 1]


MISSING = "no such file; data.mask_colors names the table of colors below data.root, or is voc"


def read_color_table(path: Path, *, missing: str = MISSING) -> ColorTable:
    """The colors of a file with a line name:r,g,b:parts:actions or name,r,g,b for each class.

    `missing` is the message for no file. Raises UserError for a file that is missing or unreadable, a line of another
    form, and a color of two classes.
    """
    check_readable(path, missing=missing)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: unreadable table of colors ({error}); save it as text in UTF-8") from None
    if lines and lines[0].lstrip().startswith(("{", "[{")):
        raise UserError(f"{path}: JSON, which is not read; write a line name,r,g,b for each class")
    rows: dict[Color, str] = {}
    header = _header(lines[0]) if lines else None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#") and not HEX.match(line):
            continue
        found = _name_and_color(line, header)
        if found is None and number == 1:  # a header
            continue
        if found is None or max(found[1]) > 255:
            raise UserError(f"{path}, line {number}: write name,r,g,b with three numbers from 0 to 255")
        name, color = found
        if (other := rows.setdefault(color, name)) != name:
            raise UserError(f"{path}, line {number}: {name} has the color of {other}; give each class its own")
    names = tuple(dict.fromkeys(name for name in rows.values() if name.lower() not in NAMES))
    if not names or len(names) >= VOID:
        raise UserError(f"{path}: names {len(names)} classes with a color; write a line name,r,g,b for each, 1 to 254")
    numbers = NAMES | {name: value for value, name in enumerate(names, 1)}
    values = {color: numbers[name if name in names else name.lower()] for color, name in rows.items()}
    return ColorTable(path.name, names, values)


def _header(line: str) -> dict[str, int] | None:
    """Places of the columns name, r, g and b, such as of `id,name,r,g,b`; None if the line does not name all."""
    words = [cell.strip().casefold() for cell in re.split(r"[,;\t]", line)]
    places = {key: next((words.index(word) for word in spelled if word in words), None) for key, spelled in HEADER}
    return None if None in places.values() else {key: place for key, place in places.items() if place is not None}


def _name_and_color(line: str, header: Mapping[str, int] | None) -> tuple[str, Color] | None:
    """The class and the color of a line; None for a line of another form."""
    line = HEX.sub(lambda found: ",".join(str(int(found[1][n : n + 2], 16)) for n in (0, 2, 4)), line.strip())
    cells = [cell.strip().strip('"') for cell in re.split(r"[,;\t]", line)]
    if header is not None and len(cells) > max(header.values()):
        numbers = [cells[header[key]] for key in "rgb"]
        name = cells[header["name"]]
        return (name, _color(numbers)) if name and all(map(str.isdecimal, numbers)) else None
    found = next((match for form in LINES if (match := form.fullmatch(BRACKETS.sub(r"\1", line)))), None)
    if found is None:
        return None
    name = NUMBER.sub("", found["name"].strip()).strip('"')
    return name, _color(re.findall(r"\d+", found["color"]))


def _color(numbers: Sequence[str]) -> Color:
    red, green, blue = (int(number[:4]) for number in numbers)
    return red, green, blue


def voc_colors(names: Sequence[str]) -> ColorTable:
    """VOC's palette: colors 1, 2, ... stand for the names, (224, 224, 192) for void."""
    palette = [(int(r), int(g), int(b)) for r, g, b in voc_palette()]
    values = {palette[value]: value for value in (*range(len(names) + 1), VOID)}
    return ColorTable("VOC's palette", tuple(names), values)


def read_values(path: Path, colors: ColorTable | None) -> np.ndarray:
    """Mask values uint8 (H, W). `colors` None: the pixels are the values. Raises UserError as `read_mask`."""
    if colors is None:
        return read_mask(path)
    check_readable(path, missing="no such mask file; put it there")
    try:
        with open_image(path) as image:
            if image.mode not in ("P", "L", "RGB", "RGBA"):
                raise UserError(f"{path}: mode {image.mode} does not hold colors of 8 bits; save it as a PNG of RGB")
            if "A" in image.mode and np.asarray(image)[..., 3].min() < 255:
                raise UserError(f"{path}: has see-through pixels, whose color cannot be known; save it without alpha")
            pixels = np.asarray(image.convert("RGB"))
    except UserError:
        raise
    except Exception as error:  # as in read_image
        raise UserError(f"{path}: unreadable mask ({error}); replace the file") from None
    return _converted(pixels, colors, path)


def _converted(pixels: np.ndarray, colors: ColorTable, path: Path) -> np.ndarray:
    codes = (pixels.astype(np.int32) * (65536, 256, 1)).sum(axis=2, dtype=np.int32)
    found, places, counts = np.unique(codes, return_inverse=True, return_counts=True)
    shown = [(int(code >> 16), int(code >> 8 & 255), int(code & 255)) for code in found]
    if unknown := [
        (int(count), color) for count, color in zip(counts, shown, strict=True) if color not in colors.values
    ]:
        count, most = max(unknown)
        near = min(colors.values, key=lambda color: sum((a - b) ** 2 for a, b in zip(color, most, strict=True)))
        total, nearest = sum(number for number, _ in unknown), f"{colors.label(near)} {_text(near)}"
        raise UserError(
            f"{path}: {total} pixel(s) of {len(unknown)} color(s) that {colors.source} does not name (most: "
            f"{_text(most)} with {count} pixels; the nearest is {nearest}); save masks without smoothing, JPEG or "
            "another palette, or add the colors to the table"
        )
    table = np.array([colors.values[color] for color in shown], np.uint8)
    return table[places.reshape(codes.shape)]


def _text(color: Color) -> str:
    return ",".join(map(str, color))
