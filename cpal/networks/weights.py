"""Files of trained weights: safetensors, with a description that must agree for them to be loaded."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from cpal.errors import UserError


def save_weights(path: Path, modules: dict[str, nn.Module], meta: dict[str, Any]) -> None:
    """Weights of named modules and a description, as one safetensors file; the same content gives the same bytes."""
    tensors = {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    save_file(tensors, path, metadata={"meta": json.dumps(meta, sort_keys=True)})


def read_meta(path: Path, *, stage: str) -> dict[str, Any]:
    """The description that `save_weights` wrote.

    Raises UserError when the file is missing, damaged, or a folder; `stage` makes it anew.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            meta = json.loads(stored.metadata()["meta"])
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the {stage} stage first: dvc repro {stage}") from None
    except OSError as error:
        raise UserError(f"{path}: no file of weights ({error})") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged ({error}); run the {stage} stage again: dvc repro -f -s {stage}") from None
    return meta


def load_weights(path: Path, modules: dict[str, nn.Module], meta: dict[str, Any], *, stage: str) -> None:
    """Fill the modules with what `save_weights` wrote; `meta` must be what was written.

    Raises UserError when the file is missing or damaged, or belongs to other settings; `stage` makes it anew.
    """
    written = read_meta(path, stage=stage)
    with safe_open(path, framework="pt") as stored:
        tensors = {key: stored.get_tensor(key) for key in stored.keys()}
    different = sorted(key for key in meta if written.get(key) != meta[key])
    if different:
        raise UserError(f"{path}: made with other settings ({', '.join(different)}); run: dvc repro {stage}")
    for name, module in modules.items():
        prefix = f"{name}."
        try:
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        except RuntimeError:  # tensors missing, or of another size
            raise UserError(f"{path}: made with other settings ({name} does not fit); run: dvc repro {stage}") from None
