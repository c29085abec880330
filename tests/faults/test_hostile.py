"""Hostile settings, ids and files are refused, and run no code."""

import pytest

from faults.hostile import cases, run_case, run_poisoned
from faults.project import Tiny
from faults.records import FOUND, check, spread, stage_wanted, wanted
from faults.work import stopped

pytestmark = pytest.mark.faults


def test_hostile(tiny: Tiny) -> None:
    check(spread(run_case, [case for case in cases(tiny) if wanted(case.id)]))


@pytest.mark.parametrize("stage", ["first_round", "train_cam", "train_affinity", "train_segmentation"])
def test_poisoned_checkpoints(tiny: Tiny, stage: str) -> None:
    if not stage_wanted(stage):
        pytest.skip("not asked for")
    found = [run_poisoned(tiny, stage, project) for project in stopped(tiny, stage)]
    FOUND.extend(found)
    check(found)
