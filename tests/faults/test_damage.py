"""A stage that reads a damaged file says which and what to do, or gives the right result all the same."""

import pytest

from faults.damage import damage_and_run, damages
from faults.project import OTHER, Tiny, build
from faults.records import check, spread, stage_wanted, wanted
from faults.work import damage_work, keeps_work, stopped, works

pytestmark = pytest.mark.faults


@pytest.fixture(scope="session")
def other() -> Tiny:
    """The same images, other settings of all that comes after."""
    return build("other", OTHER, alone=False)


def test_damaged_files(tiny: Tiny, other: Tiny) -> None:
    check(spread(damage_and_run, [item for item in damages(tiny, other) if wanted(item.id)]))


def test_damaged_work(tiny: Tiny) -> None:
    stages = [stage for stage in tiny.changes if keeps_work(tiny, stage) and stage_wanted(stage)]
    items = [item for stage in stages for project in stopped(tiny, stage) for item in works(tiny, stage, project)]
    check(spread(damage_work, [item for item in items if wanted(item.id)]))
