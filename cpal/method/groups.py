"""The groups of training images behind the context prototypes, as data/prototypes.safetensors names them.

NumPy does all of it: the report needs no PyTorch.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import TypeAdapter

from cpal.errors import UserError, again, reading
from cpal.networks.weight_files import read_stored

STAGE = "fit_prototypes"
Origins = list[list[str]]  # by class, background first: image ids of `SupportBank.latest`, the oldest first


class Likeness(NamedTuple):
    """A training image whose instance is near a prototype, and the cosine of the two."""

    image_id: str
    cosine: float


class Group(NamedTuple):
    """What is behind a context prototype.

    prototype: its number among the class's, from 0. members: instances in the bank whose nearest prototype it is.
    nearest: the training images whose instances are nearest to it, the nearest first.
    """

    prototype: int
    members: int
    nearest: tuple[Likeness, ...]


def find_groups(
    entries: np.ndarray, context: np.ndarray, valid: np.ndarray, images: Sequence[str], *, nearest: int
) -> list[Group]:
    """The groups of a class by the number of their prototype.

    entries (C, D) of the bank are instances of `images`; context (P, D), of which `valid` (P,) says which exist. At
    most `nearest` images of each group are named.
    """
    numbers = valid.nonzero()[0]
    if not len(entries) or not len(numbers):
        return []
    cosine = _unit(entries) @ _unit(context[numbers]).T
    members = np.bincount(cosine.argmax(axis=1), minlength=len(numbers))
    order = np.argsort(-cosine, axis=0, kind="stable")[:nearest]
    return [
        Group(
            int(number),
            int(members[place]),
            tuple(Likeness(images[entry], float(cosine[entry, place])) for entry in order[:, place]),
        )
        for place, number in enumerate(numbers)
    ]


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def read_groups(path: Path, classes: Sequence[str], images: Collection[str], *, nearest: int) -> list[list[Group]]:
    """The groups of background and of each class in a file that `save_bank` wrote; no network is needed.

    Raises UserError if the file is missing or damaged, or made of other classes or of other images than `images`.
    """
    header, tensors = read_stored(path, stage=STAGE, kind="np")
    if header["meta"].get("classes") != list(classes):
        raise UserError(f"{path}: made with other settings (classes); run: dvc repro {STAGE}")
    with reading(path, stage=STAGE):
        bank, seen, context, valid = (
            tensors[f"learner.{name}"] for name in ("bank.entries", "bank.seen", "context", "valid")
        )
    length = bank.shape[1]
    origins = read_origins(path, np.minimum(seen, length).tolist())
    check_images(path, origins, images)
    slots = [np.arange(max(0, count - length), count) % length for count in seen]  # as in `SupportBank.latest`
    return [find_groups(bank[k, slots[k]], context[k], valid[k], ids, nearest=nearest) for k, ids in enumerate(origins)]


def read_origins(path: Path, counts: Sequence[int]) -> Origins:
    """The image of each instance in a file that `save_bank` wrote; the bank holds `counts` instances of each class.

    Raises UserError if the file is missing or damaged, or does not name all of them.
    """
    meta = read_stored(path, stage=STAGE)[0]["meta"]
    with reading(path, stage=STAGE):
        origins = TypeAdapter(Origins).validate_python(meta.get("origins", []), strict=True)
    if [len(ids) for ids in origins] != list(counts):
        raise UserError(f"{path}: does not name the image of each instance; {again(STAGE)}")
    return origins


def check_images(path: Path, origins: Origins, images: Collection[str]) -> None:
    """Raise UserError if an instance is of none of these training images."""
    if other := set[str]().union(*origins).difference(images):
        raise UserError(
            f"{path}: made of other images, such as {min(other)}; run the {STAGE} stage again: dvc repro {STAGE}"
        )
