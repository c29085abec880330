"""A trained host whose outputs are stored on disk: a sweep over `cpal.*` needs no forward pass after its first run."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.files import file_sha256
from cpal.hosts import HostOutput
from cpal.hosts.outputs import view_output
from cpal.networks.weights import read_tensors, write_tensors


class RememberedHost(nn.Module):
    """Stores the merged outputs of `host` for the views of an image; they equal newly computed outputs bit by bit.

    `weights`: the file that the host was loaded from; outputs of other weights are stored separately. Maps of stages
    that are not in `stages` (1 to 4) are returned as empty tensors, because the maps of early stages are the largest.
    """

    def __init__(self, host: nn.Module, weights: Path, stages: Sequence[int], folder: Path) -> None:
        super().__init__()
        self.host, self.stages = host, stages
        self.folder = folder / f"{file_sha256(weights)[:16]}-{'-'.join(map(str, stages))}"

    def forward(self, views: Tensor, image_label: Tensor) -> HostOutput:
        """views (V, 3, H, W) RGB in 0..255, image and maybe mirror image; image_label (V, N) -> merged output."""
        seen = str((tuple(views.shape), views.dtype)).encode() + views.cpu().numpy().tobytes()
        seen += image_label[0].cpu().numpy().tobytes()  # the maps of some hosts depend on the labels
        path = self.folder / f"{hashlib.sha256(seen).hexdigest()[:32]}.safetensors"
        try:
            _, stored = read_tensors(path, stage="train_cam")
        except UserError:  # not stored yet, or damaged
            output = view_output(self.host, views, image_label[:1])
            maps = {str(stage): output.features[stage - 1] for stage in self.stages}
            content = {**maps, "cam": output.cam, "logits": output.logits}
            stored = {name: value.cpu().contiguous() for name, value in content.items()}
            write_tensors(path, stored, None)
        stored = {name: value.to(views.device) for name, value in stored.items()}
        features = [stored.get(str(stage), torch.empty(0)) for stage in (1, 2, 3, 4)]
        return HostOutput(features, stored["cam"], stored["logits"])
