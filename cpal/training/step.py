"""One optimizer step of a network with its losses, on a batch that may be split into parts."""

import contextlib

import torch
from mmengine.model import BaseModel, MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn


class LossModel(BaseModel):
    """A network together with its losses; `train` trains it. `accumulate`: parts of a batch, see `accumulated_step`."""

    accumulate = 1

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        return accumulated_step(self, self, data, optim_wrapper)

    def new_layers(self) -> list[nn.Module]:
        """The layers that learn at head_learning_rate, if the settings have this key."""
        return []


class Distributed(MMDistributedDataParallel):
    """mmengine's wrapper for batches in parts: the processes exchange gradients only after the last part."""

    def train_step(self, data: dict[str, Tensor], optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        return accumulated_step(self, self.module, data, optim_wrapper)


def accumulated_step(
    called: LossModel | Distributed, model: LossModel, data: dict[str, Tensor], optim_wrapper: OptimWrapper
) -> dict[str, Tensor]:
    """Split a batch into model.accumulate parts, make one optimizer step for all parts, and return the mean losses.

    The gradient is the mean of the parts' gradients. For a loss that is a mean over images, this is the gradient of the
    whole batch; for a mean over labeled pixels, it is close to that. `called` is `model` or the wrapper of `model`.
    """
    data = model.data_preprocessor(data, True)  # moves it to the device
    data["mask"] = data["mask"].long()  # the loaders send bytes
    parts = zip(*(values.chunk(model.accumulate) for values in data.values()), strict=True)
    apart = called.no_sync if isinstance(called, Distributed) else contextlib.nullcontext
    logs = []
    for number, part in enumerate(parts, start=1):
        with apart() if number < model.accumulate else contextlib.nullcontext():
            with optim_wrapper.optim_context(called):
                losses = called._run_forward(dict(zip(data, part, strict=True)), mode="loss")
            loss, log = model.parse_losses(losses)
            optim_wrapper.backward(loss / model.accumulate)
        logs.append(log)
    optim_wrapper.step()
    optim_wrapper.zero_grad()
    return {name: torch.stack([log[name].detach() for log in logs]).mean() for name in logs[0]}
