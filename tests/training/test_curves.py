"""The curves of a training by hand, and the step at which a loss is no number."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cpal.errors import UserError
from cpal.training.curves import TrainingLog


def steps(log: TrainingLog, losses: list[float]) -> Any:
    """Take the log through these steps, two to an epoch."""
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.25}, {"lr": 9.0}])
    runner: Any = SimpleNamespace(iter=0, rank=1, world_size=1, optim_wrapper=optimizer)
    log.before_train(runner)
    for step, loss in enumerate(losses):
        runner.iter = step
        log.after_train_iter(runner, step, outputs={"loss": torch.tensor(loss)})
        runner.iter = step + 1
        if step % 2:
            log.after_train_epoch(runner)
    return runner


def test_a_point_is_the_mean_of_the_losses_since_the_last_one(tmp_path: Path) -> None:
    """Three steps to a point, so that an epoch can end between two points."""
    log = TrainingLog(tmp_path, 600)
    steps(log, [1.0, 2.0, 6.0, 5.0, 5.0, 8.0, 4.0])
    assert log.history == [
        {"step": 3, "loss": pytest.approx(3.0), "learning_rate": 0.25},
        {"step": 6, "loss": pytest.approx(6.0), "learning_rate": 0.25},
    ]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_is_named_by_its_step(tmp_path: Path, bad: float) -> None:
    with pytest.raises(UserError, match=r"the loss became .* at step 4 of 600; lower the learning rates"):
        steps(TrainingLog(tmp_path, 600), [1.0, 1.0, 1.0, bad, 1.0])


def test_each_process_seed_and_epoch_has_dropout_of_its_own(tmp_path: Path) -> None:
    log, drawn = TrainingLog(tmp_path, 600), set[float]()
    for seed, epoch, rank in itertools.product((0, 1, 2), (0, 1, 2), (0, 1)):
        log.before_train_epoch(SimpleNamespace(world_size=2, seed=seed, epoch=epoch, rank=rank))
        drawn.add(float(torch.rand(())))
    assert len(drawn) == 18
