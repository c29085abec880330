"""Pictures and charts against hand-made pixels, naive loops and an XML parser."""

import itertools

import numpy as np
import pytest

from cpal.data.masks import VOID
from cpal.maps.drawing import (
    GAP,
    PALE,
    RAMP,
    cells,
    class_palette,
    contact_sheet,
    fit,
    heat,
    legend,
    overlay,
    stack,
    stretch,
    strip,
)


def test_palette_tells_eighty_classes_apart() -> None:
    palette = class_palette()
    assert palette.shape == (256, 3) and palette.dtype == np.uint8
    assert palette[0].tolist() == [0, 0, 0] and tuple(palette[VOID]) == PALE
    first = palette[:13].astype(int)
    assert min(np.abs(a - b).sum() for a, b in itertools.combinations(first, 2)) > 60
    assert len({tuple(color) for color in palette[:81].tolist()}) == 81


def test_ramp_is_perceptually_even() -> None:
    linear = RAMP / 255
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    steps = np.diff(lightness)
    assert steps.min() > 15 and steps.max() - steps.min() < 3


def test_fit_keeps_proportions_and_label_values() -> None:
    image = np.zeros((30, 60, 3), np.uint8)
    assert fit(image, width=120).shape == (60, 120, 3)
    assert fit(image, width=120, height=20).shape == (20, 40, 3)
    mask = np.random.default_rng(0).choice(np.array([0, 3, VOID], np.uint8), (17, 23))
    assert set(np.unique(fit(mask, width=50))) == {0, 3, VOID}


def test_overlay_tints_classes_outlines_them_and_leaves_background_gray() -> None:
    image = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 5:15] = 2
    mask[5:15, 18:28] = VOID
    palette = class_palette()
    shown = overlay(image, mask, palette, opacity=0.5)
    gray = 0.299 * 200 + 0.587 * 100 + 0.114 * 50
    assert shown[0, 0].tolist() == [round(gray)] * 3
    assert shown[10, 10].tolist() == [round((gray + c) / 2) for c in palette[2].tolist()]
    assert (shown[5:15, 5] == palette[2]).all() and (shown[14, 5:15] == palette[2]).all(), "outline"
    inner = shown[7:13, 20:26].reshape(-1, 3)
    assert 0 < (inner == round(gray)).all(axis=1).mean() < 1, "void is hatched: some of its pixels stay gray"


def test_cells_are_drawn_in_the_color_of_their_class_and_background_in_white() -> None:
    image = np.full((20, 30, 3), 90, np.uint8)
    mask = np.array([[True, False, False], [False, False, False]])
    for label, color in ((4, class_palette()[4]), (0, (255, 255, 255))):
        drawn = cells(image, mask, label)
        assert drawn[4, 4].tolist() == (90 + 0.62 * (np.array(color) - 90.0)).round().astype(int).tolist()
        assert (drawn[11:] == 90).all() and (drawn[:, 11:] == 90).all()


def test_stretch_puts_the_threshold_in_the_middle() -> None:
    maps = np.array([[[0.2, 0.4, 0.5, 0.6, 0.7]]])
    assert stretch(maps, 0.6) == pytest.approx(np.array([[[0.0, 0.25, 0.375, 0.5, 1.0]]]), abs=1e-4)
    assert stretch(maps, 0.9).max() < 0.5, "nothing reaches the threshold"
    assert stretch(maps, 0.1).min() > 0.5, "everything exceeds it"
    assert stretch(np.full((1, 2, 2), 0.3), 0.3) == pytest.approx(np.full((1, 2, 2), 0.5))
    assert stretch(np.zeros((0, 2, 2)), 0.3).shape == (0, 2, 2)


def test_heat_draws_the_border_of_the_seeds_and_glows_above_the_threshold() -> None:
    image = np.full((12, 16, 3), 90, np.uint8)
    maps = np.full((2, 12, 16), 0.1)
    maps[0, 2:10, 2:8] = 0.8
    maps[1, 2:10, 8:14] = 0.42
    shown = heat(image, maps, 0.4)
    seed = np.zeros((12, 16), int)
    seed[2:10, 2:8], seed[2:10, 8:14] = 1, 2
    for row, column in itertools.product(range(12), range(16)):
        near = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        border = any(0 <= r < 12 and 0 <= c < 16 and seed[r, c] != seed[row, column] for r, c in near)
        assert (shown[row, column] == 255).all() == border, (row, column)
    assert shown[5, 5].sum() > shown[5, 11].sum() > shown[0, 0].sum()


def test_heat_without_a_class_is_uniform() -> None:
    shown = heat(np.full((5, 6, 3), 90, np.uint8), np.zeros((0, 5, 6)), 0.3)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 1


def test_strip_and_stack_place_panels_under_their_titles() -> None:
    panels = [np.full((20, 40, 3), value, np.uint8) for value in (10, 20, 30)]
    plain, titled = strip(panels), strip(panels, ["one", "two", "three"])
    assert plain.shape == (20, 3 * 40 + 2 * GAP, 3)
    top = titled.shape[0] - 20
    assert (titled[top:] == plain).all()
    for index, value in enumerate((10, 20, 30)):
        left = index * (40 + GAP)
        assert (plain[:, left : left + 40] == value).all()
        assert (titled[:top, left : left + 40] < 128).any(), "each title has ink above its panel"
    sheet = stack([titled, plain])
    assert sheet.shape == (titled.shape[0] + GAP + 20, plain.shape[1], 3)
    assert (sheet[-20:] == plain).all()


def test_contact_sheet_centers_every_picture_above_its_caption() -> None:
    cells = [np.full((10 + i, 50 - i, 3), 10 * i, np.uint8) for i in range(5)]
    sheet = contact_sheet(cells, [f"c{i}" for i in range(5)], columns=3)
    step_y, step_x = sheet.shape[0] // 2, sheet.shape[1] // 3
    for index, cell in enumerate(cells):
        part = sheet[step_y * (index // 3) :][:step_y, step_x * (index % 3) :][:, :step_x]
        rows, columns = np.nonzero((part == 10 * index).all(axis=2))
        assert (rows.max() + 1 - rows.min(), columns.max() + 1 - columns.min()) == cell.shape[:2]
        assert abs(columns.min() - (step_x - 1 - columns.max())) <= 1
        assert (part[rows.max() + 1 :] < 200).any(), "a caption below"


def test_legend_shows_every_color_and_wraps() -> None:
    palette = class_palette()
    names = [f"class {i}" for i in range(6)]
    wide, narrow = (legend(names, palette[1:7], width=width) for width in (900, 200))
    assert narrow.shape[1] == 200 and narrow.shape[0] >= 3 * wide.shape[0]
    for sheet in (wide, narrow):
        assert all((sheet == color).all(axis=2).sum() >= 100 for color in palette[1:7])
