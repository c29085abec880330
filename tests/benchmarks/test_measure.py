"""The measurements' arithmetic, on functions that move a clock of their own."""

import math
from collections.abc import Callable, Iterator
from itertools import chain, repeat

import pytest

from benchmarks import measure
from benchmarks.measure import Comparison, Figure, Growth, Pair, Target, alternate, exponent, short


class FakeClock:
    """A clock that only its own works move: each by its next number of seconds."""

    def __init__(self) -> None:
        self.now, self.called = 0.0, ""

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: Iterator[float]) -> Callable[[], str]:
        def run() -> str:
            self.now += next(seconds)
            self.called += name
            return name

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """It is the processor's."""
    clock = FakeClock()
    monkeypatch.setitem(measure.CLOCKS, "processor", clock)
    return clock


def test_calls_alternate_and_every_other_round_is_turned_around(clock: FakeClock) -> None:
    calls = [clock.work(name, repeat(seconds)) for name, seconds in (("a", 3.0), ("b", 2.0))]
    times = alternate(calls, clock, rounds=4, seconds=10)
    assert clock.called == "abbaabba"
    assert times == [[3.0] * 4, [2.0] * 4]


def test_fast_calls_have_more_rounds_within_bounds(clock: FakeClock) -> None:
    calls = [clock.work("a", repeat(0.25)), clock.work("b", repeat(0.25))]
    assert len(alternate(calls, clock, rounds=5, seconds=4)[0]) == 8
    assert len(alternate([clock.work("a", repeat(0.0))], clock, rounds=5, seconds=4)[0]) == measure.MOST_ROUNDS


def compared(
    clock: FakeClock, target: Target | None, work: list[float], reference: list[float], factor: float = 1
) -> measure.Result:
    """A comparison whose first call of each side, which warms up, takes a second."""
    pair = Pair(
        clock.work("w", chain([1.0], work)),
        clock.work("r", chain([1.0], reference)),
        lambda found, expected: f"{found} and {expected}",
    )
    return Comparison("name", "work", "reference", target, lambda: pair, factor=factor).measure()


def test_the_value_is_the_median_of_the_ratios_and_not_the_ratio_of_the_medians(clock: FakeClock) -> None:
    """Other load that slows whole rounds down leaves the ratio as it is."""
    work, reference = [2.0, 40.0, 6.0, 3.0, 9.0], [1.0, 10.0, 2.0, 3.0, 1.0]
    found = compared(clock, Target("at most", 3), work, reference)
    assert found.value == 3.0  # of 2, 4, 3, 1, 9
    assert found.sides == "6 s / 2 s"
    assert found.target is not None and found.target.reached(found.value)
    assert found.agreement == "w and r"
    assert found.how == "processor, 5 rounds"


def test_a_speed_up_is_reference_over_work_times_the_factor(clock: FakeClock) -> None:
    found = compared(clock, Target("at least", 20), [1.0] * 5, [3.0] * 5, factor=4)
    assert found.value == 12.0 and found.sides == "1 s / 12 s"
    assert found.target is not None and not found.target.reached(found.value)


def test_sides_that_differ_are_told(clock: FakeClock) -> None:
    def agree(found: str, expected: str) -> str:
        raise AssertionError("maps differ by 0.1\nand more")

    pair = Pair(clock.work("w", repeat(1.0)), clock.work("r", repeat(1.0)), agree)
    found = Comparison("name", "work", "reference", None, lambda: pair).measure()
    assert found.agreement == "DIFFERENT: maps differ by 0.1"


def test_a_figure_is_the_median_with_the_words_of_the_round_that_gave_it() -> None:
    values = iter([(5.0, "five"), (1.0, "one"), (3.0, "three"), (2.0, "two"), (9.0, "nine")])
    found = Figure("name", "work", "", Target("at most", 2.9), "MB", lambda: next(values), "bytes").measure()
    assert (found.value, found.sides, found.how) == (3.0, "three", "bytes, 5 rounds")
    assert found.target is not None and not found.target.reached(found.value)


def test_exponent_of_powers() -> None:
    assert exponent({size: 7 * size**1.5 for size in (100, 400, 1600)}) == pytest.approx(1.5)
    assert exponent({10: 2.0, 1000: 2.0}) == pytest.approx(0)
    # By hand: through (0, 0), (1, 0), (2, 3) in powers of e the best slope is 3 / 2.
    assert exponent({1: 1.0, math.e: 1.0, math.e**2: math.e**3}) == pytest.approx(1.5)


@pytest.mark.parametrize(("quick", "sizes"), [(False, [10, 20, 40]), (True, [10, 20])])
def test_growth_leaves_the_largest_size_out(clock: FakeClock, quick: bool, sizes: list[int]) -> None:
    growth = Growth("name", "work", "images", (10, 20, 40), lambda size: clock.work("g", repeat(size**2.0)))
    seconds, power = growth.measure(quick=quick)
    assert seconds == {size: size**2 for size in sizes}
    assert power == pytest.approx(2)


def test_short() -> None:
    assert [short(value) for value in (0.012345, 1.0, 12.345, 123456.7)] == ["0.0123", "1", "12.3", "123457"]
