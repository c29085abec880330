"""The page of a small hand-made run: what it holds, that it needs nothing from outside, and what stops it."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dvclive import Live
from PIL import Image
from ruamel.yaml import YAML

import stages.report as stage
from cpal.data.dataset import Dataset, Record, read_dataset, write_dataset
from cpal.data.masks import VOID, LabelMaps, read_mask, write_mask
from cpal.errors import UserError
from cpal.evaluation.score_files import write_scores
from cpal.files import write_json
from cpal.maps.cams import CamFile, read_maps, write_cam
from cpal.maps.refined import Refined, write_crf
from cpal.maps.seeds import SeedRule
from cpal.networks.weights import write_tensors
from cpal.report.gallery import spread_over_ranks
from cpal.report.image_results import ImageResult, Results, choose, compare_results, worst_first
from cpal.report.page import Report, Scores, embedded, policy, render_page
from cpal.report.prototypes import instance_cells
from cpal.report.provenance import commit, locked_outs
from cpal.running.times import Taken, write_taken
from cpal.settings.config import load_config
from cpal.settings.cpal import CpalSettings
from html_page import Page
from stages.job.job import Job

PARAMS = Path(__file__).parents[2] / "params.yaml"


def otsu(miou: float, threshold: float) -> dict[str, float]:
    return {"miou_otsu": miou, "threshold_otsu": threshold}


TRAIN = {"scored": {"split": "train_official"}}
METRICS: dict[str, dict[str, Any]] = {
    "seed": {"miou": 51.234, "pixel_accuracy": 81.2, "cam": 41.987, "pacam": 51.234, "taught": 51.234},
    "crf": {"miou": 55.55, "pixel_accuracy": 84.4},
    "pseudo_mask": {"miou": 57.77, "pixel_accuracy": 86.6, "void": 12.34},
    "segmentation": {"miou": 60.01, "pixel_accuracy": 88.8, "train": 63.33, "ece": 12.34},
}
DETAILS: dict[str, dict[str, dict[str, Any]]] = {
    "seed": TRAIN
    | {
        "cam": {"miou": 41.987, "threshold": 0.31, **otsu(42.2, 0.28), "miou_oracle": 43.456, "threshold_oracle": 0.26},
        "pacam": {
            "miou": 51.234,
            "threshold": 0.535,
            **otsu(50.1, 0.6),
            "miou_oracle": 52.111,
            "threshold_oracle": 0.52,
        },
        "taught": {
            "miou": 51.234,
            "threshold": 0.61,
            **otsu(50.8, 0.63),
            "miou_oracle": 53.123,
            "threshold_oracle": 0.59,
        },
    },
    "crf": TRAIN,
    "pseudo_mask": TRAIN,
    "segmentation": {
        "scored": {"split": "val_list"},
        "on_train": {"miou": 63.33, "pixel_accuracy": 89.9, "split": "train_official"},
        "reliability_pixels": {"50-60": 25.0, "90-100": 75.0},
        "reliability_confidence": {"50-60": 55.5, "90-100": 97.5},
        "reliability_accuracy": {"50-60": 40.25, "90-100": 99.0},
    },
}
FREE = {"images": 5, "coverage": 33.3, "void": 0.0, "labels_found": 88.9, "label_f1": 77.7}
WITHOUT_TRUTH: dict[str, dict[str, Any]] = {
    "seed": FREE,
    "crf": FREE | {"agreement": 95.1, "confidence": 91.5},
    "pseudo_mask": FREE | {"void": 12.5, "void_training": 21.5, "agreement": 100.0},
    "segmentation": FREE | {"images": 2, "labels_found": None, "agreement": 90.2},
}
LABELS = {"map": 97.531, "f1": 93.2, "f1_micro": 94.4, "images": 2, "classes": 3, "split": "val_list"}
IOU = {"background": 80.01, "red": 31.41, "green": 27.18, "blue": 16.18}


@pytest.fixture
def run_folder(tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what all stages before the report write; the working directory of the test."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_dataset.mask_root, "data/dataset")
    rng = np.random.default_rng(0)
    for record in tiny_dataset.records:
        mask = read_mask(tiny_dataset.mask_path(record))
        wrong = np.where(rng.random(mask.shape) < 0.02 * (1 + ord(record.image_id[0]) % 5), 1, mask).astype(np.uint8)
        write_mask(Path(f"data/predictions/{record.image_id}.png"), wrong)
        if record.split == "train":
            _write_maps(record, wrong)
    for name, content in METRICS.items():
        _write_metrics(name, content, DETAILS[name])
    write_json(Path("data/metrics/classifier.json"), [LABELS])
    _write_prototypes("red", "green", "blue")
    for training in ("train_cam", "train_segmentation"):
        _write_curves(Path("data/metrics") / training)
    rows = [
        {"epoch": 1, "cam_purity": 40.0, "ocsem": None, "shift": None},
        {"epoch": 2, "cam_purity": 50.0, "ocsem": 0.9, "shift": None},
    ]
    write_json(Path("data/metrics/train_cam/diagnostics.json"), rows)
    shutil.copy(PARAMS, "params.yaml")
    return tmp_path


ORIGINS = [["a", "b", "c", "d", "empty"], ["a", "c"], ["b", "d"], []]  # the bank has no instance of blue


def _write_prototypes(*classes: str) -> None:
    """Three prototypes of background, of which the last has most instances; two of each class, one of them unused."""
    entries, context = torch.zeros(4, 5, 3), torch.eye(3).expand(4, 3, 3)
    entries[0, :, 2] = 1.0
    entries[0, :2] = torch.tensor([[1.0, 0.0, 0.1], [0.1, 1.0, 0.0]])
    entries[1:3, :2] = torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.5]])
    valid = torch.tensor([[True, True, True], [True, True, False], [True, True, False], [False] * 3])
    seen = torch.tensor([len(ids) for ids in ORIGINS])
    tensors = {"bank.entries": entries, "bank.seen": seen, "context": context.contiguous(), "valid": valid}
    meta = {"classes": classes, "origins": ORIGINS}
    write_tensors(
        Path("data/prototypes.safetensors"), {f"learner.{name}": value for name, value in tensors.items()}, meta
    )


def _write_metrics(name: str, metrics: dict[str, Any], details: dict[str, dict[str, Any]]) -> None:
    rows = [{"class": k, "iou": v} for k, v in IOU.items()] if metrics else []
    write_scores(Path("data/metrics"), name, metrics, rows, {"without_truth": WITHOUT_TRUTH[name]} | details)


def _write_maps(record: Record, mask: np.ndarray) -> None:
    height, width = mask.shape
    shape = (len(record.labels), (height + 3) // 4, (width + 3) // 4)
    maps = np.random.default_rng(1).random(shape)
    for folder in ("cams", "crf"):
        Path("data", folder).mkdir(exist_ok=True)
    content = CamFile(
        np.array(record.labels, np.int64),
        {"cam": maps, "pacam": maps / 2 + 0.3, "taught": maps / 3},
        (height, width),
    )
    write_cam(Path(f"data/cams/{record.image_id}.npz"), content)
    pseudo = np.where(np.isin(mask, record.labels), mask, 0).astype(np.uint8)
    write_crf(Path(f"data/crf/{record.image_id}.npz"), Refined(pseudo.copy(), np.full(mask.shape, 200, np.uint8)))
    pseudo[:3] = VOID
    write_mask(Path(f"data/pseudo_masks/{record.image_id}.png"), pseudo)


def _write_curves(folder: Path) -> None:
    live = Live(str(folder), report=None, save_dvc_exp=False, dvcyaml=None, monitor_system=False)
    for step in range(1, 6):
        live.step = step
        live.log_metric("train/loss", float("nan") if step == 3 else 1 / step, timestamp=False)
        live.log_metric("learning_rate", 0.1 / step, timestamp=False)
    live.end()


def make_report(out: Path | None = None) -> None:
    stage.main(Job("report", load_config(Path("params.yaml")), workers=1, out=out))


def report_page() -> Page:
    make_report()
    return Page(Path("data/report/index.html").read_text(encoding="utf-8"))


def test_page_needs_nothing_from_outside(run_folder: Path) -> None:
    page = report_page()
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base") and (tag != "script" or not attributes)
        for name in ("src", "srcset", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    text = Path("data/report/index.html").read_text(encoding="utf-8")
    assert "url(" not in text and "@import" not in text
    assert str(run_folder) not in text


def test_a_page_without_script_holds_all_that_it_shows() -> None:
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy().split(";")}
    assert rules["default-src"] == ["'none'"] and rules["img-src"] == ["data:"] and "script-src" not in rules
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, 15:] = (200, 40, 40)
    layer = embedded(picture)
    assert (layer.width, layer.height) == (30, 20) and layer.url.startswith("data:image/webp;base64,")
    drawn = np.array(Image.open(io.BytesIO(base64.b64decode(layer.url.partition(",")[2]))))
    assert np.abs(drawn.astype(int) - picture).mean() < 8


def test_the_policy_allows_all_that_the_page_has_and_nothing_else(run_folder: Path) -> None:
    """As a browser decides: a kind of resource without a rule of its own falls under default-src."""
    page = report_page()
    metas = [attributes for tag, attributes in page.tags if tag == "meta"]
    (policy,) = [a["content"] or "" for a in metas if a.get("http-equiv") == "Content-Security-Policy"]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert rules.pop("default-src") == ["'none'"]
    assert set(rules) == {"script-src", "style-src", "img-src", "base-uri", "form-action"}
    before = [tag for tag, _ in page.tags][: page.tags.index(("meta", next(a for a in metas if "http-equiv" in a)))]
    assert not {"style", "img", "svg", "body", "script"} & set(before), "a policy holds for what comes after it"
    text = Path("data/report/index.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == [f"'sha256-{digest}'"]
    styled = [tag for tag, attributes in page.tags if tag == "style" or "style" in attributes]
    assert "style" in styled and len(styled) > 10 and rules["style-src"] == ["'unsafe-inline'"]
    assert rules["img-src"] == ["data:", "'self'", "file:"], "pictures inside the page, or in the folder beside it"
    # Of other tags that fetch, run or lead away there are none; nor are there handlers of events.
    loading = {"link", "iframe", "object", "embed", "video", "audio", "use", "image", "form", "base", "frame"}
    assert not loading & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_a_hostile_name_stays_text(run_folder: Path) -> None:
    """A class that is named like a script."""
    name = "<img src=x onerror=alert(1)>"
    path = Path("data/dataset/dataset.json")
    content = json.loads(path.read_text(encoding="utf-8"))
    clean = report_page().tags
    content["classes"][0] = name
    path.write_text(json.dumps(content), encoding="utf-8")
    _write_prototypes(*content["classes"])
    page = report_page()
    assert name in page.text and [tag for tag, _ in page.tags] == [tag for tag, _ in clean]


def test_page_holds_every_number_with_its_split(run_folder: Path) -> None:
    page = report_page()
    rows = [[cell for cell in row if cell] for row in page.rows]
    assert rows[1:15] == [
        ["Seedsmade from the taught CAM", "51.2", "81.2", "train_official"],
        ["CAMthreshold 0.31", "42.0", "train_official"],
        ["CAMOtsu's threshold 0.28", "42.2", "train_official"],
        ["CAMoracle threshold 0.26", "43.5", "train_official"],
        ["PACAMthreshold 0.535", "51.2", "train_official"],
        ["PACAMOtsu's threshold 0.6", "50.1", "train_official"],
        ["PACAMoracle threshold 0.52", "52.1", "train_official"],
        ["Taught CAMthreshold 0.61", "51.2", "train_official"],
        ["Taught CAMOtsu's threshold 0.63", "50.8", "train_official"],
        ["Taught CAMoracle threshold 0.59", "53.1", "train_official"],
        ["CRF", "55.5", "84.4", "train_official"],
        ["Pseudo-masks12.3% of the pixels void", "57.8", "86.6", "train_official"],
        ["Segmentation", "60.0", "88.8", "val_list"],
        ["on images it learned from", "63.3", "89.9", "train_official"],
    ]
    for name, iou in IOU.items():
        assert [name, *[f"{iou:.1f}"] * 4] in rows
    assert ["mean", "51.2", "55.5", "57.8", "60.0"] in rows
    widths = [a["style"] for tag, a in page.tags if tag == "b" and "style" in a]
    assert widths[0] == "--share:51.2%" and len(widths) == 14 + 7, "of the steps and of the prototypes"


TRAINING = ["Image", "CAM", "PACAM", "Taught CAM", "CRF", "Pseudo-mask", "Prediction", "Ground truth"]


def test_page_shows_all_images_in_layers_of_one_size_and_curves(run_folder: Path) -> None:
    page = report_page()
    cards = [attributes for tag, attributes in page.tags if tag == "li" and "data-name" in attributes]
    assert sorted(card["data-name"] or "" for card in cards) == ["a", "b", "c", "d", "e", "empty", "f"]
    assert {card["data-name"]: card["data-split"] for card in cards}["e"] == "val"
    assert {card["data-name"]: card["data-classes"] for card in cards}["c"] == "1 3"
    mious = [float(card["data-miou"]) for card in cards if card["data-miou"]]
    assert len(mious) == 6 and mious == sorted(mious), "the worst first; the image without a class has no mIoU"
    assert page.layers().count("CAM") == 5 and len(page.layers()) == 5 * 8 + 2 * 3
    assert page.layers()[-8:] == TRAINING, "the image without a class comes last"
    pictures = page.images()
    assert len({picture.shape for picture in pictures[-8:]}) == 1 and max(pictures[-1].shape) == 360
    names = [page.tags[i + 1][0] for i, (tag, _) in enumerate(page.tags) if tag == "figcaption"]
    assert names == ["b"] * 5, "calibration, two losses, two diagnostics; rates and what has no number are left out"
    labels = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg" and "aria-label" in attributes]
    assert labels[0] == "accuracy 40 at confidence 56, accuracy 99 at confidence 98"
    text = page.text.partition("params.yaml")[0]
    assert "Accuracy by confidence, % ECE 12.3" in " ".join(text.split())
    assert text.count("train/loss") == 2 and "learning_rate" not in text
    assert "Purity of CAM's instances" in text and "Likeness of image and prototype" in text
    assert "The same after alignment" not in text
    assert page.headings() == ["h1", *["h2"] * 10]


def test_the_judgement_is_also_a_metric(run_folder: Path) -> None:
    page = report_page()
    rows = json.loads(Path("data/metrics/judgement_score.json").read_text(encoding="utf-8"))
    assert [row["class"] for row in rows] == ["red", "green", "blue"]
    for row in rows:
        assert 0 <= row["score"] <= 100 and row["judgement"] in ("trust", "doubt", "do not use")
        assert any(line[0] == row["class"] and row["judgement"] in line[1] for line in page.rows if len(line) > 1)


def test_a_weak_classifier_is_told_beside_the_verdicts(run_folder: Path) -> None:
    assert "confuses the classes" not in report_page().text
    write_json(Path("data/metrics/classifier.json"), [LABELS | {"map": 86.2}])
    assert "The classifier confuses the classes: mAP 86.2; good is 90 and more." in report_page().text
    write_json(Path("data/metrics/classifier.json"), [LABELS | dict.fromkeys(("map", "f1", "f1_micro"))])
    assert "confuses the classes" not in report_page().text, "no validation image has a label"


def test_the_map_of_an_earlier_classifier_is_left_out(run_folder: Path) -> None:
    def lock(classifier: str) -> None:
        made, used = ({"path": "data/classifier.safetensors", "md5": md5} for md5 in (classifier, "a" * 32))
        stages = {"train_cam": {"cmd": "x", "outs": [made]}, "evaluate_labels": {"cmd": "x", "deps": [used]}}
        Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}), encoding="utf-8")

    lock("a" * 32)
    assert "mAP 97.5" in " ".join(report_page().text.split())
    lock("b" * 32)
    assert "mAP" not in report_page().text


def test_more_images_than_the_page_may_show(run_folder: Path) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("images: 500", "images: 4"), encoding="utf-8")
    page = report_page()
    assert "4 of 7 images: the 2 to look at first, and 2 of the others drawn at random" in page.text
    assert sum("data-name" in attributes for _, attributes in page.tags) == 4


def test_large_pictures_lie_beside_the_page(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded = report_page().images()
    monkeypatch.setattr("cpal.report.build.EMBEDDED", 100)
    page = report_page()
    sources = [attributes["src"] or "" for _, attributes in page.tags if "data-layer" in attributes]
    files = sorted(path.relative_to("data/report").as_posix() for path in Path("data/report/images").iterdir())
    of_prototypes = {a["src"] or "" for tag, a in page.tags if tag == "img" and "images/instance" in (a["src"] or "")}
    assert sorted([*sources, *of_prototypes]) == files and (len(sources), len(of_prototypes)) == (46, 5 + 2 + 2)
    for source, picture in zip(sources, embedded, strict=True):
        assert np.array_equal(np.array(Image.open(Path("data/report") / source)), picture)


def test_every_class_has_a_judgement(run_folder: Path) -> None:
    page = report_page()
    rows = {row[0]: row for row in page.rows if len(row) == 5 and row[0] in ("red", "green", "blue")}
    verdicts = [row for row in page.rows if row and row[0] in ("red", "green", "blue") and row[3:4] == ["2"]]
    assert len(verdicts) == 3 and all("doubt" in row[1] or "do not use" in row[1] for row in verdicts)
    found = {name: [0, 0] for name in ("red", "green", "blue")}
    for record in read_dataset(Path("data/dataset")).split("val"):
        shown = np.unique(read_mask(Path(f"data/predictions/{record.image_id}.png")))
        for label in record.labels:
            name = ("red", "green", "blue")[label - 1]
            found[name][0] += label in shown
            found[name][1] += 1
    assert {row[0]: row[4] for row in verdicts} == {k: f"{a} of {b}" if b else "" for k, (a, b) in found.items()}
    assert "2 training images show red." in verdicts[0][2] and rows


def test_page_names_settings_versions_and_hashes(run_folder: Path) -> None:
    lock = {"stages": {"prepare": {"outs": [{"path": "data/dataset", "hash": "md5", "md5": "0123abcd.dir"}]}}}
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0"} | lock), encoding="utf-8")
    page = report_page()
    assert PARAMS.read_text(encoding="utf-8") in page.text
    assert ["prepare", "data/dataset", "0123abcd.dir"] in page.rows
    assert ["numpy", np.__version__] in page.rows
    assert any(row[0] == "Git commit" for row in page.rows if row)


def test_page_tells_what_the_stages_took(run_folder: Path) -> None:
    """As far as it is known: times are no results, and the report's own would change with each report."""
    (run_folder / "dvc.yaml").symlink_to(PARAMS.with_name("dvc.yaml"))
    assert "Time and memory" not in report_page().text
    write_taken(Path(".cache/times"), "prepare", Taken(30.0, 45.0, 200_000_000, 1))
    write_taken(Path(".cache/times"), "make_cams", Taken(7200.0, 100.0, 3_000_000_000, 4))
    write_taken(Path(".cache/times"), "report", Taken(1.0, 1.0, 1, 1))
    page = report_page()
    assert page.headings() == ["h1", *["h2"] * 11]
    rows = page.rows[page.rows.index(["Stage", "", "Time", "Processor time", "Peak memory"]) + 1 :][:3]
    assert rows == [
        ["prepare", "", "30.0 s", "45.0 s", "200 MB"],
        ["make_camsthe first of 4 processes", "", "2.0 h", "1.7 min", "3000 MB"],
        ["all", "", "2.0 h", "2.4 min", "3000 MB"],
    ]
    (Path(".cache/times") / "prepare.json").write_text("{")
    with pytest.raises(UserError, match="prepare.json: damaged; remove it"):
        make_report()


def test_same_run_gives_the_same_bytes(run_folder: Path) -> None:
    make_report()
    make_report(Path("again"))
    names = sorted(path.name for path in Path("data/report").iterdir())
    assert names == ["index.html", "samples.png", "strips.png"]
    for name in names:
        digests = {
            hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for folder in (Path("data/report"), Path("again/report"))
        }
        assert len(digests) == 1, name
    assert np.array(Image.open("data/report/strips.png")).shape[1] == 8 * 176 + 7 * 6


def test_nothing_half_written_remains(run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_report()
    before = Path("data/report/index.html").read_bytes()

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        make_report()
    assert Path("data/report/index.html").read_bytes() == before
    assert sorted(path.name for path in Path("data").iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("missing", "name"),
    [
        ("data/dataset", "prepare"),
        ("data/cams", "make_cams"),
        ("data/crf", "refine_crf"),
        ("data/pseudo_masks", "write_pseudo_masks"),
        ("data/predictions", "predict_segmentation"),
        ("data/metrics/train_cam", "train_cam"),
        ("data/metrics/train_segmentation", "train_segmentation"),
    ],
)
def test_missing_folder_names_its_stage(run_folder: Path, missing: str, name: str) -> None:
    shutil.rmtree(missing)
    with pytest.raises(UserError, match=rf"{missing}.*dvc repro {name}$"):
        make_report()
    assert not Path("data/report").exists()


def test_page_holds_what_needs_no_ground_truth(run_folder: Path) -> None:
    page = report_page()
    rows = {next((key for key in TITLES if row[0].startswith(key)), ""): row[1:] for row in page.rows if len(row) == 5}
    assert rows["Images"] == ["5", "5", "5", "2"]
    assert rows["Void pixelsP"] == ["0.0", "0.0", "12.5", "0.0"]
    assert rows["Void pixels to learn from"] == ["–", "–", "21.5", "–"]
    assert rows["Labels found"] == ["88.9", "88.9", "88.9", "–"]
    assert rows["Agreement with"] == ["–", "95.1", "100.0", "90.2"]
    assert rows["Confidence"] == ["–", "91.5", "–", "–"]
    assert "F1 93.2 as the mean over 3 classes that occur" in page.text and "97.5" in page.text
    _write_metrics("pseudo_mask", METRICS["pseudo_mask"], DETAILS["pseudo_mask"] | {"without_truth": FREE})
    assert "Void pixels to learn from" not in report_page().text


TITLES = (
    "Images",
    "Pixels with a class",
    "Void pixelsP",
    "Void pixels to learn from",
    "Labels found",
    "F1",
    "Agreement with",
    "Confidence",
)


@pytest.mark.parametrize(
    ("name", "maker"), [*((name, f"evaluate_{name}") for name in METRICS), ("classifier", "evaluate_labels")]
)
def test_missing_metrics_name_their_stage(run_folder: Path, name: str, maker: str) -> None:
    pipeline = YAML(typ="safe", pure=True).load(PARAMS.with_name("dvc.yaml").read_text(encoding="utf-8"))
    entry = pipeline["stages"][maker]
    assert f"data/metrics/{name}.json" in str(entry.get("metrics", []) + entry["plots"])
    Path(f"data/metrics/{name}.json").unlink()
    with pytest.raises(UserError, match=f"dvc repro {maker}$"):
        make_report()


@pytest.mark.parametrize(
    ("path", "maker"),
    [
        ("seed.json", "evaluate_seed"),
        ("crf_iou.json", "evaluate_crf"),
        ("segmentation_details.json", "evaluate_segmentation"),
        ("classifier.json", "evaluate_labels"),
        ("train_cam/diagnostics.json", "train_cam"),
        ("train_segmentation/plots/metrics/train/loss.tsv", "train_segmentation"),
    ],
)
def test_damaged_metrics_name_their_stage(run_folder: Path, path: str, maker: str) -> None:
    damaged = Path("data/metrics", path)
    damaged.write_bytes(damaged.read_bytes()[:-3] if damaged.suffix == ".json" else b"step\n1\n")
    with pytest.raises(UserError, match=f"{path}: damaged; .*dvc repro -f -s {maker}$"):
        make_report()


def test_metrics_with_a_wrong_name_are_damaged(run_folder: Path) -> None:
    path = Path("data/metrics/segmentation_details.json")
    path.write_text(path.read_text(encoding="utf-8").replace("pixel_accuracy", "pixel_accurbcy"), encoding="utf-8")
    with pytest.raises(UserError, match="segmentation_details.json: damaged; .*dvc repro -f -s evaluate_segmentation$"):
        make_report()


def test_data_without_ground_truth_begins_with_what_to_doubt(run_folder: Path) -> None:
    with_truth = report_page().text
    assert with_truth.index("Otsu's threshold is") < with_truth.index("judged without ground truth")
    _rewrite_records({"mask": None, "scored": False})
    for name in METRICS:
        _write_metrics(name, {}, {})
    page = report_page()
    assert page.text.count("Not scored: the data set has no ground truth") == 4
    assert page.text.index("judged without ground truth") < page.text.index("Otsu's threshold is")
    assert "Accuracy by confidence" not in page.text
    assert "whose masks are most doubtful" in page.text and "lowest mIoU" not in page.text
    assert len(page.images()) == 5 * 7 + 2 * 2 and "Ground truth" not in page.layers()
    assert _first() and set(_first()) <= set("abcd") | {"empty"}
    doubts = [-float(a["data-sure"] or 0) for _, a in page.tags if "data-sure" in a]
    assert doubts == sorted(doubts, reverse=True) and doubts[0] > doubts[-1]


def test_a_few_drawn_masks_do_not_put_their_images_in_front(run_folder: Path) -> None:
    """Of the four training images with a label, three have a mask, and then two."""
    _rewrite_records({"mask": None, "scored": False}, split="train", but=["a", "b", "c"])
    page = report_page()
    assert "Images whose result differs most" in page.text
    assert page.text.index("lowest mIoU first") < page.text.index("most doubtful first")
    _rewrite_records({"mask": None, "scored": False}, split="train", but=["a", "b"])
    page = report_page()
    assert "whose masks are most doubtful" in page.text and sorted(_first()) == ["a", "b", "c", "d", "empty"]
    assert page.text.index("most doubtful first") < page.text.index("lowest mIoU first")
    doubts = [-float(a["data-sure"] or 0) for _, a in page.tags if "data-sure" in a]
    assert doubts == sorted(doubts, reverse=True) and doubts[0] > doubts[-1]


def _first() -> list[str]:
    """Names of the images to look at first."""
    html = Path("data/report/index.html").read_text(encoding="utf-8")
    return re.findall('class="name">([^<]+)<', html.partition('<ol class="cards first">')[2].partition("</ol>")[0])


def test_data_with_ground_truth_for_validation_only(run_folder: Path) -> None:
    _rewrite_records({"mask": None, "scored": False}, split="train")
    for name in ("seed", "crf", "pseudo_mask"):
        _write_metrics(name, {}, {})
    page = report_page()
    assert ["Segmentation", "", "60.0", "88.8", "val_list"] in page.rows
    assert page.text.count("Not scored") == 3 and len(page.images()) == 5 * 7 + 2 * 3


def test_imported_maps_come_without_classifier_and_pacam(run_folder: Path) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    text = text.replace("source: taught", "source: imported").replace("maps: data/cams", "maps: data/imported_cams")
    Path("params.yaml").write_text(text, encoding="utf-8")
    for record in read_dataset(Path("data/dataset")).split("train"):
        content = read_maps(Path("data/cams"), record)
        only = replace(content, maps={"cam": content.maps["cam"]})
        write_cam(Path(f"data/cams/{record.image_id}.npz"), only)
    Path("data/cams").rename("data/imported_cams")
    details = {k: v for k, v in DETAILS["seed"].items() if k not in ("pacam", "taught")}
    _write_metrics("seed", {k: v for k, v in METRICS["seed"].items() if k not in ("pacam", "taught")}, details)
    with_curves = report_page().text
    shutil.rmtree("data/metrics/train_cam")
    Path("data/prototypes.safetensors").unlink()
    page = report_page()
    assert "None: the maps are imported" in page.text and "Prototype 0" not in page.text
    assert page.text == with_curves, "what another run left is not shown"
    assert "made from imported CAMs" in page.text and "Classifier" not in page.text.replace(text, "")
    assert page.text.count("train/loss") == 1 and page.layers().count("CAM") == 5 and "PACAM" not in page.layers()
    shutil.rmtree("data/imported_cams")
    with pytest.raises(UserError, match="python -m stages.import_cams"):
        report_page()


def _rewrite_records(changes: dict[str, Any], split: str | None = None, but: Sequence[str] = ()) -> None:
    dataset = read_dataset(Path("data/dataset"))
    records = [
        record if record.image_id in but or split not in (None, record.split) else replace(record, **changes)
        for record in dataset.records
    ]
    write_dataset(Path("data/dataset"), records, classes=dataset.classes, splits=dataset.splits, image_root=None)


def test_each_class_shows_its_largest_prototypes_and_images_behind_them(run_folder: Path) -> None:
    page = report_page()
    shown = re.findall(r"(red|green|blue|background)\s+(\d+) prototypes? of (\d+) instances?", page.text)
    assert shown == [("red", "2", "2"), ("green", "2", "2"), ("blue", "0", "0"), ("background", "3", "5")]
    assert "None: no training image has an instance of it." in page.text
    of_background = page.text.partition("3 prototypes of 5 instances")[2]
    found = re.findall(r"Prototype (\d): (\d) instances?, ([\d.]+)%", of_background)
    assert found == [("2", "3", "60.0"), ("0", "1", "20.0"), ("1", "1", "20.0")], "the largest first"
    cards = {a["id"]: a["data-name"] for tag, a in page.tags if tag == "li" and "data-name" in a}
    links = [cards[a["data-card"]] for tag, a in page.tags if tag == "a" and "data-card" in a][7:]
    assert links[:2] == ["a", "c"] and links[-9:-6] == ["c", "d", "empty"], "the nearest first"
    assert len(links) == 2 * 2 * 2 + 3 * 3


def test_an_image_that_is_not_on_the_page_has_no_link(run_folder: Path) -> None:
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(re.sub(r"(?m)^  images: 500", "  images: 1", text), encoding="utf-8")
    page = report_page()
    links = [a for tag, a in page.tags if tag == "a" and "data-card" in a]
    pictures = [a for tag, a in page.tags if tag == "img" and "112" in (a.get("width"), a.get("height"))]
    assert {a["data-card"] for a in links} == {"card-0"} and len(pictures) == 17


def test_prototypes_of_a_stage_that_has_not_run(run_folder: Path) -> None:
    Path("data/prototypes.safetensors").unlink()
    with pytest.raises(UserError, match="data/prototypes.safetensors: no such file.*dvc repro fit_prototypes$"):
        make_report()


def test_cells_of_an_instance_by_hand() -> None:
    cam = np.array([[[0.9, 0.6, 0.1]], [[0.2, 0.8, 0.3]]])
    pacam = np.array([[[0.9, 0.4, 0.1]], [[0.2, 0.3, 0.7]]])
    maps = CamFile(np.array([2, 5]), {"cam": cam, "pacam": pacam}, (1, 3))

    def found(label: int, **changes: Any) -> list[bool]:
        settings = CpalSettings.preset("default", **(THRESHOLDS | changes))
        rule = SeedRule("pacam", {"pacam": 0.5})
        masks = LabelMaps(Path("none"), "any")
        results = Results(Path("cams"), Path("crf"), masks, masks, rule, frozenset(), settings)
        return instance_cells(maps, label, results)[0].tolist()

    assert (found(2), found(5), found(0)) == ([True, False, False], [False, True, False], [False, False, True])
    assert found(2, mask_exclusive=False) == [True, True, False]
    assert found(2, refinements=1) == [True, False, False] and found(5, refinements=1) == [False, False, True]
    assert found(0, refinements=1) == [False, True, False]
    nothing = CamFile(np.zeros(0, np.int64), {"cam": np.zeros((0, 2, 2))}, (8, 8))
    maps = nothing
    assert found(0) == [True, True], "an image without a class is background throughout"


THRESHOLDS: dict[str, Any] = {
    "refinements": 0,
    "mask_threshold": 0.5,
    "background_threshold": 0.6,
    "mask_exclusive": True,
}


def test_names_are_escaped_and_an_absent_class_has_a_dash() -> None:
    nothing = {name: Scores({"without_truth": WITHOUT_TRUTH[name]}, {}) for name in METRICS}
    scores = nothing | {"crf": Scores(METRICS["crf"] | DETAILS["crf"] | {"without_truth": FREE}, {"background": 90.0})}
    rest: Any = (LABELS, [], {"Classifier": []}, [], False, "No image.", "x: <1>", {"k": "<v>"}, [])
    report = Report(["<b>&'"], "a < b", scores, *rest)
    page = Page(render_page(report))
    assert ["<b>&'", "–", "–", "–", "–"] in page.rows and ["k", "<v>"] in page.rows
    assert "a < b" in page.text and "x: <1>" in page.text and "No curve was recorded" in page.text
    assert "There is no dvc.lock" in page.text


def test_a_look_has_the_images_own_miou(run_folder: Path) -> None:
    dataset = read_dataset(Path("data/dataset"))
    truth = {record.image_id: read_mask(dataset.mask_path(record)) for record in dataset.records}
    write_mask(Path("data/dataset/masks/b.png"), np.full_like(truth["b"], VOID))
    half = truth["a"].copy()
    half[5:15] = 0  # half of the box that is all of class 1: IoU 50, and of the background 1000/1160
    write_mask(Path("found/a.png"), half)
    for image_id in ("b", "c", "d", "empty"):
        write_mask(Path(f"found/{image_id}.png"), truth[image_id])
    found = LabelMaps(Path("found"), "any")
    rule = SeedRule("taught", {"cam": 0.3, "pacam": 0.5, "taught": 0.5})
    settings = CpalSettings.preset("default")
    results = Results(Path("data/cams"), Path("data/crf"), found, found, rule, frozenset(), settings)
    looks = {record.image_id: compare_results(dataset, record, results) for record in dataset.scored("train")}
    mious = {name: seen.miou for name, seen in looks.items()}
    assert mious["empty"] is None and mious["b"] is None, "no class, and nothing but void"
    assert [mious[name] for name in "acd"] == pytest.approx([100 * (0.5 + 1000 / 1160) / 2, 100, 100])
    assert [seen.record.image_id for seen in worst_first(looks.values(), by_truth=True)][0] == "a"
    by_doubt = [seen.doubt for seen in worst_first(looks.values(), by_truth=False)]
    assert by_doubt == sorted(by_doubt, reverse=True)


def _ranked(labels: list[tuple[int, ...]]) -> list[ImageResult]:
    records = [Record(f"{i}", "train", True, "", 1, 1, seen, None, "") for i, seen in enumerate(labels)]
    return [ImageResult(record, 100.0 - i, {}, None, 0.0, ()) for i, record in enumerate(records)]


@pytest.mark.parametrize(("available", "count"), [(10, 4), (10, 5), (3, 8), (1, 1), (0, 6)])
def test_the_first_are_chosen_and_some_of_the_others(available: int, count: int) -> None:
    looks = _ranked([(1,)] * available)
    chosen, sentence = choose(looks, count, seed=0)
    ids = [int(seen.record.image_id) for seen in chosen]
    assert len(ids) == len(set(ids)) == min(available, count) and ids == sorted(ids)
    assert ids[: (count + 1) // 2] == list(range(min(available, (count + 1) // 2)))
    assert sentence.startswith("All" if available <= count else f"{count} of {available}")
    drawn = {tuple(seen.record.image_id for seen in choose(looks, count, seed=seed)[0]) for seed in range(9)}
    assert (len(drawn) > 1) == (available > count), "the rest depends on the seed"


def test_spread_covers_the_ranks_and_prefers_new_classes() -> None:
    assert [r.image_id for r in spread_over_ranks(_ranked([(1,)] * 9), 3)] == ["1", "4", "7"]
    assert [r.image_id for r in spread_over_ranks(_ranked([(1,), (1,), (1,), (1,), (1,), (2,)]), 2)] == ["1", "5"]
    assert [r.image_id for r in spread_over_ranks(_ranked([(1,)] * 2), 5)] == ["0", "1"]
    assert spread_over_ranks([], 5) == []


def test_commit_tells_clean_from_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() == "unknown: git names no commit here"

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *identity, *arguments], check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    for name in ("code.py", "dvc.lock"):
        Path(name).write_text("1", encoding="utf-8")
    git("add", ".")
    git("commit", "-q", "-m", "m")
    head = git("rev-parse", "HEAD").strip()
    Path("dvc.lock").write_text("2", encoding="utf-8")
    Path("untracked").write_text("2", encoding="utf-8")
    assert commit(results=("data", "dvc.lock")) == f"{head}, clean"
    assert commit() == f"{head}, dirty: dvc.lock"
    Path("code.py").write_text("2", encoding="utf-8")
    assert commit(results=("data", "dvc.lock")) == f"{head}, dirty: code.py"


def test_locked_outs_leave_out_one_stage(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    assert locked_outs(path, without="report") == []
    path.write_text(
        "schema: '2.0'\nstages:\n  prepare:\n    cmd: c\n    outs:\n    - path: data/dataset\n      hash: md5\n"
        "      md5: aa.dir\n      size: 1\n  setup:\n    cmd: c\n  report:\n    cmd: c\n    outs:\n"
        "    - path: data/report\n      hash: md5\n      md5: bb.dir\n",
        encoding="utf-8",
    )
    assert locked_outs(path, without="report") == [("prepare", "data/dataset", "aa.dir")]
