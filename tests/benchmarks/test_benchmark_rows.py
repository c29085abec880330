"""Work and reference of each row give the same on tiny inputs; and the page that `benchmarks.run` writes."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import cams, clustering, crf, disk, growth, inputs, memory, reading, run, scoring, training_step, walk
from benchmarks.measure import Comparison, Growth, Pair, Result, Target
from experiments.origin import read_rows

SMALL = "mobilenetv3_small_050"
PAIRS: dict[str, Callable[[], Pair]] = {
    "step": partial(training_step.pair, SMALL, 64, 2, 3),
    "maps": partial(cams.maps, SMALL, 48, (1.0, 2.0), 3),
    "pacam": partial(cams.pacam, 5, 7, 3, 2, 4),
    "kmeans": partial(clustering.kmeans, 2, 60, 5, 4, 10),
    "crf-list": partial(crf.many, 3, (24, 30), 1),
    "crf-image": partial(crf.single, (24, 30)),
    "walk": partial(walk.whole, (9, 12), 2),
    "thresholds": partial(scoring.thresholds, 3, (20, 24), 7, 4),
    "reading": partial(reading.reading, 2, (24, 30), 30, (1.0, 2.0), SMALL),
    "writing": partial(disk.writing, 2, 48, (1.0,)),
}


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LITE0", SMALL)
    monkeypatch.setattr(growth, "LITE0", SMALL)


@pytest.mark.parametrize("name", PAIRS)
def test_work_and_reference_agree(name: str) -> None:
    pair = PAIRS[name]()
    assert pair.agree(pair.work(), pair.reference())
    pair.close()


def test_a_difference_is_noticed() -> None:
    """For each kind of result: a loss, a map, a set of centers, a curve, the CRF's labels."""
    for name in ("step", "pacam", "kmeans", "walk", "thresholds", "crf-image"):
        pair = PAIRS[name]()
        found = pair.reference()
        if isinstance(found, list) and isinstance(found[0], float):
            wrong = [found[0] + 1, *found[1:]]
        elif isinstance(found, list):
            wrong = [type(found[0])(found[0].label ^ 1, found[0].confidence)]
        else:
            wrong = found + 1
        with pytest.raises(AssertionError):
            pair.agree(wrong, found)


def test_the_matrix_is_a_step_of_the_walk() -> None:
    matrix = walk.transition(np.random.default_rng(0).random((4, 5)).astype(np.float32), 3, 2.0)
    assert np.allclose(matrix.sum(axis=0), 1)
    assert matrix[0, 4] == 0, "cells further apart than the radius"


def test_a_part_of_a_squaring_costs_a_part() -> None:
    pair = walk.part_of_a_squaring((8, 8), 1)
    assert pair.reference().shape == (64 // walk.PART, 64)


def test_bytes_are_those_of_the_files() -> None:
    found = disk.sizes((1.0,), 48, (48, 64))
    assert set(found) == {"cams", "crf", "affinity"}
    # Two classes at a quarter of 48 x 64, two bytes a cell: three maps each; after the walk also a background.
    assert 0.5 < found["cams"] / (3 * 2 * 12 * 16 * 2) < 1.6
    assert found["affinity"] < 3 * 12 * 16 * 2 + 2000
    assert found["crf"] < 2 * 48 * 64


def test_waiting_is_a_share() -> None:
    share, text = reading.waiting(3, (24, 30), 30, (1.0,), SMALL)
    assert 0 <= share <= 100 and " s of " in text


def test_peak_memory_grows_with_what_is_held() -> None:
    before = training_step.peak_resident()
    held = np.ones(200_000_000, np.uint8)
    assert training_step.peak_resident() >= 0.95 * min(before, 200) and held.any()


@pytest.mark.slow
def test_peak_memory_of_stages_over_few_and_more_images() -> None:
    ratio, text = memory.growth("make_cams", 6, 12)
    assert 0.5 < ratio < 2 and text.count("MB") == 2
    assert set(memory.peaks(6)) == set(memory.STAGES) and min(memory.peaks(6).values()) > 20


@pytest.mark.slow
def test_memory_is_that_of_two_processes() -> None:
    ratio, text = training_step.memory_ratio(SMALL, 64, 2, 3)
    assert 0.5 < ratio < 2 and text.count("MB") == 2


@pytest.mark.parametrize("row", growth.rows(), ids=lambda row: row.name)
def test_growing_works_run(row: Growth) -> None:
    row.make({"images": 2, "classes": 2, "long side": 32, "bank length": 60}[row.variable])()


def test_photographs_are_different_and_of_the_size() -> None:
    crops = inputs.photographs(4, (30, 40))
    assert [crop.shape for crop in crops] == [(30, 40, 3)] * 4
    assert len({crop.tobytes() for crop in crops}) == 4
    assert [label.sum() for label in inputs.image_labels(4, 5)] == [2] * 4


# The command


def test_names_are_unique_and_targets_are_the_issues() -> None:
    rows = run.comparisons()
    names = [row.name for row in rows] + [row.name for row in growth.rows()]
    assert len(set(names)) == len(names)
    limits = {row.name: row.target for row in rows}
    assert limits["step-lite0-6"] == ("at most", 1.05) and limits["step-resnet50-20-memory"] == ("at most", 1.10)
    assert limits["kmeans-3072"] == ("at least", 3) and limits["walk"] == ("at least", 100)


def run_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> None:
    one = Pair(lambda: 1, lambda: 1, lambda found, expected: "equal")
    rows = [Comparison("fast", "work", "other", Target("at most", 9e9), lambda: one)]
    rows += [Comparison("slow", "work", "other", Target("at least", 9e9), lambda: one, slow=True)]
    monkeypatch.setattr(run, "comparisons", lambda: rows)
    sizes = (1, 2, 4)
    monkeypatch.setattr(growth, "rows", lambda: [Growth("grows", "work", "images", sizes, lambda size: lambda: None)])
    monkeypatch.setattr(run, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    run.main()


def test_the_page_has_both_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_it(monkeypatch, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text + "\n"
    rows = read_rows(tmp_path / "benchmarks.csv")
    assert [row["name"] for row in rows] == ["fast", "slow", "grows"] and run.page(rows) == text
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert all(row["commit"].startswith(head) and row["command"] == run.COMMAND for row in rows)
    lines = text.splitlines()
    assert [line.split("|")[1].strip() for line in lines if line.startswith(("| fast", "| slow", "| grows"))] == [
        *("fast", "slow", "grows")
    ]
    fast, slow = (next(line for line in lines if line.startswith(f"| {name}")) for name in ("fast", "slow"))
    assert "| yes |" in fast and "| **no** |" in slow and "| equal |" in fast
    assert "cores" in text and "torch " in text and "`python -m benchmarks.run`" in text


def test_rows_that_are_measured_anew_replace_those_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run_it(monkeypatch, tmp_path)
    before = read_rows(tmp_path / "benchmarks.csv")
    for row in before:
        row["date"] = "2000-01-01"
    run.write_page(tmp_path / "benchmarks.md", before)
    run_it(monkeypatch, tmp_path, "--only", "slow", "--publish")
    after = read_rows(tmp_path / "benchmarks.csv")
    assert [row["name"] for row in after] == ["fast", "slow", "grows"]
    assert [row["date"] == "2000-01-01" for row in after] == [True, False, True]
    assert after[1]["command"].endswith("--only slow --publish") and after[0] == before[0]
    text = (tmp_path / "benchmarks.md").read_text(encoding="utf-8")
    runs = [line.rsplit("|", 2)[1].strip() for line in text.splitlines() if line.startswith(("| fast", "| slow"))]
    assert runs == ["1", "2"] and "| 2 | " in text.partition("## Runs")[2]


def test_the_published_page_is_made_from_its_values() -> None:
    rows = read_rows(run.PAGE.with_suffix(".csv"))
    assert run.page(rows) == run.PAGE.read_text(encoding="utf-8")
    short_of_it = run.PAGE.read_text(encoding="utf-8").count("| **no** |")
    assert short_of_it == len(run.missed(rows)[2:-1]), "each row that does not reach its target says why"


@pytest.mark.parametrize("arguments", [["--quick"], ["--only", "fast"]])
def test_a_part_of_the_rows_does_not_replace_the_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    run_it(monkeypatch, tmp_path, *arguments)
    assert not (tmp_path / "benchmarks.md").exists()
    out = capsys.readouterr().out
    assert "| fast |" in out and "| slow |" not in out
    assert ("| grows |" in out) == (arguments == ["--quick"])
    run_it(monkeypatch, tmp_path, *arguments, "--out", str(tmp_path / "other.md"))
    assert (tmp_path / "other.md").exists()


def test_a_row_without_a_target_is_neither_reached_nor_missed() -> None:
    result = Result("a", "b", "c", "1 s / 2 s", 0.5, "x", None, "wall", "")
    row = run.kept(result) | dict.fromkeys(run.ORIGIN, "")
    assert run.table([row])[2] == "| a | b | c | 1 s / 2 s | 0.5 x |  |  | wall |  | 1 |"
