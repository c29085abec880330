"""The curves that matplotlib draws lie where their axes say, and carry nothing that a page could stumble over."""

import re
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
import pytest

from cpal.report.charts import Curve, line_chart


def _curve(steps: list[float], values: list[float]) -> Curve:
    return Curve("loss", steps, values)


def _parse(curve: Curve, beside: Sequence[Curve] = ()) -> tuple[dict[float, float], list[tuple[float, float]]]:
    """Heights of the grid's lines by their labels, and the points of the curve."""
    svg = ElementTree.fromstring(line_chart(curve, beside=beside))
    parts = [part for part in svg.iter() if part.tag in ("path", "text")]
    heights = {
        float((text.text or "").replace("−", "-")): _points(line)[0][1]
        for line, text in zip(parts, parts[1:], strict=False)
        if "--rule" in line.get("style", "")
    }
    (drawn,) = [part for part in parts if "--accent" in part.get("style", "")]
    return heights, _points(drawn)


def _points(path: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d", ""))]


@pytest.mark.parametrize("values", [[0.9, 0.4, 0.2, 0.1], [-2.0, 3.0, 8.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
def test_points_lie_by_the_scale_of_the_grid(values: list[float]) -> None:
    heights, points = _parse(_curve([10.0, 20.0, 30.0, 40.0], values))
    (low, bottom), (high, top) = min(heights.items()), max(heights.items())
    assert 0 in heights and low <= max(0, min(values)) and high > low
    for (_, y), value in zip(points, values, strict=True):
        assert y == pytest.approx(bottom + (value - low) / (high - low) * (top - bottom), abs=0.11)
    assert np.diff([x for x, _ in points]) == pytest.approx([(points[-1][0] - points[0][0]) / 3] * 3, abs=0.11)


def test_the_ideal_line_has_equal_value_and_step() -> None:
    svg = ElementTree.fromstring(line_chart(_curve([10.0, 60.0, 100.0], [0.0, 60.0, 100.0]), ideal=True))
    (ideal,) = [path for path in svg.iter("path") if "dasharray" in path.get("style", "")]
    (curve,) = [path for path in svg.iter("path") if "--accent" in path.get("style", "") and len(_points(path)) == 3]
    (left, bottom), (right, top) = _points(ideal)
    (_, lowest), middle, last = _points(curve)
    assert lowest == pytest.approx(bottom, abs=0.11) and last == pytest.approx((right, top), abs=0.11)
    assert middle == pytest.approx((left + 0.6 * (right - left), bottom + 0.6 * (top - bottom)), abs=0.11)


def test_curves_beside_each_other_have_the_same_axes() -> None:
    """The short run ends where the long run has the same step, and has the same height at the same value."""
    short, long = _curve([1.0, 100.0], [2.0, 1.0]), _curve([1.0, 100.0, 300.0], [8.0, 2.0, -1.0])
    both = [short, long]
    (heights, points), (other_heights, others) = (_parse(curve, both) for curve in both)
    assert heights == other_heights
    assert [x for x, _ in points] == [x for x, _ in others[:2]] and points[0][1] == others[1][1]
    assert _parse(short)[0] != heights


@pytest.mark.parametrize("ideal", [False, True])
def test_a_single_point_is_a_level_line(ideal: bool) -> None:
    svg = ElementTree.fromstring(line_chart(_curve([5.0], [0.25]), ideal=ideal))
    (points,) = [_points(part) for part in svg.iter("path") if "--accent" in part.get("style", "")]
    assert len(points) == 2 and points[0][1] == points[1][1] and points[0][0] < points[1][0]


def test_equal_input_gives_equal_bytes_without_ids_and_addresses() -> None:
    chart = line_chart(_curve([1.0, 2.0], [0.5, 0.25]))
    assert chart == line_chart(_curve([1.0, 2.0], [0.5, 0.25]))
    assert not re.search(r" id=|url\(|href|http|<style|font-family|#0102", chart)
