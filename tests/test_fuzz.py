"""Damaged and hostile files: each ends in a result or in our message, and nothing appears outside of the target folder.

Over 2,000 mutated files: 400 each of CSV, JSON, XML, PNG masks and JPEG images, 300 tar archives; test_peer_cams.py
adds 500 .npy files, test_health.py 300 images. CPAL_FUZZ multiplies those of this file.
"""

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cpal.data.masks import write_mask
from cpal.errors import UserError
from cpal.settings.data import DataConfig
from cpal.sources.coco import import_coco
from cpal.sources.download import unpack
from cpal.sources.folder import list_folder
from cpal.sources.import_listing import import_listing
from cpal.sources.listing import ListedImage, Listing
from cpal.sources.read_listed import read_listed
from cpal.sources.voc import CLASSES

ROUNDS = int(os.environ.get("CPAL_FUZZ", "1"))
TOKENS = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b"\n", b"\r", b",", b";", b"{", b"[", b"<", b"&x;", b"]]>"),
    *(
        b"../",
        b"/etc/passwd",
        b"..\\",
        b"-1",
        b"1e999",
        b"NaN",
        b"99999999999999999999",
        b"null",
        b"[]",
        b"{}",
        b"true",
    ),
    *(b"<!DOCTYPE a [<!ENTITY b 'c'>]>", "ü".encode(), "\u202e".encode(), b"[" * 2000, b"0" * 5000),
)


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four small accidents: a byte, a cut, a repetition, a token in a wrong place."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        place, kind = int(rng.integers(len(data) + 1)), int(rng.integers(6))
        end = min(len(data), place + int(rng.integers(1, 40)))
        if kind == 0 and place < len(data):
            data[place] = int(rng.integers(256))
        elif kind == 1:
            del data[place:end]
        elif kind == 2:
            data[place:place] = data[place:end]
        elif kind == 3:
            data[place:place] = TOKENS[int(rng.integers(len(TOKENS)))]
        elif kind == 4:
            data[place:end] = TOKENS[int(rng.integers(len(TOKENS)))]
        elif rng.random() < 0.2:
            del data[place:]
    return bytes(data)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """The only folder that may change."""
    before = set(Path("/tmp").glob("cpal_evil*"))
    place = tmp_path / "place"
    place.mkdir()
    yield place
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert set(Path("/tmp").glob("cpal_evil*")) == before


def survives(action: Callable[[], Any]) -> bool:
    """Whether the action did its work; a UserError with words in it is the only other way to end."""
    try:
        action()
    except UserError as error:
        assert len(str(error)) > 20
        return False
    return True


def test_csv(place: Path, data_settings: Callable[..., DataConfig]) -> None:
    (place / "images").mkdir()
    for n in range(6):
        Image.new("RGB", (20, 16), (40 * n, 9, 9)).save(place / f"images/a{n}.png")
    rows = [f"a{n}.png,{'cup;fork' if n % 2 else 'cup'},{'val' if n > 3 else 'train'}" for n in range(6)]
    content = "\n".join(["image,labels,split", *rows]).encode()
    values = {"source": "folder", "root": str(place), "images": "images", "labels": "csv", "masks": None}
    config = data_settings(**values, labels_file="labels.csv")

    def read(out: Path) -> None:
        listing = list_folder(config, seed=0)
        import_listing(out, listing, other_classes="void", drop_unlabeled=False, complete=True, workers=1)

    rng, done = np.random.default_rng(0), 0
    for n in range(400 * ROUNDS):
        (place / "labels.csv").write_bytes(mutate(content, rng))
        out = place / f"out{n}"
        done += survives(partial(read, out))
        for path in out.rglob("*") if out.exists() else ():
            assert path.name == "dataset.json"
    assert 0 < done < 400 * ROUNDS


def test_json(place: Path, data_settings: Callable[..., DataConfig]) -> None:
    for name in ("train2014", "val2014", "annotations"):
        (place / name).mkdir()
    square = [[1, 1, 9, 1, 9, 9, 1, 9]]
    runs = {"size": [16, 20], "counts": [40, 100, 180]}
    for name, numbers in {"train2014": (1, 2), "val2014": (3,)}.items():
        for number in numbers:
            Image.new("RGB", (20, 16)).save(place / f"{name}/{number}.png")
        content = {
            "images": [{"id": n, "file_name": f"{n}.png", "width": 20, "height": 16} for n in numbers],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 7, "iscrowd": n % 2, "segmentation": runs if n % 2 else square}
                for n in numbers
            ],
            "categories": [{"id": 7, "name": "cup"}],
        }
        (place / f"annotations/instances_{name}.json").write_text(json.dumps(content))
    values = {"source": "coco2014", "root": str(place), "labels": "coco", "masks": "annotations"}
    values |= {"train_list": "train2014", "score_list": "train2014", "val_list": "val2014"}
    config = data_settings(**values)
    path = place / "annotations/instances_train2014.json"
    content_bytes, rng, done = path.read_bytes(), np.random.default_rng(1), 0
    for n in range(400 * ROUNDS):
        path.write_bytes(mutate(content_bytes, rng))
        done += survives(partial(import_coco, place / f"o{n}", place / f"s{n}", config, workers=1))
    assert 0 < done < 400 * ROUNDS


def one(place: Path, **changes: Any) -> Callable[[], Any]:
    item = {"image": place / "a.jpg", "mask": None, "xml": None} | changes
    listed = ListedImage("a", "train", False, **item)
    listing = Listing(place, (listed,), CLASSES, CLASSES, {}, ())

    def read() -> None:
        found = read_listed(listing, listed)
        if found.record is None:
            raise UserError("; ".join(found.problems))

    return read


@pytest.mark.parametrize("kind", ["xml", "mask", "image"])
def test_files_of_an_image(place: Path, kind: str) -> None:
    rng = np.random.default_rng(2)
    noise = Image.fromarray(rng.integers(0, 255, (16, 20, 3), dtype=np.uint8))
    noise.save(place / "a.jpg")
    write_mask(place / "a.png", rng.integers(0, 5, (16, 20)).astype(np.uint8))
    objects = "".join(f"<object><name>{name}</name><pose>Left</pose></object>" for name in ("cat", "dog"))
    (place / "a.xml").write_text(f"<annotation><size><width>20</width></size>{objects}</annotation>")
    name = {"xml": "a.xml", "mask": "a.png", "image": "a.jpg"}[kind]
    labels = {"mask": place / "a.png"} if kind == "mask" else {"xml": place / "a.xml"}
    content, done = (place / name).read_bytes(), 0
    for _ in range(400 * ROUNDS):
        (place / name).write_bytes(mutate(content, rng))
        done += survives(one(place, **labels))
    assert 0 < done < 400 * ROUNDS


def test_tar(place: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("VOCdevkit/VOC2012/a.txt", "VOCdevkit/VOC2012/b.txt", "VOCdevkit/c"):
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(b"x" * 700))
    content, rng, done = stream.getvalue(), np.random.default_rng(3), 0
    for n in range(300 * ROUNDS):
        data = bytearray(mutate(content, rng))
        header = 512 * int(rng.integers(0, 6))
        if n % 3 == 0 and len(data) > header + 512:  # names and kinds of members, with their checksum put right
            evil = (b"../cpal_evil", b"/tmp/cpal_evil", b"a/../../cpal_evil")[n // 3 % 3]
            data[header : header + 100] = evil.ljust(100, b"\0")
            data[header + 156] = b"0125"[n // 9 % 4]
            data[header + 148 : header + 156] = b" " * 8
            total = sum(data[header : header + 512])
            data[header + 148 : header + 156] = f"{total:06o}\0 ".encode()
        (place / "a.tar").write_bytes(bytes(data))
        done += survives(partial(unpack, place / "a.tar", place / f"out{n}"))
    assert done < 300 * ROUNDS
    assert not [path for path in place.rglob("*cpal_evil*") if path.is_symlink()]
