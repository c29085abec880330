"""A trained host whose outputs stay on disk, so that a sweep over `cpal.*` costs no forward pass after its first."""

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
    """Outputs of `host` for one image's views, merged; equal to the last bit to those it computed first.

    `weights` is the file that the host was loaded from: other weights, other memories. Maps of stages that are not in
    `stages` (1 to 4) are left out, as empty tensors, since the shallow ones are the largest.
    """

    def __init__(self, host: nn.Module, weights: Path, stages: Sequence[int], folder: Path) -> None:
        super().__init__()
        self.host, self.stages = host, stages
        self.folder = folder / f"{file_sha256(weights)[:16]}-{'-'.join(map(str, stages))}"

    def forward(self, views: Tensor, image_label: Tensor) -> HostOutput:
        """views (V, 3, H, W) RGB in 0..255: an image, and maybe its mirror image; image_label (V, N) -> one output."""
        seen = str((tuple(views.shape), views.dtype)).encode() + views.cpu().numpy().tobytes()
        seen += image_label[0].cpu().numpy().tobytes()  # some hosts see the labels, and their maps depend on them
        path = self.folder / f"{hashlib.sha256(seen).hexdigest()[:32]}.safetensors"
        try:
            _, stored = read_tensors(path, stage="train_cam")
        except UserError:  # not there yet, or damaged
            output = view_output(self.host, views, image_label[:1])
            maps = {str(stage): output.features[stage - 1] for stage in self.stages}
            content = {**maps, "cam": output.cam, "logits": output.logits}
            stored = {name: value.cpu().contiguous() for name, value in content.items()}
            write_tensors(path, stored, None)
        stored = {name: value.to(views.device) for name, value in stored.items()}
        features = [stored.get(str(stage), torch.empty(0)) for stage in (1, 2, 3, 4)]
        return HostOutput(features, stored["cam"], stored["logits"])
