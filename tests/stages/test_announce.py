"""The first line of a stage, and what it leaves behind about its time."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from cpal.data.dataset import Dataset, read_dataset
from cpal.data.masks import read_mask, write_confidence, write_mask
from cpal.settings.config import Config
from stages.job.announce import first_line, pipeline
from stages.job.job import Job

ROOT = Path(__file__).parents[2]


def test_stages_are_counted_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    entries = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert pipeline() == list(entries) and len(entries) > 10


@pytest.fixture
def project(tmp_path: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the data set, and its masks as results."""
    monkeypatch.chdir(tmp_path)
    for name in ("cpal", "stages", "dvc.yaml", "params.yaml"):
        Path(name).symlink_to(ROOT / name)
    shutil.copytree(tiny_dataset.mask_root, "data/dataset")
    for record in tiny_dataset.records:
        for folder in ("pseudo_masks", "predictions"):
            write_mask(Path(f"data/{folder}/{record.image_id}.png"), read_mask(tiny_dataset.mask_path(record)))
        write_confidence(
            Path(f"data/predictions/confidence/{record.image_id}.png"), np.full(record.size, 200, np.uint8)
        )
    return tmp_path


def test_each_stage_says_how_many_images_it_has(project: Path, settings: Callable[..., Config]) -> None:
    """Five images to train on, all of which are scored; two to validate on."""
    dataset = read_dataset(Path("data/dataset"))
    assert (len(dataset.split("train")), len(dataset.split("val")), len(dataset.predicted())) == (5, 2, 5)
    order = pipeline()
    lines = {name: first_line(Job(name, settings()), order) for name in order}
    number = {name: f"stage {place} of {len(order)}: {name}, " for place, name in enumerate(order, 1)}
    other = {"prepare": "data.source toy", "evaluate_labels": "2 images", "report": "7 images"}
    other |= {name: "7 images" for name in ("predict_segmentation", "evaluate_segmentation")}
    other |= {name: "nothing to do with these settings" for name in ("first_round", "train_affinity")}
    assert lines == {name: number[name] + other.get(name, "5 images") for name in order}
    assert first_line(Job("make_cams", settings(), limit=3), order).endswith("make_cams, 3 images")
    sample = settings(**{"evaluate.train_images": 3})
    for name in ("predict_segmentation", "evaluate_segmentation"):
        assert first_line(Job(name, sample), order).endswith(f"{name}, 5 images")
        assert first_line(Job(name, sample, limit=1), order).endswith(f"{name}, 2 images")
    busy = settings(host="amn", **{"affinity.method": "irn", "taught_cam.decay": 0.0, "seeds.source": "pacam"})
    ends = {name: first_line(Job(name, busy), order).partition(", ")[2] for name in ("first_round", "train_affinity")}
    assert ends == {"first_round": "5 images", "train_affinity": "5 images"}
    assert first_line(Job("teach_cam", busy), order).endswith("nothing to do with these settings")


def test_a_stage_announces_itself_and_notes_its_time(project: Path) -> None:
    def run(*arguments: str) -> list[str]:
        command = [sys.executable, "-m", "stages.evaluate_segmentation", "--workers", "1", *arguments]
        variables = os.environ | {"PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=variables, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()

    place = pipeline().index("evaluate_segmentation") + 1
    times = Path(".cache/times/evaluate_segmentation.json")
    assert run("--limit", "2", "--out", "try")[0] == f"stage {place} of 18: evaluate_segmentation, 4 images"
    assert not times.exists(), "a trial is no run of the stage"
    assert run()[0] == f"stage {place} of 18: evaluate_segmentation, 7 images"
    took = json.loads(times.read_text())
    assert took["processes"] == 1 and took["peak_memory"] > 10_000_000 and took["processor_seconds"] > 0
