"""A running mean of the weights in training: the mean of many noisy steps is often the better network."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cpal.training.checkpoints import plain


class Averaging(Hook):
    """Gives the model, after the training, an exponential moving average of its weights over the steps.

    After each step the average becomes decay * average + (1 - decay) * weights; it starts with the weights of the first
    step. Buffers, such as a batch norm's statistics, are those of the last step.
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
