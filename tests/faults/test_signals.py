"""A signal at any time loses no work, and SIGTERM and Ctrl-C end with a word on how to go on."""

import pytest

from faults.project import ON_PROCESSOR, Tiny
from faults.records import check, spread, wanted
from faults.signals import SIGNALS, Shot, shoot

pytestmark = pytest.mark.faults
REAL = ("refine_crf", "train_segmentation")
TIMES = 2


def test_signals(tiny: Tiny) -> None:
    shots = [
        Shot(tiny, stage, how, target, name, n)
        for stage in tiny.changes
        for how, target in (("alone", "process"), ("loaders", "group"))
        for name in SIGNALS
        for n in range(TIMES)
        if how == "alone" or stage not in ON_PROCESSOR
    ]
    shots += [
        Shot(tiny, stage, "command", target, name, 0)
        for stage in REAL
        for target in ("process", "group")
        for name in SIGNALS
    ]
    check(spread(shoot, [shot for shot in shots if wanted(shot.id)]))


def test_signals_to_dvc(tiny: Tiny) -> None:
    ways = (("process", "TERM"), ("process", "KILL"), ("group", "INT"), ("group", "KILL"))
    shots = [Shot(tiny, stage, "dvc", target, name, 0) for stage in REAL for target, name in ways]
    check(spread(shoot, [shot for shot in shots if wanted(shot.id)]))
