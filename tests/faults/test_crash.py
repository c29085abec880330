"""Killed before each of its changes to files, a stage started again ends with the bytes of an undisturbed run."""

import pytest

from faults.crash import crash_and_rerun, points
from faults.project import Tiny
from faults.records import check, spread, wanted
from faults.watch import Crash

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("crash", ["kill", "torn", "power"])
def test_crash(tiny: Tiny, crash: Crash) -> None:
    check(spread(crash_and_rerun, [point for point in points(tiny, crash) if wanted(point.id)]))
