"""Files of trained weights: safetensors with a checksum and a description, which must match when the file is loaded."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cpal.errors import UserError, again
from cpal.files import whole_file
from cpal.networks.weight_files import read_stored


def save_weights(path: Path, modules: dict[str, nn.Module], meta: dict[str, Any]) -> None:
    """Write the weights of named modules, and a description, to a safetensors file; equal content gives equal bytes.

    Raises UserError, and writes nothing, if a weight is NaN or infinite.
    """
    tensors = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    wrong = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if wrong:
        raise UserError(
            f"{path.name}: {len(wrong)} of {len(tensors)} tensors have values that are no finite numbers, such as "
            f"{wrong[0]}; nothing was written. Lower the learning rates, or set clip_grad_norm, or amp: off"
        )
    write_tensors(path, tensors, meta)


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: Any) -> None:
    """Write tensors on the CPU, and a description, to a safetensors file with a checksum of both."""
    header = json.dumps({"meta": meta, "sha256": _checksum(tensors, meta)}, sort_keys=True)
    with whole_file(path) as temporary:
        temporary.write_bytes(save(tensors, {"cpal": header}))  # safetensors writes several keys in any order


def _checksum(tensors: dict[str, Tensor], meta: Any) -> str:
    """SHA-256 of the description and of all names, dtypes, shapes and values; takes about a second for 500 MB."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_meta(path: Path, *, stage: str) -> dict[str, Any]:
    """The description that `save_weights` wrote; reads no tensors and does not check the checksum.

    Raises UserError if the file is missing, damaged or a folder; the message says to run `stage` again.
    """
    return read_stored(path, stage=stage)[0]["meta"]


def read_tensors(path: Path, *, stage: str) -> tuple[Any, dict[str, Tensor]]:
    """The description and the tensors, on the CPU, that `write_tensors` wrote.

    Raises as `read_meta`, and UserError if the content does not match the checksum.
    """
    header, tensors = read_stored(path, stage=stage, kind="pt")
    if header["sha256"] != _checksum(tensors, header["meta"]):
        raise UserError(f"{path}: damaged, its content does not fit its checksum; {again(stage)}")
    return header["meta"], tensors


def load_weights(path: Path, modules: dict[str, nn.Module], meta: dict[str, Any], *, stage: str) -> None:
    """Load into the modules what `save_weights` wrote; each entry of `meta` must equal the stored description.

    Raises UserError if the file is missing, damaged, or made with other settings; the message says to run `stage`
    again.
    """
    written, tensors = read_tensors(path, stage=stage)
    different = sorted(key for key in meta if written.get(key) != meta[key])
    if different:
        raise UserError(f"{path}: made with other settings ({', '.join(different)}); run: dvc repro {stage}")
    for name, module in modules.items():
        prefix = f"{name}."
        try:
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        except RuntimeError:  # tensors are missing or have another size
            raise UserError(f"{path}: made with other settings ({name} does not fit); run: dvc repro {stage}") from None
