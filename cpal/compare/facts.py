"""What a run recorded: its settings, figures, IoU of each class and training curves, read from its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpal.compare.runs import Places, Run
from cpal.errors import UserError, reading
from cpal.evaluation.score_files import Figure, join_details, read_metrics
from cpal.report.page import Curve
from cpal.report.provenance import LARGEST, RESTORE
from cpal.report.run_files import read_curves, read_diagnostics
from cpal.settings.profiles import plain_yaml
from cpal.settings.yaml_files import read_yaml

MAKERS = {
    "classifier": "evaluate_labels",
    "prototypes": "fit_prototypes",
    "judgement": "report",
}  # stages; other files: evaluate_NAME
BY_CLASS, DETAILS = ("iou", "ap", "score"), "details"  # parts of a step, after the last _ of a file's name
TRAININGS = {"train_cam": "Classifier", "train_segmentation": "Segmentation"}
Figures = dict[str, Figure]


@dataclass(frozen=True)
class Facts:
    """What a run recorded. `figures` and `classes` (in percent, by class) are by file of metrics, such as `seed`.

    `settings` are by key, such as `cpal.topk`. `curves` are by training and name. `older` are the files of metrics that
    were made with other settings or inputs than the run has now, as a partial experiment leaves them.
    """

    settings: Mapping[str, Any]
    figures: Mapping[str, Figures]
    classes: Mapping[str, Mapping[str, float]]
    curves: Mapping[tuple[str, str], Curve]
    older: frozenset[str]


def read_facts(run: Run, places: Places) -> Facts:
    """All that a run recorded; what it lacks is left out. Raises UserError if a file is damaged."""
    try:
        return _facts(run, places)
    except UserError as error:
        text = str(error).replace(f"{run.folder}/", "") if run.commit else str(error)
        raise UserError(f"{run.name}: {text}") from None


def _facts(run: Run, places: Places) -> Facts:
    params, lock = run.folder / places.params, run.folder / places.lock
    settings = plain_yaml(params.read_text(encoding="utf-8"), name=str(params)) if params.exists() else {}
    content = read_yaml(lock, missing="", cure=RESTORE, largest=LARGEST) if lock.exists() else {"stages": {}}
    try:
        stages, folder = content["stages"], run.folder / places.metrics
        stale = stale_stages(stages, settings)
        older = {_step(Path(out["path"])) for name in stale for out in stages[name].get("outs", ())}
    except (TypeError, KeyError, AttributeError):
        raise UserError(f"{lock}: damaged; {RESTORE}") from None
    figures: dict[str, Figures] = {}
    classes: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("*.json")):
        _read_metrics(path, figures, classes)
    return Facts(flat(settings), figures, classes, _curves(folder), frozenset(older))


def _read_metrics(path: Path, figures: dict[str, Figures], classes: dict[str, dict[str, float]]) -> None:
    """Add a file of metrics: one row of figures, a table of details, or a table with a row for each class."""
    kind = dict[str, Figure] | list[dict[str, Figure]]
    step, part = _step(path), path.stem.rpartition("_")[2]
    stage = MAKERS.get(step, f"evaluate_{step}")
    content = read_metrics(path, kind, stage=stage)
    with reading(path, stage=stage):
        if part in BY_CLASS:
            classes[step] = {row["class"]: row[part] for row in content}
        elif part == DETAILS:
            figures[step] = flat(join_details({}, content)) | figures.get(step, {})
        else:
            row = content[0] if isinstance(content, list) else content
            figures[step] = figures.get(step, {}) | row


def _step(path: Path) -> str:
    """The step that a file of metrics is of: `seed` of seed.json, seed_details.json and seed_iou.json."""
    name, _, part = path.stem.rpartition("_")
    return name if part in (*BY_CLASS, DETAILS) else path.stem


def _curves(folder: Path) -> dict[tuple[str, str], Curve]:
    found = {}
    for training, title in TRAININGS.items():
        for curve in read_curves(folder / training) if (folder / training).is_dir() else ():
            found[title, curve.name] = curve
    path = folder / "train_cam" / "diagnostics.json"
    for curve in read_diagnostics(path) if path.exists() else ():
        found["Prototypes, by epoch", curve.name] = curve
    return found


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `section.key` -> value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def stale_stages(stages: Mapping[str, Any], settings: Mapping[str, Any]) -> set[str]:
    """Stages of a dvc.lock that ran with other settings, or on another input, than the run has now.

    `stages` is the content of the lock. Code is not compared.
    """
    made = {out["path"]: (name, out.get("md5")) for name, stage in stages.items() for out in stage.get("outs", ())}
    stale: set[str] = set()
    for name, stage in stages.items():
        recorded = [pair for values in stage.get("params", {}).values() for pair in values.items()]
        if any(setting(settings, key) != value for key, value in recorded):
            stale.add(name)
        if any(made.get(dep["path"], (name, dep.get("md5")))[1] != dep.get("md5") for dep in stage.get("deps", ())):
            stale.add(name)
    while (
        more := {
            name
            for name, stage in stages.items()
            if any(made.get(dep["path"], ("",))[0] in stale for dep in stage.get("deps", ()))
        }
        - stale
    ):
        stale |= more
    return stale


def setting(settings: Mapping[str, Any], key: str) -> Any:
    found: Any = settings
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
