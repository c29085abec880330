"""Options of the stages that run a network, apart from the rest because importing torch takes seconds."""

from typing import Annotated

import torch
import typer

from cpal.errors import UserError
from stages.options import DEFAULT_WORKERS

Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Loaders = Annotated[
    int,
    typer.Option("--loaders", min=0, help="Processes that read images ahead of the network."),
]

DEFAULT_LOADERS = DEFAULT_WORKERS if torch.cuda.is_available() else 1  # on a CPU the network needs the cores itself


def torch_device(name: str) -> torch.device:
    """auto takes CUDA, then Apple's GPU, then the CPU.

    Raises UserError for a device that this machine lacks.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if name.partition(":")[0] not in available:
        raise UserError(f"--device {name}: unknown; choose auto, cpu, cuda or mps")
    if not available[name.partition(":")[0]]:
        raise UserError(f"--device {name}: not available on this machine; use --device auto or cpu")
    return torch.device(name)
