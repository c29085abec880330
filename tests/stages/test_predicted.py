"""What stages share on images: parallel calls, and the images that the segmentation model labels."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cpal.data.dataset import Dataset
from cpal.settings.config import Config
from stages.job.in_parallel import in_parallel
from stages.job.job import Job


@pytest.mark.parametrize("workers", [0, 2])
def test_parallel_calls_are_those_of_map(workers: int) -> None:
    assert in_parallel(workers, "raise", pow, [2, 3, 4], [3, 2, 1]) == [8, 9, 4]
    assert in_parallel(workers, "negate", lambda value: -value, range(5)) == [0, -1, -2, -3, -4]
    assert in_parallel(workers, "negate", abs, []) == []


def test_the_model_labels_all_validation_images_and_a_sample(
    tiny_dataset: Dataset, settings: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_dataset.mask_root, tmp_path / "data/dataset")
    monkeypatch.chdir(tmp_path)

    def labeled(images: int | None, seed: int = 0, limit: int | None = None) -> list[str]:
        config = settings(seed=seed, **{"evaluate.train_images": images})
        return [record.image_id for record in Job("predict_segmentation", config, limit=limit).predicted]

    assert labeled(None) == ["e", "f", "a", "b", "c", "d", "empty"]
    samples = [labeled(2, seed) for seed in range(10)]
    assert all(sample[:2] == ["e", "f"] and sample[2:] == sorted(sample[2:]) for sample in samples)
    assert {len(sample) for sample in samples} == {4} and len(set(map(tuple, samples))) > 1
    assert labeled(2, limit=1) == [samples[0][0], samples[0][2]]
