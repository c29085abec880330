"""Reads weights that others have trained, safely, and checks that they fit the network."""

import re
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.files import file_sha256
from cpal.settings.access import stand_in_at

CURE = "save the network's state_dict() alone, with torch.save or as .safetensors"
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR"}
CHECKSUM = re.compile(r"-([0-9a-f]{8,})\.[\w.]+$", re.IGNORECASE)  # as torch.hub writes it: resnet50-19c8e357.pth


def given_files(weights: str) -> list[Path]:
    """The file that a setting `weights` names; empty for the name of a source, such as bundled, or a missing file."""
    path = Path(weights)
    return [path] if path.is_file() else []


def read_state_dict(path: Path) -> dict[str, Any]:
    """The tensors of a file that holds a state dict, at its top level or under a key.

    The key is state_dict or model, or any other if only one entry is a state dict. Raises UserError if the file is
    missing, does not match the checksum in its name (see `verify`), holds objects other than tensors, or is of another
    kind.
    """
    if why := stand_in_at(path):
        raise UserError(f"weights: {path} is {why[0]}; {why[1]}")
    try:
        verify(path)  # first: for an incomplete download, torch would only say that the file is no archive
        stored = _load(path)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"weights: no file {path}; give a path, or imagenet, bundled or none") from None
    except Exception as error:  # pickle, zip and torch raise different exceptions
        raise UserError(f"weights: {path} is no plain state dict; {_reason(error)}") from None
    if isinstance(stored, dict):
        named = [stored[key] for key in ("state_dict", "model") if stored.get(key) is not None]
        stored = named[0] if named else _only_state_dict(stored)
    if not isinstance(stored, dict) or not all(isinstance(key, str) for key in stored):
        raise UserError(f"weights: {path} is no plain state dict; it holds a {type(stored).__name__}; {CURE}")
    if stored and all(isinstance(value, dict) for value in stored.values()):
        raise UserError(f"weights: {path} holds {len(stored)} dictionaries ({', '.join(list(stored)[:4])}); {CURE}")
    return stored


def _load(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(9)
    if packed := _packed(path, start):
        raise UserError(f"weights: {path} is {packed}")
    if start[8:] == b"{" or path.suffix == ".safetensors" and start[:2] != b"PK":
        return load_file(path)
    torch.serialization.add_safe_globals([Namespace])  # training options in some checkpoints; reading them runs no code
    with path.open("rb") as stream:  # for a path, torch goes by its ending
        return torch.load(stream, map_location="cpu", weights_only=True)


def _packed(path: Path, start: bytes) -> str:
    """What an archive is that does not hold tensors as torch.save writes them, with the cure; empty for other files."""
    kind = next((kind for mark, kind in PACKED.items() if start.startswith(mark)), "")
    if kind:
        return f"packed by {kind}; unpack it, and name the file in it"
    if not start.startswith(b"PK") or not is_zipfile(path):
        return ""
    with ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        return f"a TorchScript program and no state dict; {CURE}"
    if not any(name.endswith("/data.pkl") for name in names):
        return "packed by zip; unpack it, and name the file in it"
    return ""


def _reason(error: Exception) -> str:
    """One sentence with the cause and the cure. torch's own message advises to load the file unsafely."""
    found = re.search(r"GLOBAL (\S+)|class (\S+) was not|allowlist.*?\[(\S+)\]", str(error))
    if found is not None:
        what, cure = next(filter(None, found.groups())), "use a file of tensors alone, such as a .safetensors"
        return f"it holds more than tensors ({what}), and reading that could run code; {cure}"
    what = type(error).__name__ if "weights_only" in str(error) else f"{type(error).__name__}: {error}"
    return f"it may be damaged or of another kind ({what}); download it again"


def _only_state_dict(stored: dict[Any, Any]) -> dict[Any, Any]:
    """The only state dict among other entries, as in {"epoch": 3, "net": ...}; the whole dict if this is ambiguous."""
    inner = [value for value in stored.values() if isinstance(value, dict) and _is_tensors(value)]
    return inner[0] if len(inner) == 1 and not any(isinstance(value, Tensor) for value in stored.values()) else stored


def _is_tensors(value: dict[Any, Any]) -> bool:
    return bool(value) and all(isinstance(tensor, Tensor) for tensor in value.values())


def verify(path: Path) -> None:
    """Compare the SHA-256 of a file with the digits in its name, if the name has at least 8, as torch.hub does.

    Raises UserError if they differ. A date in the name looks the same, and torch.hub takes it for a checksum too.
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
    """Load all tensors of the network from `stored`; other stored tensors are ignored.

    Raises UserError, which names `source` (the setting and the file), if tensors are missing or have another shape.
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
