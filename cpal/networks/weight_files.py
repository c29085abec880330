"""Opens files of weights, as arrays of NumPy or of PyTorch; what wants no network need not load PyTorch."""

import json
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from cpal.errors import UserError, again
from cpal.settings.access import stand_in_at


def read_stored(path: Path, *, stage: str, kind: Literal["pt", "np"] | None = None) -> tuple[Any, dict[str, Any]]:
    """The header of a file that `write_tensors` wrote, and its tensors of this kind; None: the header alone.

    The header holds the description, `meta`, and the checksum, which is not checked here. Raises UserError if the file
    is missing, damaged or a folder; the message says to run `stage` again.
    """
    try:
        with safe_open(path, framework=kind or "np") as stored:
            header = json.loads(stored.metadata()["cpal"])
            content = {key: stored.get_tensor(key) for key in stored.keys()} if kind else {}
        return {"meta": header["meta"], "sha256": header["sha256"]}, content
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the {stage} stage first: dvc repro {stage}") from None
    except OSError as error:
        raise UserError(f"{path}: no file of weights ({error}); {again(stage)}") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        if why := stand_in_at(path):
            raise UserError(f"{path}: {why[0]}; {why[1]}, or {again(stage)}") from None
        raise UserError(f"{path}: damaged ({error}); {again(stage)}") from None
