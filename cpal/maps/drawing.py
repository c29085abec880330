"""Draws maps and masks as pictures uint8 (H, W, 3).

All panels of a strip have the same size. Resize the image with `fit` before drawing on it, so that edges stay sharp.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from cpal.data.masks import BACKGROUND, VOID
from cpal.maps.fonts import TEXT_SIZE, own_font, parts

# Visible on a gray picture; neighbors in the list differ strongly in hue.
COLORS = np.array(
    [(228, 74, 60), (58, 134, 224), (76, 174, 84), (244, 172, 44), (148, 96, 206), (36, 182, 178)]
    + [(236, 112, 172), (152, 108, 64), (170, 198, 52), (84, 98, 190), (255, 134, 92), (116, 200, 246)]
)
SHADES = (0.0, -0.4, 0.45, -0.65, 0.7, -0.2, 0.25)  # of each further round of COLORS: towards black (negative) or white
PALE = (236, 232, 218)  # void

# Dark violet over red to pale yellow; lightness rises evenly (CIE L* 5 to 96).
RAMP = np.array([(16, 10, 46), (88, 20, 116), (174, 44, 104), (230, 98, 58), (250, 172, 56), (250, 245, 176)])

WHITE, INK = (255, 255, 255), (60, 64, 72)
GAP = 6


def class_palette() -> np.ndarray:
    """Color of each mask value, uint8 (256, 3): black background, twelve colors in seven shades, pale void."""
    palette = np.zeros((256, 3))
    for value in range(BACKGROUND + 1, VOID):
        cycle, color = divmod(value - 1, len(COLORS))
        shade = SHADES[cycle % len(SHADES)]
        palette[value] = COLORS[color] * (1 - abs(shade)) + 255 * max(shade, 0)
    palette[VOID] = PALE
    return palette.round().astype(np.uint8)


def fit(picture: np.ndarray, *, width: int, height: int | None = None) -> np.ndarray:
    """Resize to this width, or to the largest size within width x height; the aspect ratio stays.

    Images (H, W, 3) are resampled smoothly, label maps (H, W) by nearest neighbor.
    """
    scale = width / picture.shape[1]
    if height is not None:
        scale = min(scale, height / picture.shape[0])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    method = Image.Resampling.NEAREST if picture.ndim == 2 else Image.Resampling.LANCZOS
    return np.array(Image.fromarray(picture).resize(size, method))


def overlay(image: np.ndarray, mask: np.ndarray, palette: np.ndarray, *, opacity: float = 0.62) -> np.ndarray:
    """Draw a label map (H, W) over its image in gray: classes tinted and outlined, void hatched, background gray."""
    gray = _gray(image)
    rows, columns = np.indices(mask.shape)
    hatched = (mask == VOID) & ((rows + columns) % 6 < 3)
    tinted = hatched | ((mask != BACKGROUND) & (mask != VOID))
    weight = np.where(tinted, np.where(hatched, 0.8, opacity), 0.0)
    weight[_edges(mask) & (mask != BACKGROUND)] = 1.0
    return _mix(gray, palette[mask], weight)


def cells(image: np.ndarray, mask: np.ndarray, label: int) -> np.ndarray:
    """Draw the cells bool (h, w) of a class over an image (H, W, 3), those of the background in white."""
    size = (image.shape[1], image.shape[0])
    large = np.array(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    palette = class_palette()
    palette[1] = palette[label] if label != BACKGROUND else WHITE
    return overlay(image, large, palette)


def stretch(maps: np.ndarray, threshold: float) -> np.ndarray:
    """Rescale maps (K, H, W) to [0, 1]: the lowest score becomes 0, the background threshold 0.5, the highest score 1.

    Scores close to the threshold become readable, and the middle of the scale means the same for every map.
    """
    low, high = min(maps.min(initial=threshold), threshold), max(maps.max(initial=threshold), threshold)
    return np.interp(maps, [low - 1e-6, threshold, high + 1e-6], [0.0, 0.5, 1.0])


def glow(image: np.ndarray, score: np.ndarray, *, opacity: float = 0.72) -> np.ndarray:
    """Draw scores (H, W) in [0, 1] over their image in gray, dark at 0 and bright at 1."""
    colors = np.stack([np.interp(score, np.linspace(0, 1, len(RAMP)), RAMP[:, c]) for c in range(3)], axis=-1)
    return _mix(_gray(image), colors, np.full(score.shape, opacity))


def heat(image: np.ndarray, maps: np.ndarray, threshold: float) -> np.ndarray:
    """Draw the maximum of the maps (K, H, W) at each pixel over its image in gray; white lines border the seeds.

    Without any map (K = 0), every pixel shows the lowest score.
    """
    stretched = np.concatenate([np.zeros((1, *image.shape[:2])), stretch(maps, threshold)])
    score = stretched.max(axis=0)
    heated = glow(image, score)
    heated[_edges(np.where(score > 0.5, stretched.argmax(axis=0), BACKGROUND))] = 255
    return heated


def strip(panels: Sequence[np.ndarray], titles: Sequence[str] = ()) -> np.ndarray:
    """Place panels of one height side by side on white, each below its title."""
    height = max(panel.shape[0] for panel in panels)
    top = _title_height() if titles else 0
    sheet = np.full((top + height, sum(p.shape[1] + GAP for p in panels) - GAP, 3), 255, np.uint8)
    left, places = 0, []
    for panel in panels:
        sheet[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
        places.append((left + panel.shape[1] / 2, top / 2))
        left += panel.shape[1] + GAP
    return _write(sheet, list(zip(titles, places, strict=True)) if titles else [])


def stack(strips: Sequence[np.ndarray]) -> np.ndarray:
    """Place strips below each other on white, aligned left."""
    width = max(row.shape[1] for row in strips)
    rows = [np.pad(r, ((0, GAP), (0, width - r.shape[1]), (0, 0)), constant_values=255) for r in strips]
    return np.concatenate(rows)[:-GAP]


def legend(names: Sequence[str], colors: np.ndarray, *, width: int) -> np.ndarray:
    """Class names with their colors (len(names), 3) on white, in as many lines as `width` requires."""
    line, side = _title_height(), TEXT_SIZE - 2
    places, left, top = [], 0, 0
    for name in names:
        needed = side + GAP + math.ceil(_length(name)) + 3 * GAP
        if left and left + needed > width:
            left, top = 0, top + line
        places.append((left, top))
        left += needed
    sheet = Image.fromarray(np.full((top + line, width, 3), 255, np.uint8))
    draw = ImageDraw.Draw(sheet)
    for (x, y), name, color in zip(places, names, colors, strict=True):
        middle = y + line / 2
        draw.rectangle((x, middle - side / 2, x + side, middle + side / 2), fill=tuple(int(c) for c in color))
        _draw_text(draw, x + side + GAP, middle, name)
    return np.array(sheet)


def contact_sheet(cells: Sequence[np.ndarray], captions: Sequence[str], *, columns: int) -> np.ndarray:
    """Pictures in rows of `columns`, centered in cells of the size of the largest picture, with captions below."""
    height, width = (max(cell.shape[axis] for cell in cells) for axis in (0, 1))
    step_y, step_x = height + _title_height() + GAP, width + 2 * GAP
    rows = math.ceil(len(cells) / columns)
    sheet = np.full((rows * step_y, min(columns, len(cells)) * step_x, 3), 255, np.uint8)
    texts = []
    for index, (cell, caption) in enumerate(zip(cells, captions, strict=True)):
        y, x = step_y * (index // columns), step_x * (index % columns) + GAP
        # At the bottom of the cell, so that the caption is next to its picture.
        top, left = y + height - cell.shape[0], x + (width - cell.shape[1]) // 2
        sheet[top : top + cell.shape[0], left : left + cell.shape[1]] = cell
        texts.append((caption, (x + width / 2, y + height + _title_height() / 2)))
    return _write(sheet, texts)


def _gray(image: np.ndarray) -> np.ndarray:
    """Luminance in three channels, float (H, W, 3)."""
    return np.repeat((image @ np.array([0.299, 0.587, 0.114]))[..., None], 3, axis=-1)


def _mix(below: np.ndarray, above: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return (below + weight[..., None] * (above - below)).round().astype(np.uint8)


def _edges(regions: np.ndarray) -> np.ndarray:
    """Pixels on both sides of each edge of a map (H, W), where right or lower neighbors differ: bool (H, W)."""
    edges = np.zeros(regions.shape, bool)
    across, down = regions[:, 1:] != regions[:, :-1], regions[1:] != regions[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _title_height() -> int:
    return TEXT_SIZE + 2 * GAP


def _write(sheet: np.ndarray, texts: Sequence[tuple[str, tuple[float, float]]]) -> np.ndarray:
    """Draw texts, each centered on its point (x, y)."""
    picture = Image.fromarray(sheet)
    draw = ImageDraw.Draw(picture)
    for text, (x, y) in texts:
        if len(_parts(text)) == 1:
            draw.text((x, y), text, fill=INK, font=_parts(text)[0][1], anchor="mm")
        else:
            _draw_text(draw, x - _length(text) / 2, y, text)
    return np.array(picture)


def _parts(text: str) -> list[tuple[str, Any]]:
    """Parts of the text with a font for each; the whole text with Pillow's own font if no font has all characters."""
    return parts(text) or [(text, own_font())]


def _length(text: str) -> float:
    return sum(font.getlength(part) for part, font in _parts(text))


def _draw_text(draw: ImageDraw.ImageDraw, left: float, middle: float, text: str) -> None:
    for part, font in _parts(text):
        draw.text((left, middle), part, fill=INK, font=font, anchor="lm")
        left += font.getlength(part)
