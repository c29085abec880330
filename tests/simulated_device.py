"""A stage on a GPU that is not there: `python -m tests.simulated_device train_cam` needs no driver.

Its tensors compute on the CPU, but they say that they are on CUDA, and they refuse a tensor that was left on the CPU,
as CUDA's kernels do. So it shows whether code moves every tensor, and nothing of CUDA's rounding, speed or memory.
"""

import runpy
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

ROOT = Path(__file__).parents[1]
DEVICE = torch.device("cuda", 0)  # with its number: without it, PyTorch asks the driver for the current device
CORE = torch.device("lazy", 0)  # needs no driver, and its gradients are computed in the CPU's thread
ATEN = torch.ops.aten
MOVES = {ATEN.copy_.default, ATEN._to_copy.default}  # from one device to another
INDEXED = {ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default, ATEN._index_put_impl_.default}


class Far(torch.Tensor):
    """A tensor on the simulated device; `near` holds its values. For PyTorch's core it is on CORE."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> "Far":
        far = torch.Tensor._make_wrapper_subclass(
            cls,
            near.size(),
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=CORE,
            dispatch_sizes_strides_policy="sizes",  # an operation in place may change the shape
        )
        far.near = near
        return far

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def tolist(self) -> Any:
        return self.near.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.near.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, *call: Any, **_: Any) -> Any:
        func, _types, args, kwargs = call
        return dispatched(func, args, kwargs or {})


class Simulated(TorchDispatchMode):
    """Lets this thread create tensors on the simulated device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return dispatched(func, args, kwargs or {})


def dispatched(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What `func` gives, on the device that CUDA would give it on. Raises RuntimeError where CUDA would."""
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    any_far = any(isinstance(tensor, Far) for tensor in tensors)
    left = [tuple(tensor.shape) for tensor in tensors if not isinstance(tensor, Far) and tensor.dim()]
    index_only = func in INDEXED and isinstance(args[0], Far)  # a list of places may come from the CPU
    if any_far and left and func not in MOVES and not index_only:
        raise RuntimeError(f"{func}: all tensors must be on the same device; on the CPU: {left}")
    asked = kwargs.get("device")
    if asked is not None:
        to_far = torch.device(asked).type in (DEVICE.type, CORE.type)
    else:
        to_far = isinstance(args[0], Far) if func in MOVES else any_far
    if asked is not None and to_far:
        kwargs = {name: value for name, value in kwargs.items() if name != "pin_memory"} | {"device": "cpu"}
    result = func(*tree_map(near, args), **tree_map(near, kwargs))
    if not to_far:
        return result
    own = {id(near(tensor)): tensor for tensor in tensors}  # an operation in place returns its argument

    def far(value: Any) -> Any:
        return own[id(value)] if id(value) in own else Far(value) if isinstance(value, torch.Tensor) else value

    return tree_map(far, result)


def near(value: Any) -> Any:
    return value.near if isinstance(value, Far) else value


@contextmanager
def simulated() -> Iterator[torch.device]:
    """The device, which this thread and the threads that it starts can use; PyTorch finds one GPU."""
    start = threading.Thread.__dict__["_bootstrap_inner"]

    def start_simulated(thread: threading.Thread) -> None:
        with Simulated():
            start(thread)

    def answers(name: str, value: Any) -> Any:
        return patch(f"torch.{name}", new=value if isinstance(value, bool) else lambda *_: value)

    with (
        # A network that moves keeps its parameters, as on CUDA: an optimizer may hold them already.
        answers("__future__.get_swap_module_params_on_conversion", 1),
        answers("cuda._initialized", True),
        answers("cuda.is_available", 1),
        answers("cuda.device_count", 1),
        answers("cuda.get_device_name", "simulated"),
        answers("cuda.get_rng_state", torch.get_rng_state()),
        answers("cuda.set_rng_state", None),
        answers("accelerator.is_available", 0),  # the loader would pin memory for a device that is there
        patch.object(threading.Thread, "_bootstrap_inner", start_simulated),
        Simulated(),
    ):
        yield DEVICE


if __name__ == "__main__":
    stage = ROOT / "stages" / f"{sys.argv[1]}.py"
    sys.argv = [str(stage), *sys.argv[2:], "--device", str(DEVICE)]
    with simulated():
        runpy.run_module(f"stages.{stage.stem}", run_name="__main__", alter_sys=True)
