"""The losses of a tiny training, recorded: a change of the code that was meant to change no result shows here."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cpal.data.dataset import Dataset
from cpal.method.train_cam import train_classifier
from cpal.settings.config import Config
from cpal.training.loop import Run

GOLDEN = {
    "loss_classification": [0.7788, 0.626, 0.8056, 0.4872, 0.7204, 0.5999],
    "loss_self": [0.0, 0.0, 0.215, 0.1954, 0.125, 0.2903],
}


def test_losses_of_a_tiny_training(settings: Callable[..., Config], tiny_dataset: Dataset, tmp_path: Path) -> None:
    """Processors round differently: two percent are allowed, a changed augmentation or learning rate makes more."""
    config = settings(**{"hosts.irn.epochs": 3})
    run = Run(0, tmp_path, torch.device("cpu"), 0)
    train_classifier(
        tiny_dataset, tiny_dataset.split("train"), config.chosen_host, config.cpal, run, diagnose=lambda *_: {}
    )
    for name, expected in GOLDEN.items():
        with (tmp_path / "curves/plots/metrics" / f"{name}.tsv").open(encoding="utf-8", newline="") as stream:
            found = [float(row[name]) for row in csv.DictReader(stream, delimiter="\t")]
        assert found == pytest.approx(expected, rel=0.02, abs=1e-4)
