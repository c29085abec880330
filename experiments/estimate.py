"""How long experiments will take, from the times that the stages took in this folder."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cpal.report.provenance import setting
from cpal.running.times import Taken, duration
from stages.job.pipeline import outs

Pipeline = Mapping[str, Mapping[str, Any]]  # the stages of dvc.yaml
Settings = Mapping[str, Any]  # the content of params.yaml
Planned = tuple[Settings, Sequence[str]]  # an experiment's settings and targets


def estimate(experiments: Sequence[Planned], pipeline: Pipeline, times: Mapping[str, Taken]) -> str:
    """A sentence on how long the experiments take at most, one after the other."""
    runs = stage_runs(experiments, pipeline)
    if unknown := sorted(set(runs) - times.keys()):
        return f"no estimate of the time: {unknown[0]} has not run in this folder yet; dvc repro runs all stages"
    seconds = sum(times[stage].seconds for stage in runs)
    return f"at most {duration(seconds)} by the stages' last times in this folder, for {len(runs)} runs of stages"


def stage_runs(experiments: Iterable[Planned], pipeline: Pipeline) -> list[str]:
    """The stages that run, a name for each time.

    A stage runs once for equal settings and inputs: DVC takes the result from its cache the next time. Trainings that
    differ only in settings which they do not use are shared as well, which is not known here.
    """
    makers = {path: name for name, stage in pipeline.items() for path in outs(stage)}
    seen: dict[str, str] = {}
    for settings, targets in experiments:
        keys: dict[str, str] = {}
        for target in targets:
            _add_key(target, settings, pipeline, makers, keys)
        seen |= {key: name for name, key in keys.items()}
    return list(seen.values())


def _add_key(
    name: str, settings: Settings, pipeline: Pipeline, makers: Mapping[str, str], keys: dict[str, str]
) -> None:
    """Add what determines the result of a stage, as a hash, and before it that of the stages whose results it reads."""
    if name in keys:
        return
    stage = pipeline[name]
    deps = [dep.replace("${seeds.maps}", str(setting(settings, "seeds.maps"))) for dep in stage.get("deps", ())]
    before = sorted({makers[dep] for dep in deps if dep in makers})
    for other in before:
        _add_key(other, settings, pipeline, makers, keys)
    read = [param.replace("${host}", str(settings.get("host"))) for param in stage.get("params", ())]
    content = [name, [setting(settings, param) for param in read], [keys[other] for other in before]]
    keys[name] = hashlib.sha256(repr(content).encode()).hexdigest()
