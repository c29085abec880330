"""What differs between runs: settings, figures, IoU of each class and training curves, as rows for a page and a text.

Differences are to the first run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpal.compare.changes import Gallery
from cpal.compare.facts import Facts, read_facts
from cpal.compare.runs import Places, Run
from cpal.evaluation.score_files import Figure
from cpal.report.charts import Chart, Curve
from cpal.report.page import STEPS, render
from cpal.report.words import CURVES, WITHOUT_TRUTH
from cpal.settings.profiles import shown

JUDGEMENT = "Judgement without ground truth"
# Of the files of metrics.
TITLES = STEPS | {"judgement": JUDGEMENT, "classifier": "Classifier", "prototypes": "Prototypes"}
NOTHING = "–"
LONGEST = 60  # characters of a value in the plain table; the page has it whole
TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Cell:
    """A figure of a run. `share`: in percent, for a bar; `change`: to the first run, None where there is none."""

    text: str
    share: float | None = None
    change: float | None = None
    difference: str = ""
    older: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table with a cell for each run."""

    title: str
    cells: Sequence[Cell]
    note: str = ""


@dataclass(frozen=True)
class Compared:
    """A run as the page names it. `code`: files of code that differ from the first run's."""

    name: str
    commit: str
    code: str
    outputs: str
    cure: str


@dataclass(frozen=True)
class Comparison:
    """What the page shows. `notes`: what stands against comparing the figures as they are."""

    runs: Sequence[Compared]
    notes: Sequence[str]
    settings: Sequence[Row]
    scores: Sequence[Row]
    classes: Sequence[tuple[str, Sequence[Row]]]
    figures: Sequence[tuple[str, Sequence[Row]]]
    curves: Mapping[str, Sequence[Curve]]
    gallery: Gallery

    @property
    def judgement(self) -> Sequence[Row]:
        """How good each class's masks seem without ground truth, 0 to 100; empty where no run has it."""
        return dict(self.classes).get(JUDGEMENT, ())

    @property
    def scored(self) -> bool:
        """Whether a run has an mIoU."""
        return any(cell.share is not None for row in self.scores for cell in row.cells)

    @property
    def older(self) -> bool:
        """Whether a figure is older than its run's settings."""
        tables = [self.scores, *(rows for _, rows in [*self.classes, *self.figures])]
        return any(cell.older for rows in tables for row in rows for cell in row.cells)


def compare(runs: Sequence[Run], places: Places, code: Sequence[str], gallery: Gallery) -> Comparison:
    """All that differs between runs; `code` names the files of code that differ from the first run's, for each run.

    Raises UserError if a file of the workspace is damaged.
    """
    facts, names = [read_facts(run, places) for run in runs], [run.name for run in runs]
    lines = [
        Compared(run.name, run.commit[:10] or "not committed", files, run.missing or "all there", run.cure)
        for run, files in zip(runs, code, strict=True)
    ]
    return Comparison(
        runs=lines,
        notes=list(_notes(names, facts)),
        settings=differing_settings(facts),
        scores=score_rows(facts),
        classes=list(class_rows(facts)),
        figures=list(figure_rows(facts)),
        curves=curve_rows(names, facts),
        gallery=gallery,
    )


def render_comparison(comparison: Comparison) -> str:
    """The whole page; it needs no network and has no script."""
    first, *others = [run.name for run in comparison.runs]
    sections = {
        "runs": "Runs",
        "changed_settings": "Settings that differ",
        "compared_scores": "Mean IoU",
        "compared_classes": "IoU of each class",
        "compared_images": "Images that changed",
        "training": "Training: the curves that differ",
        "compared_figures": "All figures",
    }
    if not comparison.curves:
        del sections["training"]
    charts = {
        title: [Chart(curve.name, "", curve, beside=group) for curve in group]
        for title, group in comparison.curves.items()
    }
    values = {"comparison": comparison, "classes": comparison.gallery.classes, "charts": charts}
    return render(
        "CPAL comparison", f"{', '.join(others)} compared with {first}.", sections, values, templates=[TEMPLATES]
    )


def differing_settings(facts: Sequence[Facts]) -> list[Row]:
    """The settings that are not the same in all runs, in the order of params.yaml."""
    keys = dict.fromkeys(key for run in facts for key in run.settings)
    rows = {key: [shown(run.settings[key]) if key in run.settings else NOTHING for run in facts] for key in keys}
    return [Row(key, [Cell(text) for text in texts]) for key, texts in rows.items() if len(set(texts)) > 1]


def score_rows(facts: Sequence[Facts]) -> list[Row]:
    """mIoU of each step, with a note of which images were scored where all runs have the same."""
    return [
        Row(title, _cells(facts, step, "miou", digits=1, bar=True), _only(_scored(facts, step)))
        for step, title in STEPS.items()
    ]


def _notes(names: Sequence[str], facts: Sequence[Facts]) -> Iterator[str]:
    """Steps whose mIoU is not of the same images in all runs, and files that could not be read."""
    for step, title in STEPS.items():
        scored = _scored(facts, step)
        if any(scored) and not _only(scored):
            of_runs = [f"{name}: {text}" for name, text in zip(names, scored, strict=True) if text]
            yield f"{title}: the mIoU is of other images in each run ({'; '.join(of_runs)})."
    for name, run in zip(names, facts, strict=True):
        if run.unread:
            yield f"{name}: written in another form and left out: {', '.join(run.unread)}."


def _scored(facts: Sequence[Facts], step: str) -> list[str]:
    """The split that was scored, and its number of images if all runs recorded it; empty where nothing was scored."""
    figures = [run.figures.get(step, {}) for run in facts]
    counted = all("scored.images" in of for of in figures if "scored.split" in of)
    return [
        str(of.get("scored.split", ""))
        + (f", {of['scored.images']} images" if "scored.images" in of and counted else "")
        for of in figures
    ]


def _only(texts: Sequence[str]) -> str:
    """The text that all runs with a text have; empty if they differ."""
    different = {text for text in texts if text}
    return different.pop() if len(different) == 1 else ""


def class_rows(facts: Sequence[Facts]) -> Iterator[tuple[str, list[Row]]]:
    """For each file of metrics with figures by class: its title, and a row for each class."""
    for name, title in TITLES.items():
        classes = dict.fromkeys(label for run in facts for label in run.classes.get(name, {}))
        if classes:
            values = {label: [run.classes.get(name, {}).get(label) for run in facts] for label in classes}
            older = [name in run.older for run in facts]
            rows = [Row(label, _numbers(cells, older, digits=1, bar=True)) for label, cells in values.items()]
            yield f"{title}, average precision" if name == "classifier" else title, rows


def figure_rows(facts: Sequence[Facts]) -> Iterator[tuple[str, list[Row]]]:
    """For each file of metrics: its title, and a row for each figure."""
    names = dict.fromkeys([*TITLES, *(name for run in facts for name in run.figures)])
    for name in names:
        keys = dict.fromkeys(key for run in facts for key in run.figures.get(name, {}))
        rows = []
        for key in keys:
            section, _, figure = key.rpartition(".")
            title, note = WITHOUT_TRUTH.get(figure, (key, "")) if section == "without_truth" else (key, "")
            rows.append(Row(title, _cells(facts, name, key, digits=3), note))
        if rows:
            yield TITLES.get(name, name), rows


def curve_rows(names: Sequence[str], facts: Sequence[Facts]) -> dict[str, list[Curve]]:
    """The runs' curves of the same kind beside each other: by title, a curve named as its run.

    Curves that are the same in all runs are left out.
    """
    kinds = dict.fromkeys(kind for run in facts for kind in run.curves)
    found = {}
    for kind in kinds:
        title = f"{kind[0]}: {CURVES.get(kind[1], (kind[1],))[0]}"
        curves = [run.curves.get(kind) for run in facts]
        if len({curve and (*curve.steps, *curve.values) for curve in curves}) == 1:
            continue
        found[title] = [
            Curve(name, curve.steps, curve.values) for name, curve in zip(names, curves, strict=True) if curve
        ]
    return found


def _cells(facts: Sequence[Facts], name: str, key: str, *, digits: int, bar: bool = False) -> list[Cell]:
    values = [run.figures.get(name, {}).get(key) for run in facts]
    return _numbers(values, [name in run.older for run in facts], digits=digits, bar=bar)


def _numbers(values: Sequence[Figure], older: Sequence[bool], *, digits: int, bar: bool = False) -> list[Cell]:
    """A cell for each run, with the difference to the first run's value where both are numbers."""
    cells, first = [], values[0]
    for place, (value, old) in enumerate(zip(values, older, strict=True)):
        if not isinstance(value, int | float):
            cells.append(Cell(NOTHING if value is None else value, older=old and value is not None))
            continue
        text = f"{value:.{digits}f}" if isinstance(value, float) else str(value)
        change = value - first if place and isinstance(first, int | float) else None
        difference = "" if change is None else f"{change:+z.{digits if isinstance(change, float) else 0}f}"
        difference = "=" if change == 0 else difference
        cells.append(Cell(text, value if bar else None, change, difference, old))
    return cells


def as_text(names: Sequence[str], rows: Sequence[Row], *, title: str) -> str:
    """A plain table: a column for each run, with the difference to the first one behind its figure."""
    table = [[title, *names]] + [
        [
            row.title,
            *(f"{_cut(cell.text)}{' *' if cell.older else ''} {cell.difference}".rstrip() for cell in row.cells),
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    return "\n".join("  ".join(f"{cell:<{n}}" for cell, n in zip(line, widths, strict=True)).rstrip() for line in table)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
