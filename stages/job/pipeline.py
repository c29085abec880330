"""The stages of dvc.yaml."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cpal.errors import UserError
from cpal.settings.yaml_files import read_yaml
from stages.job.paths import PIPELINE

CURE = f"restore it with: git checkout {PIPELINE}"


def read_pipeline(folder: Path = Path()) -> dict[str, dict[str, Any]]:
    """The entries of the stages in a project's dvc.yaml, by name and in order. Raises UserError without it."""
    path = folder / PIPELINE
    content = read_yaml(path, missing=f"no such file; run this in the project's folder, or {CURE}", cure=CURE)
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise UserError(f"{path}: holds no stages; {CURE}")
    stages: dict[str, dict[str, Any]] = content["stages"]
    return stages


def outs(entry: Mapping[str, Any]) -> Iterator[str]:
    """The paths that a stage writes: its outs, metrics and plots."""
    for kind in ("outs", "metrics", "plots"):
        for out in entry.get(kind, ()):
            yield out if isinstance(out, str) else next(iter(out))
