"""Keeps the trained network's outputs on disk: fit_prototypes, teach_cam and make_cams compute each output once.

On a CPU they lie in .cache/features until make_cams has ended, at most CPAL_FEATURES_GB gigabytes. If CPAL_FEATURES
names a folder, they stay there, so that sweeps over `cpal.*` need no forward pass after the first experiment.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from cpal.errors import UserError
from cpal.files import modified, remove
from cpal.hosts import Host
from cpal.hosts.cached import RememberedHost
from cpal.settings.hosts import HostSection
from stages.job.launch import PROCESSES, RANK
from stages.job.paths import CACHE

FOLDER = CACHE / "features"
ROOM = 8.0  # GB by default; the 420 animals need 1.7, as maps of two stages of Lite0 at four scales of 320 pixels
UNUSED = 86_400  # seconds after which outputs of another training are removed


def remembering(
    host: Host, weights: Path, settings: HostSection, features: Sequence[int], device: torch.device
) -> nn.Module:
    """The host, with its outputs kept on disk; on a GPU without CPAL_FEATURES the host itself, which is faster there.

    Raises UserError if CPAL_FEATURES_GB is not a number.
    """
    if kept := os.environ.get("CPAL_FEATURES"):
        return RememberedHost(host, weights, settings.model_dump_json(), features, Path(kept))
    room = _room() if device.type == "cpu" else 0
    if room <= 0:
        return host
    remembered = RememberedHost(host, weights, settings.model_dump_json(), features, FOLDER)
    _drop_unused(remembered.folder)
    remembered.room = max(0.0, room - sum(map(_size, FOLDER.rglob("*.safetensors")))) / PROCESSES
    return remembered


def forget(host: nn.Module) -> None:
    """Remove this host's outputs, unless CPAL_FEATURES keeps them."""
    if RANK == 0 and "CPAL_FEATURES" not in os.environ and isinstance(host, RememberedHost):
        remove(host.folder)


def _room() -> float:
    """Bytes that the outputs may take."""
    value = os.environ.get("CPAL_FEATURES_GB", str(ROOM))
    try:
        return 1e9 * float(value)
    except ValueError:
        raise UserError(f"CPAL_FEATURES_GB is {value!r}; give a number of gigabytes, 0 for none") from None


def _drop_unused(own: Path) -> None:
    """Remove old outputs of other trainings, whose make_cams never ran; they would stay forever."""
    for folder in FOLDER.iterdir() if FOLDER.exists() else ():
        if folder != own and time.time() - modified(folder) > UNUSED:
            remove(folder)


def _size(path: Path) -> int:
    """Bytes of a file; 0 when another experiment has just removed it."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
