"""The figures' numbers against plain loops and other stages' scores; what is drawn is what the CSV files hold."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from cpal.errors import UserError
from cpal.evaluation.score_files import read_scores
from cpal.method.learner import ContextPrototypeLearner, Instances
from cpal.method.prototypes import Context
from cpal.settings.config import load_config
from cpal.settings.cpal import CpalSettings
from experiments import figure_data, figures, plots
from experiments.origin import write_rows
from stages.job.explained import load_fitted
from stages.job.network import NetworkJob

CLASSES = ("red", "green", "blue")
DRAWN = ("figure3", "figure3_spread", "class_iou", "confusion_pseudo_masks", "confusion_segmentation", "thresholds")


def learner_with(counts: tuple[int, ...], *, length: int, align: str) -> ContextPrototypeLearner:
    """A clustered bank of random instances near a direction of their class: so many of each class, background first."""
    settings = CpalSettings.preset("default", bank_length=length, num_prototypes=3, topk=2, align=align)
    learner = ContextPrototypeLearner(len(counts) - 1, [6], settings, seed=0).eval()
    for k, count in enumerate(counts):
        for _ in range(count):
            present = torch.zeros(1, len(counts), dtype=torch.bool)
            present[0, k] = True
            entry = torch.nn.functional.normalize(torch.rand(6) + 2 * torch.eye(6)[k], dim=0)
            learner.bank.enqueue(entry.expand(1, len(counts), 6), present)
    learner.cluster()
    return learner


def origins_of(learner: ContextPrototypeLearner) -> list[list[str]]:
    return [[f"{k}-{entry}" for entry in range(len(learner.bank.latest(k)))] for k in range(len(learner.bank.seen))]


@pytest.mark.parametrize("align", ["instance", "bank", "none"])
def test_instances_are_aligned_one_by_one(align: str) -> None:
    """As if each were the only instance of its image; the second class has overflowed its bank."""
    learner = learner_with((3, 7, 2, 0), length=4, align=align)
    nothing = torch.empty(0)
    for k, found in enumerate(figure_data.bank_instances(learner, aligned=True)):
        entries = learner.bank.latest(k)
        assert torch.equal(figure_data.bank_instances(learner, aligned=False)[k], entries)
        assert len(found) == len(entries) == (3, 4, 2, 0)[k]
        for instance, entry in zip(found, entries, strict=True):
            present = torch.zeros(1, 4, dtype=torch.bool)
            present[0, k] = True
            context = Context.of(learner.context, learner.valid)
            step = Instances(nothing, nothing, context, nothing, nothing, nothing, entry.expand(1, 4, 6), present)
            torch.testing.assert_close(instance, learner.anchor(step)[0, k])


def test_points_of_figure_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_data, "PER_CLASS", 5)
    learner = learner_with((9, 8, 6, 4), length=10, align="instance")
    rows = figure_data.embed_bank(learner, origins_of(learner), CLASSES, seed=1)
    assert rows == figure_data.embed_bank(learner, origins_of(learner), CLASSES, seed=1)
    for panel in ("without alignment", "with alignment"):
        of_panel = [row for row in rows if row["panel"] == panel]
        instances = [row for row in of_panel if row["kind"] == "instance"]
        assert [sum(row["class"] == name for row in instances) for name in CLASSES] == [5, 5, 4]
        assert all(row["image"].startswith(f"{row['label']}-") for row in instances)
        assert sum(row["kind"] == "prototype" for row in of_panel) == int(learner.valid[1:].sum())
    first, second = (
        [row["image"] for row in rows if row["panel"] == p] for p in ("without alignment", "with alignment")
    )
    assert first == second, "the same instances in both panels"
    alone = figure_data.embed_bank(learner_with((3, 3, 3), length=4, align="none"), [["x"] * 3] * 3, ("a", "b"), seed=1)
    assert {row["panel"] for row in alone} == {"without alignment"}


def test_compactness_and_separation_against_plain_loops() -> None:
    learner = learner_with((5, 4, 6, 1), length=10, align="none")
    rows = {row["class"]: row for row in figure_data.spread_of_bank(learner, CLASSES)}
    assert set(rows) == {"red", "green"}, "one instance has no spread"
    unit = {}
    for k in (1, 2):
        entries = learner.bank.latest(k).double().numpy()
        unit[k] = entries / np.linalg.norm(entries, axis=1, keepdims=True)
    means = {k: x.mean(axis=0) / np.linalg.norm(x.mean(axis=0)) for k, x in unit.items()}
    for k, other in ((1, 2), (2, 1)):
        row = rows[CLASSES[k - 1]]
        assert row["compactness"] == pytest.approx(np.mean([1 - x @ means[k] for x in unit[k]]), abs=1e-4)
        assert row["separation"] == pytest.approx(1 - means[1] @ means[2], abs=1e-4)
        scores = []
        for i, x in enumerate(unit[k]):
            inner = np.mean([1 - x @ y for j, y in enumerate(unit[k]) if j != i])
            outer = np.mean([1 - x @ y for y in unit[other]])
            scores.append((outer - inner) / max(outer, inner))
        assert row["silhouette"] == pytest.approx(np.mean(scores), abs=1e-4)


def test_alignment_moves_instances_together() -> None:
    rows = figure_data.spread_of_bank(learner_with((5, 5, 5, 5), length=5, align="instance"), CLASSES)
    before, after = ([row["compactness"] for row in rows if row["panel"] == p] for p in figure_data.ALIGNED.values())
    assert len(before) == 3 and all(a < b for a, b in zip(after, before, strict=True))


@pytest.fixture
def run_folder(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, in which the test works."""
    shutil.copytree(finished_run, tmp_path / "run", symlinks=True, ignore=shutil.ignore_patterns(".cache"))
    monkeypatch.chdir(tmp_path / "run")
    return tmp_path / "run"


def table(name: str, folder: str = "results/figures") -> list[dict[str, str]]:
    with Path(folder, f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_all_figures_of_a_run(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = Path("docs/results/figures")
    docs.mkdir(parents=True)
    (docs / "figure3.csv").write_text("published", encoding="utf-8")
    figures.main(images="c,d", workers=1)
    made = {path.name for path in Path("results/figures").iterdir()}
    assert made == {f"{name}.{end}" for name in DRAWN for end in ("csv", "svg", "png")} | {
        f"figure5{part}.{end}" for part in "ab" for end in ("csv", "png")
    }
    assert sorted(capsys.readouterr().out.split()) == sorted(f"results/figures/{name}" for name in made)
    assert [path.name for path in docs.iterdir()] == ["figure3.csv"], "without --publish"
    assert (docs / "figure3.csv").read_text(encoding="utf-8") == "published"
    _check_scores()
    _check_figure5()
    before = {name: Path("results/figures", name).read_bytes() for name in made}
    figures.main(images="c,d", publish=True, workers=1)
    assert {path.name: path.read_bytes() for path in docs.iterdir()} == before


def _check_scores() -> None:
    """The tables agree with what the evaluate stages found by other ways through the code."""
    for step, name, column in (
        ("pseudo_mask", "pseudo_masks", "Pseudo-masks"),
        ("segmentation", "segmentation", "Segmentation"),
    ):
        metrics, by_class = read_scores(Path("data/metrics"), step)
        rows = table(f"confusion_{name}")
        names = [row["truth"] for row in rows]
        counts = np.array([[int(row[other]) for other in [*names, "void"]] for row in rows])
        assert 100 * np.trace(counts) / counts.sum() == pytest.approx(metrics["pixel_accuracy"], abs=1e-3)
        for k, truth in enumerate(names):
            union = counts[k].sum() + counts[:, k].sum() - counts[k, k]
            if union:
                assert 100 * counts[k, k] / union == pytest.approx(by_class[truth], abs=1e-3)
        assert {row["class"]: float(row[column]) for row in table("class_iou") if row[column]} == by_class
    sweep, details = table("thresholds"), read_scores(Path("data/metrics"), "seed")[0]
    for title, key in (("CAM", "cam"), ("PACAM", "pacam"), ("Taught CAM", "taught")):
        marked = {mark: row for row in sweep if row["map"] == title for mark in row["mark"].split()}
        for mark, kind in (("fixed", ""), ("Otsu", "_otsu"), ("best", "_oracle")):
            assert float(marked[mark]["threshold"]) == pytest.approx(details[key][f"threshold{kind}"], abs=1e-4)
            assert float(marked[mark]["miou"]) == details[key][f"miou{kind}"]


def _check_figure5() -> None:
    rows = table("figure5a")
    assert [(row["image"], row["class"]) for row in rows] == [("c", "red")] * 2 + [("d", "green")] * 2
    assert sum(float(row["share"]) for row in rows) == pytest.approx(2, abs=1e-4)
    assert [row["map"] for row in table("figure5b")] == ["CAM", "PACAM, all alike", "PACAM", "Taught CAM"] * 2
    truth = np.array(Image.open("data/dataset/masks/c.png"))
    seeds = _seeds_of_red("c", (truth.shape[0], truth.shape[1]))
    both, either = ((seeds == 1) & (truth == 1)).sum(), ((seeds == 1) | (truth == 1)).sum()
    found = next(row for row in table("figure5b") if (row["image"], row["map"]) == ("c", "CAM"))
    assert float(found["iou"]) == pytest.approx(100 * both / either, abs=1.5), "but for the way of resizing"
    with Image.open("results/figures/figure5a.png") as picture:
        assert picture.width == 4 * 156 - 6, "image, two neighbours, PACAM"


def _seeds_of_red(image_id: str, size: tuple[int, int]) -> np.ndarray:
    """Seeds of the plain CAM at its threshold 0.3, whose maps are resized by Pillow."""
    with np.load(f"data/cams/{image_id}.npz") as stored:
        (low, high), classes = stored["cam"].astype(np.uint16), stored["classes"]
    small = (high * 256 + low).view(np.float16).astype(np.float32)
    resample = Image.Resampling.BILINEAR
    maps = np.stack([np.array(Image.fromarray(map_).resize((size[1], size[0]), resample)) for map_ in small])
    return np.where(maps.max(axis=0) > 0.3, classes[maps.argmax(axis=0)], 0)


def test_examples_are_chosen_by_no_result(run_folder: Path) -> None:
    job = NetworkJob("figures", load_config(Path("params.yaml")), device_name="cpu")
    assert [record.image_id for record in figures.examples(job)] == ["a", "b", "c"], "the first red, green, blue"
    with pytest.raises(UserError, match="image 'nothing'"):
        figures.main(images="a,nothing")
    assert not Path("results").exists()


def test_without_ground_truth_scores_are_not_drawn(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("seed", "crf", "pseudo_mask", "segmentation"):
        Path(f"data/metrics/{name}.json").write_text("{}", encoding="utf-8")
        Path(f"data/metrics/{name}_iou.json").write_text("[]", encoding="utf-8")
    figures.main(images="c", workers=1)
    assert "class_iou, confusion, thresholds: not drawn: the data set has no ground truth" in capsys.readouterr().out
    assert not Path("results/figures/thresholds.csv").exists() and Path("results/figures/figure3.svg").exists()


def test_the_bank_of_a_run_is_in_figure_3(run_folder: Path) -> None:
    job = NetworkJob("figures", load_config(Path("params.yaml")), device_name="cpu")
    loaded = load_fitted(job)
    assert [*figures.figure3(job, loaded, Path("out"))]
    for row in table("figure3", "out"):
        assert row["kind"] == "prototype" or row["image"] in loaded.origins[int(row["label"])]


# What is drawn


def points(figure: Figure, label: str, axes: int = 0) -> list[tuple[float, float]]:
    (line,) = [line for line in figure.axes[axes].lines if line.get_label() == label]
    return [(float(x), float(y)) for x, y in np.asarray(line.get_xydata())]


def test_class_iou_draws_its_rows() -> None:
    rows = [{"class": "cat", "Seeds": "50", "CRF": "60"}, {"class": "dog", "Seeds": "", "CRF": "70"}]
    figure = plots.class_iou(rows)
    assert points(figure, "Seeds") == [(50, 0)] and points(figure, "CRF") == [(60, 0), (70, 1)]
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["cat", "dog"]


def test_confusion_draws_percent_of_each_row() -> None:
    rows = [{"truth": "cat", "cat": "3", "void": "1"}, {"truth": "dog", "cat": "0", "void": "0"}]
    (image,) = plots.confusion(rows).axes[0].images
    assert np.asarray(image.get_array()).tolist() == [[75, 25], [0, 0]]


def test_thresholds_draw_curves_and_marks() -> None:
    rows = [
        {"map": "CAM", "threshold": "0.1", "miou": "40", "mark": ""},
        {"map": "CAM", "threshold": "0.2", "miou": "50", "mark": "fixed best"},
    ]
    axes = plots.thresholds(rows).axes[0]
    assert np.asarray(axes.lines[0].get_xydata()).tolist() == [[0.1, 40], [0.2, 50]]
    marks = [line for line in axes.lines if len(np.asarray(line.get_xdata())) == 1]
    assert [str(line.get_marker()) for line in marks] == ["o", "*"]
    assert all(np.asarray(line.get_xydata()).tolist() == [[0.2, 50]] for line in marks)


def test_a_figure_is_drawn_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "class_iou.csv"
    write_rows(path, [{"class": "cat", "Seeds": 50.0}])
    made = plots.draw(path, plots.class_iou)
    before = [target.read_bytes() for target in made]
    assert [target.name for target in made] == ["class_iou.svg", "class_iou.png"]
    plots.draw(path, plots.class_iou)
    assert [target.read_bytes() for target in made] == before, "equal files give equal bytes"
    path.write_text(path.read_text(encoding="utf-8").replace("50.0", "70.0"), encoding="utf-8")
    plots.draw(path, plots.class_iou)
    assert [target.read_bytes() for target in made] != before
