"""A trained host whose outputs stay on disk: later passes over the same images need no forward pass of the network."""

import hashlib
import inspect
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.files import file_sha256, sweep
from cpal.hosts import HostOutput
from cpal.hosts.outputs import view_output
from cpal.networks.weights import read_tensors, write_tensors

NETWORKS = Path(__file__).parents[1] / "networks"


class RememberedHost(nn.Module):
    """Stores the merged outputs of `host` for the views of an image; outputs from disk are equal to the last bit.

    `weights`: the file that the host was loaded from, `settings`: what else its outputs depend on. Other weights, other
    settings, other code of the host and the networks, and another torch use another sub-folder of `folder`. Maps of
    stages that are not in `stages` (1 to 4) are returned as empty tensors, because the maps of early stages are the
    largest. At most `room` bytes are written. After that, or when the disk is full, the host computes outputs that are
    not stored.
    """

    def __init__(
        self,
        host: nn.Module,
        weights: Path,
        settings: str,
        stages: Sequence[int],
        folder: Path,
        *,
        room: float = math.inf,
    ) -> None:
        super().__init__()
        self.host, self.stages, self.room = host, stages, room
        code = [
            Path(inspect.getfile(type(host))),
            Path(__file__).with_name("outputs.py"),
            *sorted(NETWORKS.glob("*.py")),
        ]
        device = next(host.parameters()).device.type
        rounding = f"{device} {torch.backends.cudnn.allow_tf32} {torch.backends.cuda.matmul.allow_tf32}"
        parts = *map(file_sha256, [weights, *code]), torch.__version__, rounding, settings
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self.folder = folder / f"{key[:16]}-{'-'.join(map(str, stages))}"
        sweep(self.folder)

    def forward(self, views: Tensor, image_label: Tensor) -> HostOutput:
        """views (V, 3, H, W) RGB in 0..255, image and maybe mirror image; image_label (V, N) -> merged output."""
        seen = hashlib.sha256(str((tuple(views.shape), views.dtype)).encode())
        seen.update(np.ascontiguousarray(views.cpu().numpy()).data)
        seen.update(image_label[0].cpu().numpy().tobytes())  # the maps of some hosts depend on the labels
        path = self.folder / f"{seen.hexdigest()[:32]}.safetensors"
        try:
            _, stored = read_tensors(path, stage="train_cam")
        except UserError:  # not stored yet, or damaged
            return self._computed(views, image_label, path)
        return self._output({name: value.to(views.device) for name, value in stored.items()})

    @staticmethod
    def _output(content: dict[str, Tensor]) -> HostOutput:
        features = [content.get(str(stage), torch.empty(0)) for stage in (1, 2, 3, 4)]
        return HostOutput(features, content["cam"], content["logits"])

    def _computed(self, views: Tensor, image_label: Tensor, path: Path) -> HostOutput:
        output = view_output(self.host, views, image_label[:1])
        content = {str(stage): output.features[stage - 1] for stage in self.stages}
        content |= {"cam": output.cam, "logits": output.logits}
        size = sum(value.nbytes for value in content.values())
        if size <= self.room:
            try:
                write_tensors(path, {name: value.cpu() for name, value in content.items()}, None)
                self.room -= size
            except OSError:  # a full disk costs time but no result
                self.room = 0
        return self._output(content)
