"""Which stages experiments run, counted by hand on a small pipeline, and the sentence on their time."""

from typing import Any

from cpal.running.times import Taken
from experiments.estimate import estimate, stage_runs

PIPELINE: dict[str, Any] = {
    "prepare": {"params": ["seed"], "outs": ["data/dataset"]},
    "train": {"deps": ["data/dataset", "code.py"], "params": ["hosts.${host}"], "outs": ["data/weights"]},
    "maps": {"deps": ["data/weights"], "params": ["topk"], "outs": ["data/cams"]},
    "evaluate": {"deps": ["${seeds.maps}"], "metrics": [{"data/m.json": {"cache": False}}]},
    "report": {"deps": ["data/m.json"], "outs": ["data/report"]},
}
BASE: dict[str, Any] = {
    "seed": 0,
    "topk": 5,
    "host": "irn",
    "hosts": {"irn": {"epochs": 3}, "amn": {"epochs": 9}},
    "seeds": {"maps": "data/cams"},
}


def runs(*changes: dict[str, Any]) -> list[str]:
    return sorted(stage_runs([(BASE | change, ["evaluate"]) for change in changes], PIPELINE))


def test_what_is_equal_runs_once() -> None:
    assert runs({}) == ["evaluate", "maps", "prepare", "train"]
    assert runs({}, {}) == runs({}), "the same experiment twice"
    assert runs({}, {"topk": 6}) == sorted([*runs({}), "maps", "evaluate"])
    assert runs({}, {"seed": 1}) == sorted(runs({}) * 2), "the seed changes the data"
    other = {"hosts": {"irn": {"epochs": 3}, "amn": {"epochs": 1}}}
    assert runs({}, other) == runs({}), "settings of a host that is not chosen"
    assert runs({}, {"host": "amn"}) == sorted([*runs({}), "train", "maps", "evaluate"])
    assert runs({"seeds": {"maps": "data/imported"}}) == ["evaluate"], "imported maps need no training"


def test_the_sentence() -> None:
    times = {name: Taken(60.0, 1.0, 1, 1) for name in ("prepare", "train", "evaluate")}
    planned = [(BASE | {"topk": topk}, ["evaluate"]) for topk in (5, 6)]
    assert estimate(planned, PIPELINE, times).startswith("no estimate of the time: maps has not run in this folder")
    times["maps"] = Taken(240.0, 1.0, 1, 1)
    text = "at most 12 min by the stages' last times in this folder, for 6 runs of stages"
    assert estimate(planned, PIPELINE, times) == text, "60 + 60 + 2 x 240 + 2 x 60 seconds"
