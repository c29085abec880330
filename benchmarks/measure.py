"""Measurements: two functions called in turns, figures repeated, and how a cost grows with a size.

The machine is often shared, so that seconds of two runs do not compare. Here both sides of a comparison alternate in
one run, and the ratio is the median of the ratios of the rounds.
"""

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, NamedTuple

ROUNDS = 5  # at least
MOST_ROUNDS = 51
SECONDS = 4.0  # a fast pair is repeated for about so long

Call = Callable[[], Any]
Clock = Literal["processor", "wall"]
CLOCKS: dict[Clock, Callable[[], float]] = {"processor": time.process_time, "wall": time.perf_counter}


class Pair(NamedTuple):
    """Work and reference on the same inputs. `agree` takes both results and says how well they agree.

    It raises AssertionError where they differ. `close` removes what `make` left behind.
    """

    work: Call
    reference: Call
    agree: Callable[[Any, Any], str]
    close: Callable[[], object] = lambda: None


class Target(NamedTuple):
    """`limit` of a value: "at most" or "at least"."""

    kind: Literal["at most", "at least"]
    limit: float

    def reached(self, value: float) -> bool:
        return value <= self.limit if self.kind == "at most" else value >= self.limit


class Result(NamedTuple):
    """A row of the table. `value` is compared with `target`; `unit` is x for ratios of times."""

    name: str
    work: str
    reference: str
    sides: str
    value: float
    unit: str
    target: Target | None
    how: str
    agreement: str


@dataclass(frozen=True)
class Comparison:
    """A row that compares two functions. `make` builds their inputs, and runs only if the row is chosen.

    The value is work / reference with the target "at most", else reference / work. `factor`: how many times the
    reference would have to be called to do the whole work. Slow rows are left out with --quick. `rounds`: at least so
    many.
    """

    name: str
    work: str
    reference: str
    target: Target | None
    make: Callable[[], Pair]
    clock: Clock = "processor"
    factor: float = 1
    slow: bool = False
    rounds: int = ROUNDS

    def measure(self) -> Result:
        pair = self.make()
        try:
            agreement = pair.agree(pair.work(), pair.reference())  # also warms both up
        except AssertionError as error:
            agreement = f"DIFFERENT: {str(error).splitlines()[0] if str(error) else 'not equal'}"
        work, reference = alternate([pair.work, pair.reference], CLOCKS[self.clock], rounds=self.rounds)
        pair.close()
        reference = [self.factor * seconds for seconds in reference]
        speedup = self.target is not None and self.target.kind == "at least"
        sides = (reference, work) if speedup else (work, reference)
        value = median(first / second for first, second in zip(*sides, strict=True))
        seconds = f"{short(median(work))} s / {short(median(reference))} s"
        how = f"{self.clock}, {len(work)} rounds"
        return Result(self.name, self.work, self.reference, seconds, value, "x", self.target, how, agreement)


@dataclass(frozen=True)
class Figure:
    """A row that measures one value, such as bytes or a share; bytes are the same each time, and measured once."""

    name: str
    work: str
    reference: str
    target: Target | None
    unit: str
    measure_once: Callable[[], tuple[float, str]]
    how: str
    slow: bool = False
    rounds: int = ROUNDS

    def measure(self) -> Result:
        found = [self.measure_once() for _ in range(self.rounds)]
        value = median(value for value, _ in found)
        nearest = min(found, key=lambda pair: abs(pair[0] - value))
        how = self.how if self.rounds == 1 else f"{self.how}, {self.rounds} rounds"
        return Result(self.name, self.work, self.reference, nearest[1], value, self.unit, self.target, how, "")


@dataclass(frozen=True)
class Growth:
    """How the cost of a work grows with a size. `make(size)` gives the work of this size."""

    name: str
    work: str
    variable: str
    sizes: tuple[int, ...]
    make: Callable[[int], Call]

    def measure(self, *, quick: bool) -> tuple[dict[int, float], float]:
        """Median processor seconds by size, and the exponent. `quick` leaves the largest size out."""
        sizes = self.sizes[:-1] if quick and len(self.sizes) > 2 else self.sizes
        works = [self.make(size) for size in sizes]
        for work in works:
            work()
        times = alternate(works, CLOCKS["processor"])
        seconds = {size: median(times_) for size, times_ in zip(sizes, times, strict=True)}
        return seconds, exponent(seconds)


def alternate(
    calls: Sequence[Call], clock: Callable[[], float], *, rounds: int = ROUNDS, seconds: float = SECONDS
) -> list[list[float]]:
    """Seconds of each call, by round: all calls in each round, every other round in the opposite order.

    There are at least `rounds` rounds, and more of fast calls until about `seconds` have passed.
    """
    times: list[list[float]] = [[] for _ in calls]
    order = list(range(len(calls)))
    enough, done = rounds, 0
    gc.collect()
    while done < enough:
        for index in order:
            gc.disable()
            started = clock()
            calls[index]()
            times[index].append(clock() - started)
            gc.enable()
        order.reverse()
        done += 1
        if done == 1:
            spent = sum(column[0] for column in times)
            enough = max(rounds, min(MOST_ROUNDS, math.ceil(seconds / max(spent, 1e-9))))
    return times


def exponent(seconds: Mapping[Any, float]) -> float:
    """Slope of the line through log size and log seconds, by least squares."""
    x, y = [math.log(size) for size in seconds], [math.log(value) for value in seconds.values()]
    x_mean, y_mean = sum(x) / len(x), sum(y) / len(y)
    return sum((a - x_mean) * (b - y_mean) for a, b in zip(x, y, strict=True)) / sum((a - x_mean) ** 2 for a in x)


def short(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
