"""The three files of a step: what is written is read back, and what is damaged names the stage that makes it anew."""

import json
from pathlib import Path
from typing import Any

import pytest

from cpal.errors import UserError
from cpal.evaluation.score_files import join_details, read_scores, write_scores

METRICS = {"miou": 50.1, "pixel_accuracy": 80.2, "cam": 40.3}
BY_CLASS = [{"class": "background", "iou": 90.1}, {"class": "cat", "iou": 10.0}]
DETAILS: dict[str, dict[str, Any]] = {
    "scored": {"split": "val"},
    "cam": {"miou": 40.3, "threshold": 0.3},
    "without_truth": {"images": 2, "label_f1": None},
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_scores(tmp_path, "seed", METRICS, BY_CLASS, DETAILS)
    figures, iou = read_scores(tmp_path, "seed")
    assert figures == METRICS | DETAILS, "a detail stands in place of the short figure of its name"
    assert iou == {"background": 90.1, "cat": 10.0}


def test_files_are_as_dvc_shows_them(tmp_path: Path) -> None:
    """Numbers alone in the metrics; rows, which can be plotted, in the other two."""
    write_scores(tmp_path, "seed", METRICS, BY_CLASS, DETAILS)
    content = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()}
    rows = [{"of": n, "figure": f, "value": v} for n, figures in DETAILS.items() for f, v in figures.items()]
    assert rows[:2] == [
        {"of": "scored", "figure": "split", "value": "val"},
        {"of": "cam", "figure": "miou", "value": 40.3},
    ]
    assert content == {"seed": METRICS, "seed_iou": BY_CLASS, "seed_details": rows}


def test_a_step_without_ground_truth(tmp_path: Path) -> None:
    write_scores(tmp_path, "crf", {}, [], {"without_truth": DETAILS["without_truth"]})
    assert read_scores(tmp_path, "crf") == ({"without_truth": DETAILS["without_truth"]}, {})


def test_joining_changes_nothing() -> None:
    rows = [{"of": "cam", "figure": "miou", "value": 40.3}]
    assert join_details(METRICS, rows)["cam"] == {"miou": 40.3}
    assert rows == [{"of": "cam", "figure": "miou", "value": 40.3}] and METRICS["cam"] == 40.3


@pytest.mark.parametrize("part", ["", "_details", "_iou"])
@pytest.mark.parametrize("content", [None, "", "[", "3", "[3]", '[{"miou": 1}]', '{"miou": true}', '{"miou": NaN}'])
def test_what_is_damaged_names_its_stage(tmp_path: Path, part: str, content: str | None) -> None:
    write_scores(tmp_path, "seed", METRICS, BY_CLASS, DETAILS)
    path = tmp_path / f"seed{part}.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content, encoding="utf-8")
    problem = (
        "no such file; .*dvc repro evaluate_seed" if content is None else "damaged; .*dvc repro -f -s evaluate_seed"
    )
    with pytest.raises(UserError, match=rf"seed\w*\.json: {problem}$"):
        read_scores(tmp_path, "seed")
