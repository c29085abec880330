"""Two runs of a stage at once both end with whole outputs, or one says that it waits for nobody."""

import pytest

from faults.project import Tiny
from faults.races import Race, race
from faults.records import check, spread, wanted

pytestmark = pytest.mark.faults
STAGES = ("prepare", "make_cams", "refine_crf", "teach_cam", "train_segmentation", "evaluate_seed")
REAL = ("refine_crf", "train_segmentation")
DELAYS = (0, 10, 30, 60, 100)  # milliseconds


def test_two_runs_at_once(tiny: Tiny) -> None:
    races = [Race(tiny, stage, delay, shared) for stage in STAGES for delay in DELAYS for shared in (False, True)]
    races += [
        Race(tiny, stage, delay, shared, True) for stage in REAL for delay in (0, 100) for shared in (False, True)
    ]
    check(spread(race, [item for item in races if wanted(item.id)]))
