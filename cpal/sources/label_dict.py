"""Image-level labels in a pickled dictionary, as `cls_labels.npy` holds them: image id -> a 0 or 1 for each class."""

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np

from cpal.errors import UserError

SAFE = {  # all that a pickled dictionary of arrays is built from, in any version of the pickle format
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
    ("builtins", "bytes"),
}


def read_label_dict(path: Path, classes: list[str], *, allow_pickle: bool) -> list[tuple[str, str]]:
    """Image id and its classes' names, joined by `;`, sorted by id; `classes` names the columns.

    Raises UserError as `read_pickled` does, and for keys or values that are no ids or labels.
    """
    content = read_pickled(path, allow_pickle=allow_pickle)
    try:
        rows = sorted((_image_id(key), ";".join(_shown(key, value, classes))) for key, value in content.items())
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if len(dict(rows)) < len(rows):
        raise UserError(f"{path}: names an image twice, as a number and as text")
    return rows


def read_pickled(path: Path, *, allow_pickle: bool) -> dict[Any, Any]:
    """The dictionary in a .npy file that np.save wrote, with whichever numpy.

    Raises UserError without `allow_pickle`, for a pickle that asks for more than arrays, numbers, text and
    dictionaries, and for a file that holds no dictionary.
    """
    try:
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
            dtype = np.lib.format.read_array_header_1_0(stream)[2]  # np.save writes a dictionary in this version
            if dtype.hasobject and not allow_pickle:
                raise UserError(
                    f"{path}: holds a pickle, and reading a pickle can run code that its author hid in it; "
                    "if you trust where it comes from, add --allow-pickle"
                )
            content = LabelUnpickler(stream, encoding="latin1").load() if dtype.hasobject else None
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (pickle.UnpicklingError, ArithmeticError, EOFError, LookupError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a dictionary that np.save wrote ({error})") from None
    if isinstance(content, np.ndarray) and content.shape == ():
        content = content.item()
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds an array of {dtype}, not a dictionary of labels")
    return content


class LabelUnpickler(pickle.Unpickler):
    """Builds arrays, numbers, text and dictionaries; refuses by name whatever else a pickle asks for."""

    def find_class(self, module: str, name: str) -> Any:
        module = re.sub(r"^numpy\.core\.", "numpy._core.", module)  # as numpy 1 wrote it
        if (module, name) == ("_codecs", "encode"):  # how the oldest formats write bytes
            return _latin1_bytes
        if (module, name) not in SAFE:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no dictionary of labels needs")
        return super().find_class(module, name)


def _latin1_bytes(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding}, which no dictionary of labels needs")
    return text.encode("latin1")


def _image_id(key: Any) -> str:
    """Text as it is; the number 2007000032 is VOC's 2007_000032."""
    if isinstance(key, str):
        return str(key)
    if isinstance(key, int | np.integer) and re.fullmatch(r"20\d{8}", str(key)):
        return f"{str(key)[:4]}_{str(key)[4:]}"
    raise UserError(f"key {key!r} is neither text nor a number such as 2007000032, which stands for 2007_000032")


def _shown(key: Any, value: Any, names: list[str]) -> list[str]:
    """Names of the classes whose column holds 1."""
    try:
        columns = np.asarray(value, float)
    except (TypeError, ValueError):
        columns = np.full(1, np.nan)
    if columns.shape != (len(names),) or not np.isin(columns, (0, 1)).all():
        raise UserError(f"image {key}: expected {len(names)} values of 0 or 1, one for each of --classes")
    return [name for name, column in zip(names, columns, strict=True) if column]
