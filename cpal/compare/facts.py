"""What a run recorded: its settings, figures, IoU of each class and training curves, read from its files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpal.compare.runs import Places, Run
from cpal.errors import UserError, reading
from cpal.evaluation.score_files import Figure, join_details, read_metrics
from cpal.report.charts import Curve
from cpal.report.provenance import locked_stages, stale_stages
from cpal.report.run_files import read_curves, read_diagnostics
from cpal.settings.profiles import plain_yaml

# Stages that write files of metrics; a file NAME.json that is not here is of evaluate_NAME.
MAKERS = {"classifier": "evaluate_labels", "prototypes": "fit_prototypes", "judgement": "report"}
BY_CLASS, DETAILS = ("iou", "ap", "score"), "details"  # parts of a step, after the last _ of a file's name
TRAININGS = {"train_cam": "Classifier", "train_segmentation": "Segmentation"}
Figures = dict[str, Figure]


@dataclass(frozen=True)
class Facts:
    """What a run recorded. `figures` and `classes` (in percent, by class) are by file of metrics, such as `seed`.

    `settings` are by key, such as `cpal.topk`. `curves` are by training and name. `older` are the files of metrics that
    were made with other settings or inputs than the run has now, as a partial experiment leaves them. `unread` are
    files of metrics that a revision wrote in another form.
    """

    settings: Mapping[str, Any]
    figures: Mapping[str, Figures]
    classes: Mapping[str, Mapping[str, float]]
    curves: Mapping[tuple[str, str], Curve]
    older: frozenset[str]
    unread: Sequence[str] = ()


def read_facts(run: Run, places: Places) -> Facts:
    """All that a run recorded; what it lacks is left out. Raises UserError if a file is damaged.

    Of a revision, metrics that cannot be read are left out: they may be of an earlier version of the code, and
    nobody can mend a commit.
    """
    try:
        return _facts(run, places)
    except UserError as error:
        text = str(error).replace(f"{run.folder}/", "") if run.commit else str(error)
        raise UserError(f"{run.name}: {text}") from None


def _facts(run: Run, places: Places) -> Facts:
    params, lock = run.folder / places.params, run.folder / places.lock
    settings = plain_yaml(params.read_text(encoding="utf-8"), name=str(params)) if params.exists() else {}
    folder = run.folder / places.metrics
    with locked_stages(lock) as stages:
        stale = stale_stages(stages, settings)
        older = {_step(Path(out["path"])) for name in stale for out in stages[name].get("outs", ())}
    figures: dict[str, Figures] = {}
    classes: dict[str, dict[str, float]] = {}
    unread = []
    for path in sorted(folder.glob("*.json")):
        try:
            _read_metrics(path, figures, classes)
        except UserError:
            if not run.commit:
                raise
            unread.append(path.relative_to(run.folder).as_posix())
    return Facts(flat(settings), figures, classes, _curves(folder), frozenset(older), unread)


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
