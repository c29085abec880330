"""A network's inference in half precision: its layers compute in bf16 or fp16, what it gives is float32."""

from typing import Any

import torch
from torch import Tensor, nn


def compute_in_half(network: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Let each later call of the network run under autocast to `dtype`; weights and outputs stay float32.

    CPAL's arithmetic on the outputs (normalised features, prototypes, maps) is then that of float32.
    """
    autocast = torch.autocast(device.type, dtype=dtype)

    def enter(*_: Any) -> None:
        autocast.__enter__()

    def leave(module: nn.Module, inputs: Any, output: Any) -> Any:
        autocast.__exit__(None, None, None)
        return _floats(output)

    network.register_forward_pre_hook(enter)
    network.register_forward_hook(leave, always_call=True)  # also after an error


def _floats(output: Any) -> Any:
    """Tensors, also in lists and named tuples, in float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, list):
        return [_floats(part) for part in output]
    return type(output)(*map(_floats, output)) if isinstance(output, tuple) else output
