"""Weights that others have trained: read safely, and checked against the network that they are for."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.files import file_sha256

CHECKSUM = re.compile(r"-([0-9a-f]{8,})\.[\w.]+$", re.IGNORECASE)  # torch.hub's, as in resnet50-19c8e357.pth


def given_files(weights: str) -> list[Path]:
    """The file that a setting `weights` names; none where it names a source, such as bundled, or what is not there."""
    path = Path(weights)
    return [path] if path.is_file() else []


def read_state_dict(path: Path) -> dict[str, Any]:
    """The tensors of a file that holds a state dict, or one under the key state_dict or model.

    Raises UserError when the file is missing, is not what its name says (see `verify`), is unsafe to load, or holds
    something else.
    """
    try:
        verify(path)  # first: of a download that broke off, torch would only say that it is no archive
        stored: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"weights: no file {path}; give a path, or imagenet, bundled or none") from None
    except Exception as error:  # pickle, zip and torch each raise their own
        raise UserError(f"weights: {path} is no plain state dict ({type(error).__name__}: {error})") from None
    if isinstance(stored, dict):
        stored = stored.get("state_dict", stored.get("model", stored))
    if not isinstance(stored, dict) or not all(isinstance(key, str) for key in stored):
        raise UserError(f"weights: {path} is no plain state dict; it holds a {type(stored).__name__}")
    return stored


def verify(path: Path) -> None:
    """Compare a file with the first digits of its SHA-256 where its name has them, 8 or more, as torch.hub does.

    Raises UserError when the file has others. A date looks the same, and is taken for digits there as well.
    """
    named = CHECKSUM.search(path.name)
    if named is None:
        return
    expected = named[1].lower()
    found = file_sha256(path)[: len(expected)]
    if found != expected:
        raise UserError(
            f"weights: {path}: by its name, read as torch.hub does, its SHA-256 begins with {expected}, but it begins "
            f"with {found}; download the file again, or rename it if it is meant to be another or if {named[1]} is no "
            "checksum but a date, say"
        )


def fill(network: nn.Module, stored: Mapping[str, Tensor], source: str) -> None:
    """Load the network's every tensor; what else is stored is left.

    Raises UserError, in which `source` stands for the setting and the file, when tensors are missing or misshapen.
    """
    target = network.state_dict()
    missing = [key for key in target if key not in stored]
    if missing:
        raise UserError(f"{source} lacks {len(missing)} tensors of the network, such as {missing[0]}")
    wrong = [key for key in target if stored[key].shape != target[key].shape]
    if wrong:
        raise UserError(
            f"{source}: {wrong[0]} has the shape {tuple(stored[wrong[0]].shape)}, the network's is "
            f"{tuple(target[wrong[0]].shape)}; other backbone, or other classes?"
        )
    network.load_state_dict({key: stored[key] for key in target})
