"""The device that a stage runs its network on; importing torch takes seconds, so only these stages import this."""

import os
from datetime import timedelta

import torch
import torch.distributed

from cpal.errors import UserError
from stages.job.launch import PROCESSES

TUNED = ("tf32", "autotune")  # words of CPAL_CUDA
WAIT = timedelta(days=30)  # for the others at a meeting; torchrun ends the processes of a machine when one fails


def joined_device(name: str, *, training: bool = False) -> torch.device:
    """The device of this process. torchrun's processes join here, each with a GPU of its own, or on CPUs by gloo.

    auto takes CUDA, then Apple's GPU, then the CPU. Raises UserError for a device that this machine lacks, for the
    number of a GPU under torchrun, for more processes than GPUs, and for an unknown word in CPAL_CUDA.
    """
    device = _find(name)
    if PROCESSES > 1 and device.index is not None:
        raise UserError(f"--device {name}: each process has a GPU of its own; leave the number out")
    _tune(os.environ.get("CPAL_CUDA", ""), training=training)
    if PROCESSES > 1 and device.type == "mps":
        raise UserError("torchrun: Apple's GPU works for one process only; add --device cpu, or start without torchrun")
    if PROCESSES > 1 and not torch.distributed.is_initialized():
        if device.type == "cuda":
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
            if device.index >= (there := torch.cuda.device_count()):
                raise UserError(f"torchrun: this machine has {there} GPU(s) for more processes; lower --nproc-per-node")
            torch.cuda.set_device(device)
        backend, own = ("nccl", device) if device.type == "cuda" else ("gloo", None)
        torch.distributed.init_process_group(backend, timeout=WAIT, device_id=own)
    return device


def torch_device(name: str) -> torch.device:
    """The device of a command that is no stage, which has one process; see `joined_device`.

    Raises UserError under torchrun, whose processes would all do the same work.
    """
    if PROCESSES > 1:
        raise UserError("torchrun is for the stages of the pipeline; start this command with python -m")
    return _find(name)


def _tune(words: str, *, training: bool) -> None:
    """Speed up CUDA at the cost of digits: tf32 in matrix products, autotune for cuDNN's choice by measured time.

    Convolutions use TF32 in any case, as PyTorch sets it. Only trainings have crops of one size, for which measuring
    pays. Without CUDA neither word has an effect.
    """
    wanted = words.replace(",", " ").split()
    if unknown := set(wanted) - set(TUNED):
        raise UserError(f"CPAL_CUDA={words}: {', '.join(sorted(unknown))} is unknown; choose from {', '.join(TUNED)}")
    torch.backends.cuda.matmul.allow_tf32 = "tf32" in wanted
    torch.backends.cudnn.benchmark = training and "autotune" in wanted


def _find(name: str) -> torch.device:
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
    number = name.partition(":")[2] or "0"
    if not number.isdecimal() or int(number) >= max(1, torch.cuda.device_count()):
        raise UserError(f"--device {name}: there is no such device; leave its number out, or count from 0")
    return torch.device(name)
