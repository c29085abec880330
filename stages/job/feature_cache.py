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
from cpal.files import remove
from cpal.hosts import Host
from cpal.hosts.cached import RememberedHost
from stages.job.launch import PROCESSES, RANK
from stages.job.paths import CACHE

FOLDER = CACHE / "features"
ROOM = 8.0  # GB by default; the 420 animals need 1.7, as maps of two stages of Lite0 at four scales of 320 pixels
UNUSED = 86_400  # seconds after which outputs of another training are removed


def remembering(host: Host, weights: Path, features: Sequence[int], device: torch.device) -> nn.Module:
    """The host, with its outputs kept on disk; on a GPU without CPAL_FEATURES the host itself, which is faster there.

    Raises UserError if CPAL_FEATURES_GB is not a number.
    """
    if kept := os.environ.get("CPAL_FEATURES"):
        return RememberedHost(host, weights, features, Path(kept))
    room = _room() if device.type == "cpu" else 0
    if room <= 0:
        return host
    _drop_unused()
    used = sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors"))
    return RememberedHost(host, weights, features, FOLDER, room=max(0.0, room - used) / PROCESSES)


def forget() -> None:
    """Remove the outputs, unless CPAL_FEATURES keeps them in another folder."""
    if RANK == 0:
        remove(FOLDER)


def _room() -> float:
    """Bytes that the outputs may take."""
    value = os.environ.get("CPAL_FEATURES_GB", str(ROOM))
    try:
        return 1e9 * float(value)
    except ValueError:
        raise UserError(f"CPAL_FEATURES_GB is {value!r}; give a number of gigabytes, 0 for none") from None


def _drop_unused() -> None:
    """Remove old outputs of trainings whose make_cams never ran; they would stay forever."""
    for folder in FOLDER.iterdir() if FOLDER.exists() else ():
        if time.time() - folder.stat().st_mtime > UNUSED:
            remove(folder)
