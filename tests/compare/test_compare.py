"""The comparison of runs of a small project with git, DVC's cache and an experiment, whose masks are made by hand."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpal.compare.changes import Gallery, compare_images, shared_images
from cpal.compare.comparison import Cell, Comparison, Row, as_text, compare, curve_rows, render_comparison
from cpal.compare.facts import Facts, read_facts
from cpal.compare.runs import Run, open_runs
from cpal.data.dataset import Dataset, read_dataset, write_dataset
from cpal.data.masks import read_mask, write_mask
from cpal.errors import UserError
from cpal.evaluation.score_files import write_scores
from cpal.files import write_json
from cpal.report.charts import Curve
from cpal.report.provenance import stale_stages
from html_page import Page
from stages.compare import PLACES, print_tables

ROOT = Path(__file__).parents[2]
PIPELINE = """
stages:
  prepare: {cmd: "true", params: [seed], outs: [data/dataset]}
  write_pseudo_masks: {cmd: "true", params: [pseudo_mask], deps: [data/dataset], outs: [data/pseudo_masks]}
  predict_segmentation: {cmd: "true", deps: [data/pseudo_masks], outs: [data/predictions]}
  evaluate_segmentation:
    cmd: "true"
    deps: [data/predictions]
    metrics: [data/metrics/segmentation.json: {cache: false}]
  evaluate_pseudo_mask:
    cmd: "true"
    deps: [data/pseudo_masks]
    metrics: [data/metrics/pseudo_mask.json: {cache: false}, data/metrics/pseudo_mask_iou.json: {cache: false}]
"""
PREDICTED = {"e", "f"}  # the validation images


def settings(confidence: float, steps: list[int]) -> str:
    return json.dumps({"seed": 0, "pseudo_mask": {"min_confidence": confidence}, "steps": steps, "same": None})


def write_results(miou: float, iou: dict[str, float], ends: dict[str, int]) -> None:
    """Masks equal to the ground truth, with background below the row `ends` of an image; and the metrics."""
    dataset = read_dataset(Path("data/dataset"))
    for record in dataset.records:
        mask = read_mask(dataset.mask_path(record))
        mask[ends.get(record.image_id, 1000) :] = 0
        folder = "predictions" if record.split == "val" else "pseudo_masks"
        write_mask(Path("data", folder, f"{record.image_id}.png"), mask)
    rows = [{"class": name, "iou": value} for name, value in iou.items()]
    details: dict[str, dict[str, Any]] = {
        "without_truth": {"coverage": 30.0 + miou / 100},
        "scored": {"split": "train"},
    }
    write_scores(Path("data/metrics"), "pseudo_mask", {"miou": miou, "pixel_accuracy": 90.0}, rows, details)
    scores = {"miou": miou / 2, "pixel_accuracy": 80.0, "train": 70.0}
    write_json(Path("data/metrics/segmentation.json"), scores)
    write_json(Path("data/metrics/classifier.json"), [{"map": 97.25, "images": 2}])
    write_json(Path("data/metrics/classifier_ap.json"), [{"class": "red", "ap": 88.5}])
    for name in ("train_cam", "train_segmentation"):
        curves = Path("data/metrics", name, "plots/metrics")
        curves.mkdir(parents=True, exist_ok=True)
        (curves / "loss.tsv").write_text(f"step\tloss\n1\t{miou / 10}\n2\t{miou / 20}\n")


def call(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Dataset) -> Iterator[Path]:
    """HEAD, the experiment `thick` and a workspace that differs from both. Image a is the one that changes most."""
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    os.chdir(folder)
    call("git", "init", "-q")
    call("git", "config", "user.email", "t@t")
    call("git", "config", "user.name", "t")
    call("dvc", "init", "-q")
    shutil.copytree(tiny_dataset.mask_root, "data/dataset")
    Path("dvc.yaml").write_text(PIPELINE)
    Path(".gitignore").write_text("results/\n")
    Path("params.yaml").write_text(settings(0.5, [1, 2]))
    write_results(50.0, {"background": 80.0, "red": 20.0}, {})
    call("dvc", "commit", "-fq")
    call("git", "add", "--all")
    call("git", "commit", "-qm", "first")
    Path("params.yaml").write_text(settings(0.9, [1, 2]))
    write_results(47.5, {"background": 85.0, "red": 10.0}, {"a": 0, "c": 29, "e": 0})
    call("dvc", "exp", "save", "-f", "-n", "thick")
    Path("params.yaml").write_text(settings(0.7, [1, 3]))
    write_results(60.0, {"background": 90.0, "green": 30.0}, {"a": 15})
    yield folder
    os.chdir(before)
    os.environ["PATH"] = path


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def each(what: str, function: Any, records: Any) -> list[Any]:
    return [function(record) for record in records]


def compared(names: list[str], scratch: Path, *, images: int = 10) -> Comparison:
    runs = open_runs(names, scratch, PLACES)
    return compare(runs, PLACES, ["none"] * len(runs), compare_images(runs, PLACES, each, images=images))


def cells(comparison: Comparison, name: str) -> list[tuple[str, str]]:
    tables = [comparison.settings, comparison.scores, *(rows for _, rows in comparison.figures)]
    row = next(row for rows in tables for row in rows if row.title == name)
    return [(cell.text, cell.difference) for cell in row.cells]


def test_settings_and_scores_beside_each_other(here: Path, tmp_path: Path) -> None:
    found = compared(["HEAD", "thick", "workspace"], tmp_path)
    assert [row.title for row in found.settings] == ["pseudo_mask.min_confidence", "steps"]
    assert cells(found, "pseudo_mask.min_confidence") == [("0.5", ""), ("0.9", ""), ("0.7", "")]
    assert cells(found, "steps") == [("[1, 2]", ""), ("[1, 2]", ""), ("[1, 3]", "")]
    assert cells(found, "Pseudo-masks") == [("50.0", ""), ("47.5", "-2.5"), ("60.0", "+10.0")]
    assert cells(found, "Segmentation") == [("25.0", ""), ("23.8", "-1.2"), ("30.0", "+5.0")]
    assert cells(found, "Seeds") == [("–", "")] * 3
    assert cells(found, "map") == [("97.250", ""), ("97.250", "="), ("97.250", "=")]
    assert cells(found, "Pixels with a class") == [("30.500", ""), ("30.475", "-0.025"), ("30.600", "+0.100")]
    by_class = {title: {row.title: [cell.text for cell in row.cells] for row in rows} for title, rows in found.classes}
    assert by_class == {
        "Pseudo-masks": {
            "background": ["80.0", "85.0", "90.0"],
            "red": ["20.0", "10.0", "–"],
            "green": ["–", "–", "30.0"],
        },
        "Classifier, average precision": {"red": ["88.5"] * 3},
    }
    first, second = found.curves["Classifier: Loss"][:2]
    assert (first.name, list(first.values), second.name) == ("HEAD", [5.0, 2.5], "thick")
    assert list(second.values) == [4.75, 2.375]


def test_without_ground_truth_the_judgement_is_compared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    runs = []
    for number, score in enumerate((40.0, 72.5)):
        metrics = tmp_path / str(number) / "data/metrics"
        metrics.mkdir(parents=True)
        rows = [{"class": "red", "score": score, "judgement": "doubt"}, {"class": "blue", "score": 90.0}]
        write_json(metrics / "judgement_score.json", rows)
        runs.append(Run(f"run{number}", "0" * 40, tmp_path / str(number)))
    comparison = compare(runs, PLACES, ["none"] * 2, Gallery((), (), ()))
    print_tables(comparison)
    assert "judgement, 0 to 100  run0  run1\nred                  40.0  72.5 +32.5\n" in capsys.readouterr().out


def test_the_worst_changes_come_first(here: Path, tmp_path: Path) -> None:
    """Image a of 40 x 33 shows a box of 20 x 16 in rows 5 to 24; `thick` takes all of it away, the workspace half.

    Without the box, the IoU of background is 1000 / 1320, and that of the class is 0.
    """
    found = compared(["HEAD", "thick", "workspace"], tmp_path).gallery
    masks, predictions = found.groups
    assert [image.name for image in masks.images] == ["a", "c"] and [i.name for i in predictions.images] == ["e"]
    assert list(masks.images[0].layers) == ["Image", "Ground truth", "HEAD", "thick", "workspace"]
    lost, half = 100 * (1000 / 1320) / 2, 100 * (1000 / 1160 + 160 / 320) / 2
    assert masks.images[0].notes == {
        "HEAD": "mIoU 100.0",
        "thick": f"mIoU {lost:.1f}, {lost - 100:+.1f}, {32000 / 1320:.1f}% of the pixels differ",
        "workspace": f"mIoU {half:.1f}, {half - 100:+.1f}, {16000 / 1320:.1f}% of the pixels differ",
    }
    assert masks.counts == [
        "thick: 2 of 5 images differ; the mIoU of 2 fell by 1 or more, that of 0 rose by as much.",
        "workspace: 1 of 5 images differ; the mIoU of 1 fell by 1 or more, that of 0 rose by as much.",
    ]
    few = compared(["HEAD", "thick"], tmp_path / "two", images=1).gallery.groups[0]
    assert [image.name for image in few.images] == ["a"] and few.counts == masks.counts[:1]


def test_nothing_is_checked_out(here: Path, tmp_path: Path) -> None:
    def state() -> tuple[str, dict[str, bytes]]:
        files = [path for path in Path().rglob("*") if path.is_file() and path.parts[0] not in (".git", ".dvc")]
        return call("git", "status", "--porcelain"), {str(path): path.read_bytes() for path in files}

    before = state()
    compared(["thick", "HEAD"], tmp_path)
    assert state() == before


def test_the_page_needs_nothing_from_outside(here: Path, tmp_path: Path) -> None:
    text = render_comparison(compared(["HEAD", "thick"], tmp_path))
    page = Page(text)
    (policy,) = [a["content"] or "" for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "script" not in [tag for tag, _ in page.tags] and policy.startswith("default-src 'none'")
    assert all((a.get("src") or "data:").startswith("data:") for _, a in page.tags)
    assert all((a.get("href") or "#").startswith("#") for _, a in page.tags)
    assert "url(" not in text and str(here) not in text and str(tmp_path) not in text
    assert ["Pseudo-maskstrain", "50.0", "47.5 -2.5"] in page.rows
    assert ["pseudo_mask.min_confidence", "0.5", "0.9"] in page.rows
    assert page.headings() == ["h1", *["h2"] * 7]
    pictures = [a for tag, a in page.tags if tag == "img"]
    assert len(pictures) == 3 * 4 and all(a["alt"] for a in pictures), "photograph, truth and two results each"


def test_outputs_that_are_not_in_the_cache(here: Path, tmp_path: Path) -> None:
    (md5,) = set(re.findall(r"path: data/pseudo_masks\n\s+hash: md5\n\s+md5: (\S+)", _lock("thick")))
    path = Path(".dvc/cache/files/md5", md5[:2], md5[2:])
    path.rename(tmp_path / "away")
    try:
        found = compared(["HEAD", "thick"], tmp_path / "scratch")
    finally:
        (tmp_path / "away").rename(path)
    assert found.gallery.groups == []
    assert found.gallery.why == [
        "thick: data/pseudo_masks not in DVC's cache; make them again: dvc exp apply thick, then dvc repro.",
        "Images need the outputs of two runs.",
    ]
    assert cells(found, "Pseudo-masks") == [("50.0", ""), ("47.5", "-2.5")], "scores are in git"
    assert "dvc exp apply thick" in render_comparison(found)


def _lock(revision: str) -> str:
    import dvc.api

    return str(dvc.api.read("dvc.lock", rev=revision))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["HEAD", "thikc"], "thikc: no git revision and no DVC experiment; choose thick, workspace, HEAD, "),
        (["HEAD", "HEAD"], "HEAD: named twice"),
    ],
)
def test_unknown_runs_end_in_one_message(here: Path, tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UserError) as error:
        open_runs(names, tmp_path, PLACES)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_the_command(here: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stages.compare", *arguments]
        return subprocess.run(
            command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, cwd=here
        )

    done = run("thick", "--workers", "1", "--images", "1")
    assert done.returncode == 0, done.stderr
    assert "Pseudo-masks  47.5   60.0 * +12.5\n" in done.stdout
    assert "pseudo_mask.min_confidence  0.9     0.7" in done.stdout
    assert Path("results/comparison.html").is_file()
    assert "judgement" not in done.stdout
    ways = [run(*names, "--images", "0") for names in ((), ("workspace",), ("HEAD", "workspace"))]
    assert [way.returncode for way in ways] == [0, 0, 0] and len({way.stdout for way in ways}) == 1
    done = run("nothing-like-it")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: nothing-like-it: no git revision") and done.stderr.count("\n") == 1


def test_a_folder_without_dvc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no DVC project here; run this command in the project's folder"):
        open_runs(["HEAD"], tmp_path, PLACES)


def test_the_documented_table_of_experiments_fits_in_120_columns(here: Path) -> None:
    """The command of docs/commands.md: the final score and the settings, none of them cut."""
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^dvc exp show .*$", text, re.MULTILINE)
    done = subprocess.run(
        shlex.split(command), env=os.environ | {"COLUMNS": "120"}, check=True, stdout=subprocess.PIPE, text=True
    )
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 120 and "…" not in done.stdout
    assert lines[1].split() == [
        *("Experiment", "data/metrics/segmentation.json:miou", "pseudo_mask.min_confidence", "steps")
    ]
    (row,) = [line.split() for line in lines if "[thick]" in line]
    assert row[-4:] == ["23.75", "0.9", "[1,", "2]"]


def test_images_that_are_not_the_same_are_left_out(tiny_dataset: Dataset) -> None:
    first, *rest = tiny_dataset.records
    other = Dataset(**(vars(tiny_dataset) | {"records": (type(first)(**(vars(first) | {"sha256": "0"})), *rest[1:])}))
    assert [r.image_id for _, r in shared_images([tiny_dataset, other])] == [r.image_id for r in rest[1:]]


def test_what_a_partial_experiment_left_is_marked() -> None:
    stages: dict[str, Any] = {
        "a": {"params": {"params.yaml": {"k": 1, "s.t": 2}}, "outs": [{"path": "x", "md5": "1"}]},
        "b": {
            "deps": [{"path": "x", "md5": "1"}, {"path": "code.py", "md5": "9"}],
            "outs": [{"path": "y", "md5": "2"}],
        },
        "c": {"deps": [{"path": "y", "md5": "2"}], "outs": [{"path": "z", "md5": "3"}]},
        "d": {"params": {"params.yaml": {"k": 1}}},
    }
    assert stale_stages(stages, {"k": 1, "s": {"t": 2}}) == set()
    assert stale_stages(stages, {"k": 1, "s": {"t": 3}}) == {"a", "b", "c"}
    assert stale_stages(stages, {"k": 2, "s": {"t": 2}}) == {"a", "b", "c", "d"}
    assert stale_stages(stages, {"k": 1, "s": 5}) == {"a", "b", "c"}
    moved = stages | {"b": stages["b"] | {"deps": [{"path": "x", "md5": "0"}]}}
    assert stale_stages(moved, {"k": 1, "s": {"t": 2}}) == {"b", "c"}, "b ran on another x"


def test_curves_that_are_the_same_are_left_out() -> None:
    def facts(**curves: list[float]) -> Facts:
        found = {("Segmentation", name): Curve(name, [1, 2], values) for name, values in curves.items()}
        return Facts({}, {}, {}, found, frozenset())

    runs = [facts(same=[2, 1], loss=[3, 2]), facts(same=[2, 1], loss=[3, 1], new=[0, 1])]
    found = curve_rows(["first", "second"], runs)
    assert {title: [(curve.name, curve.values) for curve in curves] for title, curves in found.items()} == {
        "Segmentation: Loss": [("first", [3, 2]), ("second", [3, 1])],
        "Segmentation: new": [("second", [0, 1])],
    }


def test_older_figures_have_a_star(here: Path, tmp_path: Path) -> None:
    """The workspace's masks were never recorded: dvc.lock is of HEAD, whose min_confidence was another."""
    found = compared(["HEAD", "workspace"], tmp_path)
    text = as_text(["HEAD", "workspace"], found.scores, title="mIoU")
    assert text.splitlines()[3] == "Pseudo-masks  50.0  60.0 * +10.0" and found.older
    assert not compared(["HEAD", "thick"], tmp_path / "2").older
    assert "made with other settings" in render_comparison(found)


def test_metrics_that_a_commit_wrote_in_another_form_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "data/metrics").mkdir(parents=True)
    (tmp_path / "data/metrics/seed.json").write_text('{"miou": 50.0, "cam": {"miou": 40.0}}')
    (tmp_path / "data/metrics/crf.json").write_text('{"miou": 60.0}')
    runs = [Run("old", "0" * 40, tmp_path), Run("new", "1" * 40, tmp_path / "nothing")]
    found = compare(runs, PLACES, ["none"] * 2, Gallery((), (), ()))
    assert found.notes == ["old: written in another form and left out: data/metrics/seed.json."]
    assert cells(found, "CRF") == [("60.0", ""), ("–", "")] and cells(found, "Seeds") == [("–", "")] * 2
    assert found.notes[0] in render_comparison(found)


def test_scores_of_other_images_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten masks were drawn after the first run; a run of an older version does not say how many images it scored."""
    runs = []
    for number, images in enumerate((60, 10, None)):
        scored = {"split": "train"} | ({} if images is None else {"images": images})
        write_scores(tmp_path / str(number) / "data/metrics", "seed", {"miou": 50.0}, [], {"scored": scored})
        runs.append(Run(f"run{number}", "0" * 40, tmp_path / str(number)))
    gallery = Gallery((), (), ())
    found = compare(runs[:2], PLACES, ["none"] * 2, gallery)
    note = "Seeds: the mIoU is of other images in each run (run0: train, 60 images; run1: train, 10 images)."
    assert found.notes == [note] and not found.scores[0].note
    print_tables(found)
    assert note in capsys.readouterr().out and note in render_comparison(found)
    same = compare(runs[1:], PLACES, ["none"] * 2, gallery)
    assert not same.notes and same.scores[0].note == "train"


def test_the_first_run_with_ground_truth_judges(tiny_dataset: Dataset, tmp_path: Path) -> None:
    """The first run had no masks; the data set of the second has them."""
    for number in range(2):
        folder = tmp_path / str(number) / "data"
        shutil.copytree(tiny_dataset.mask_root, folder / "dataset")
        for record in tiny_dataset.records:
            truth = read_mask(tiny_dataset.mask_path(record))
            for place in ("pseudo_masks", "predictions"):
                write_mask(folder / place / f"{record.image_id}.png", truth if number else np.zeros_like(truth))
    without = [replace(record, mask=None, scored=False) for record in tiny_dataset.records]
    write_dataset(
        tmp_path / "0/data/dataset", without, classes=tiny_dataset.classes, splits=tiny_dataset.splits, image_root=None
    )
    runs = [Run(name, "1" * 40, tmp_path / name) for name in "01"]
    masks = compare_images(runs, PLACES, each, images=9).groups[0]
    assert masks.counts == ["1: 4 of 5 images differ; the mIoU of 0 fell by 1 or more, that of 4 rose by as much."]
    assert masks.images[0].notes["1"].startswith("mIoU 100.0, +")


def test_a_damaged_file_of_the_workspace_ends_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/metrics").mkdir(parents=True)
    Path("data/metrics/seed.json").write_text('{"miou": ')
    with pytest.raises(UserError, match="^workspace: data/metrics/seed.json: damaged"):
        read_facts(Run("workspace", "", Path()), PLACES)


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("crf_details.json", "evaluate_crf"),
        ("pseudo_mask.json", "evaluate_pseudo_mask"),
        ("classifier_ap.json", "evaluate_labels"),
        ("prototypes.json", "fit_prototypes"),
        ("judgement_score.json", "report"),
        ("seed_iou.json", "evaluate_seed"),
    ],
)
def test_damaged_metrics_name_their_stage(tmp_path: Path, name: str, cure: str) -> None:
    (tmp_path / "data/metrics").mkdir(parents=True)
    (tmp_path / "data/metrics" / name).write_text("[")
    with pytest.raises(UserError, match=f"{name}: damaged; .*dvc repro -f -s {cure}$"):
        read_facts(Run("workspace", "", tmp_path), PLACES)


@pytest.mark.parametrize(("name", "text"), [("classifier.json", "[]"), ("seed_iou.json", '[{"class": "red"}]')])
def test_metrics_of_another_shape_end_in_one_message(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "data/metrics").mkdir(parents=True)
    (tmp_path / "data/metrics" / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}: .*dvc repro -f -s evaluate_"):
        read_facts(Run("workspace", "", tmp_path), PLACES)


def test_the_judgement_is_marked_when_it_is_older(tmp_path: Path) -> None:
    """The report was made with other settings than the run has now."""
    (tmp_path / "params.yaml").write_text(settings(0.9, []))
    entry = {"params": {"params.yaml": {"seed": 7}}, "outs": [{"path": "data/metrics/judgement_score.json"}]}
    (tmp_path / "dvc.lock").write_text(json.dumps({"stages": {"report": {"cmd": "x"} | entry}}))
    assert read_facts(Run("night", "0" * 40, tmp_path), PLACES).older == {"judgement"}


@pytest.mark.parametrize("lock", ["[]", "stages: 3", "stages: {a: {params: 3}}", "a: 1"])
def test_a_damaged_lock_ends_in_one_message(tmp_path: Path, lock: str) -> None:
    (tmp_path / "dvc.lock").write_text(lock)
    with pytest.raises(UserError, match="^night: dvc.lock: damaged; restore it"):
        read_facts(Run("night", "0" * 40, tmp_path), PLACES)


def test_a_data_set_of_another_format_leaves_its_images_out(tiny_dataset: Dataset, tmp_path: Path) -> None:
    for number, form in enumerate((1, 0)):
        shutil.copytree(tiny_dataset.mask_root, tmp_path / str(number) / "data/dataset")
        path = tmp_path / str(number) / "data/dataset/dataset.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": form}))
    runs = [Run("new", "1" * 40, tmp_path / "0"), Run("old", "0" * 40, tmp_path / "1")]
    found = compare_images(runs, PLACES, each, images=3)
    assert found.why == [
        "old: data/dataset/dataset.json: written in another format.",
        "Images need the outputs of two runs.",
    ]


def test_a_long_value_is_cut_in_the_plain_table_only(here: Path, tmp_path: Path) -> None:
    found = compared(["HEAD", "thick"], tmp_path)
    row = Row("data.classes", [Cell("cat"), Cell("x" * 200)])
    long = Comparison(**(vars(found) | {"settings": [row]}))
    assert as_text(["HEAD", "thick"], long.settings, title="setting").splitlines()[1].split()[-1] == "x" * 57 + "..."
    assert "x" * 200 in render_comparison(long)


def test_a_hostile_name_stays_text(here: Path, tmp_path: Path) -> None:
    found = compared(["HEAD", "thick"], tmp_path)
    row = type(found.settings[0])("<script>alert(1)</script>", found.settings[0].cells)
    page = Page(render_comparison(Comparison(**(vars(found) | {"settings": [row]}))))
    assert "<script>" in page.text and "script" not in [tag for tag, _ in page.tags]


def test_masks_are_drawn_as_they_are(here: Path, tmp_path: Path) -> None:
    """In the first run's picture the box is colored, in the picture of `thick` it is gray."""
    import base64
    import io

    from PIL import Image

    image = compared(["HEAD", "thick"], tmp_path).gallery.groups[0].images[0]

    def colored(title: str) -> float:
        content = base64.b64decode(image.layers[title].url.partition("base64,")[2])
        picture = np.array(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
        return float(np.mean(picture.max(axis=-1) - picture.min(axis=-1) > 60))

    assert colored("HEAD") == pytest.approx(320 / 1320, abs=0.05) and colored("thick") < 0.01
