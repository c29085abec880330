"""The yardstick trains on ground truth, of the images that have it, and says how much of it the pipeline reaches."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cpal.data.dataset import Dataset
from cpal.data.masks import LabelMaps, read_mask
from cpal.errors import UserError
from cpal.evaluation.score_files import write_scores
from cpal.settings.config import Config
from experiments import upper_bound

Settings = Callable[..., Config]


@pytest.mark.parametrize("iterations", [0, 5])
def test_trains_on_ground_truth_and_scores_val(
    settings: Settings, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    """A segmentor that knows all reaches 100 percent, if it is asked about the validation images only.

    With a CRF at test, a segmentor that misses a square in each image reaches it too: the pictures have clean edges.
    """
    monkeypatch.setattr(upper_bound, "CACHE", tmp_path)
    trained: list[np.ndarray] = []

    def train(_: Dataset, records: Any, masks: LabelMaps, *__: Any) -> torch.nn.Module:
        trained.extend(masks.read(record) for record in records)
        return torch.nn.Identity()

    truth = [read_mask(tiny_dataset.mask_path(record)) for record in tiny_dataset.scored("val")]
    answers = iter(truth)

    def probabilities(_: Any, size: tuple[int, int], views: list[Tensor]) -> Tensor:
        answer = next(answers)
        assert answer.shape == size
        wrong = answer.copy()
        if iterations:
            y, x = np.argwhere(answer > 0).mean(axis=0).astype(int)
            wrong[y : y + 2, x : x + 2] = 0
        shown = torch.from_numpy(wrong).long()
        return 0.1 / 3 + (0.9 - 0.1 / 3) * torch.nn.functional.one_hot(shown, 4).permute(2, 0, 1).float()

    monkeypatch.setattr("cpal.segmentation.deeplab.train_segmentation", train)
    monkeypatch.setattr("cpal.segmentation.deeplab.probabilities", probabilities)
    records = tiny_dataset.split("train")
    config = settings(**{"final_test.crf.iterations": iterations})
    scores = upper_bound.one_seed(config, tiny_dataset, records, 3, "key", device="cpu", loaders=0)
    assert scores["mIoU"] == 100 and set(scores) == {"mIoU", "background", *tiny_dataset.classes}
    for record, mask in zip(records, trained, strict=True):
        assert np.array_equal(mask, read_mask(tiny_dataset.mask_path(record)))


def test_the_table_has_the_share_of_the_bound(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upper_bound, "METRICS", tmp_path)
    write_scores(tmp_path, "segmentation", {"miou": 57.0}, [{"class": "cat", "iou": 30.0}], {})
    lines = upper_bound.table(
        {0: {"mIoU": 60.0, "cat": 40.0}, 1: {"mIoU": 54.0, "cat": 80.0}}, upper_bound.own_scores(), 7, settings()
    )
    assert "| mIoU | 60.0 | 54.0 | 57.0 ± 4.2 | 57.0 | 100.0 |" in lines
    assert "| cat | 40.0 | 80.0 | 60.0 ± 28.3 | 30.0 | 50.0 |" in lines
    assert any("7 training images" in line for line in lines)


def test_without_masks_it_says_so(tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(tiny_dataset, records=tuple(replace(record, mask=None) for record in tiny_dataset.records))
    monkeypatch.setattr(upper_bound, "read_dataset", lambda _: bare)
    with pytest.raises(UserError, match="data.masks: .* need ground-truth masks"):
        upper_bound.main()


def test_a_damaged_file_of_bounds_is_named(tmp_path: Path) -> None:
    path = tmp_path / "upper_bound.json"
    assert upper_bound.read_bounds(path) == {}
    path.write_text('{"settings": "key", "seeds": {"0": {"mIoU": 60.0}}}')
    assert upper_bound.read_bounds(path)["seeds"] == {"0": {"mIoU": 60.0}}
    for text in ("{", "[]", '{"seeds": 3, "settings": "key"}'):
        path.write_text(text)
        with pytest.raises(UserError, match="upper_bound.json: damaged .* remove it"):
            upper_bound.read_bounds(path)
