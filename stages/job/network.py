"""The job of a stage with a network: its device, and its share of the images when torchrun starts several processes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpal.data.dataset import Record
from cpal.errors import UserError
from cpal.settings.base import Amp
from stages.job.job import Job
from stages.job.launch import ON_THIS_MACHINE, RANK, meet, share
from stages.job.options import DEFAULT_WORKERS

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class NetworkJob(Job):
    """The job of a stage that runs a network, with a device, and processes that read images for it."""

    device_name: str = "auto"
    loaders_asked: int | None = None
    amp: Amp = "off"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes what all have made together."""
        return RANK == 0

    @property
    def trains(self) -> bool:
        """Whether the stage does nothing but train."""
        return self.name.startswith("train_")

    @cached_property
    def device(self) -> "torch.device":
        """The device of this process, which joins torchrun's others. Raises UserError for --amp without CUDA."""
        from stages.job.device import joined_device

        device = joined_device(self.device_name, training=self.trains)
        if self.amp != "off" and device.type != "cuda":
            raise UserError(f"--amp {self.amp} needs a CUDA device, this run is on {device.type}; set --amp off")
        return device

    def in_half(self, network: "nn.Module") -> None:
        """Let a network compute as --amp says from now on; with off, nothing changes."""
        import torch

        from stages.job.half import compute_in_half

        if self.amp != "off":
            compute_in_half(network, {"bf16": torch.bfloat16, "fp16": torch.float16}[self.amp], self.device)

    def work(self, settings: Any, *, inputs: Sequence[Path] = ()) -> Path:
        """As a job of one process; no other process starts before the first one has the folder."""
        _ = self.device  # joins the others
        # Work in half precision is not continued in full precision. Trainings have a setting for that.
        half = self.amp != "off" and not self.trains
        folder = super().work([settings, self.amp] if half else settings, inputs=inputs)
        meet()
        return folder

    def share(self, records: Sequence[Record]) -> list[Record]:
        """The records that this process works on."""
        return share(records)

    def publish(
        self, folder: Path, outs: dict[str, Path], *, keep: bool = False, files: Collection[str] | None = None
    ) -> None:
        """As a job of one process, once all processes have done their share."""
        meet()
        if self.first:
            super().publish(folder, outs, keep=keep, files=files)
        meet()

    @cached_property
    def loaders(self) -> int:
        """On a CPU the network needs the cores itself; with a GPU, more than 12 would only fill shared memory."""
        if self.loaders_asked is not None:
            return self.loaders_asked
        return 1 if self.device.type == "cpu" else min(12, max(1, DEFAULT_WORKERS // ON_THIS_MACHINE))
