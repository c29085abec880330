"""A running mean of the weights in training: the mean of many noisy steps is often the better network."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cpal.training.checkpoints import plain


class Averaging(Hook):
    """Keeps the mean of the weights with weights falling by `decay` a step; after the training, the model has the mean.

    The mean starts at the first step's weights. Buffers, such as a batch norm's statistics, are the last step's.
    Checkpoints hold the mean, so that a killed training ends with the same weights.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def before_run(self, runner: Runner) -> None:
        self.mean = AveragedModel(plain(runner.model), multi_avg_fn=get_ema_multi_avg_fn(self.decay))

    def after_train_iter(self, runner: Runner, *_: Any, **__: Any) -> None:
        self.mean.update_parameters(plain(runner.model))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        checkpoint["mean"] = self.mean.state_dict()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        self.mean.load_state_dict(checkpoint["mean"])

    def after_train(self, runner: Runner) -> None:
        model = plain(runner.model)
        model.load_state_dict(model.state_dict() | dict(self.mean.module.named_parameters()))
