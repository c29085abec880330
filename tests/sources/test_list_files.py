"""List files as the field's repositories ship them, through the commands that users type."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cpal.data.masks import write_mask
from cpal.settings.data import DataConfig
from cpal.sources.folder import list_folder
from cpal.sources.labels.list_files import Line, read_list

NAMES = {"a": "cat", "b b": "dog", "c": "cat", "d": "dog", "e": "cat"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mine/images").mkdir(parents=True)
    for name in NAMES:
        Image.new("RGB", (12, 10)).save(tmp_path / f"mine/images/{name}.jpg")
        write_mask(tmp_path / f"mine/masks/gt_{name}.png", np.full((10, 12), 1 + (NAMES[name] == "dog"), np.uint8))
    rows = [f"{name},{label},train" for name, label in NAMES.items()]
    (tmp_path / "mine/labels.csv").write_text("\n".join(["image,labels,split", *rows]))
    (tmp_path / "mine/train.txt").write_text("/images/a.jpg /masks/gt_a.png\n/images/b b.jpg /masks/gt_b b.png\n")
    (tmp_path / "mine/val.txt").write_text("images/c.jpg\td.png\nd\n")
    return tmp_path / "mine"


@pytest.fixture
def data(data_settings: Callable[..., DataConfig], root: Path) -> Callable[..., DataConfig]:
    values: dict[str, Any] = {
        "source": "folder",
        "root": str(root),
        "images": "images",
        "labels": "csv",
        "labels_file": "labels.csv",
    }
    values |= {"train_list": "train.txt", "score_list": "train.txt", "val_list": "val.txt", "masks": None}
    return lambda **changes: data_settings(**(values | changes))


def test_lists_overrule_the_splits_of_a_table(data: Callable[..., DataConfig]) -> None:
    listing = list_folder(data(), seed=0)
    assert listing.problems == ()
    splits = {image.image_id: (image.split, *(image.names or ())) for image in listing.images}
    assert splits == {"a": ("train", "cat"), "b b": ("train", "dog"), "c": ("val", "cat"), "d": ("val", "dog")}
    assert "lists train.txt and val.txt, 1 image on neither left out" in listing.origin.told
    assert "masks that train.txt names in masks are not used (data.masks: null)" in listing.origin.told


def test_pairs_name_the_masks(data: Callable[..., DataConfig], root: Path) -> None:
    listing = list_folder(data(masks="masks", mask_classes=["cat", "dog"]), seed=0)
    assert listing.problems == ()
    masks = {image.image_id: image.mask for image in listing.images}
    assert masks == {"a": root / "masks/gt_a.png", "b b": root / "masks/gt_b b.png", "c": None, "d": None}


def test_labels_from_listed_masks(data: Callable[..., DataConfig], root: Path) -> None:
    (root / "val.txt").write_text("/images/c.jpg /masks/gt_c.png\n/images/d.jpg /masks/gt_d.png\n")
    settings = data(labels="masks", labels_file=None, masks="masks", mask_classes=["cat", "dog"])
    listing = list_folder(settings, seed=0)
    assert listing.problems == ()
    assert [image.mask for image in listing.images] == [root / f"masks/gt_{name}.png" for name in list(NAMES)[:4]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images/c.jpg\nimages/zebra.jpg\n", "val.txt: 1 line(s) name no image below "),
        ("images/a.jpg\nimages/c.jpg\n", "val.txt: 1 image(s) are listed twice, here or in train.txt: a.jpg"),
        ("c\nc\n", "val.txt: 1 image(s) are listed twice"),
        ("\n\n", "val.txt: names no image"),
    ],
)
def test_what_can_be_wrong(data: Callable[..., DataConfig], root: Path, text: str, message: str) -> None:
    (root / "val.txt").write_text(text)
    problems = list_folder(data(), seed=0).problems
    assert any(message in problem for problem in problems), problems


def test_other_settings(data: Callable[..., DataConfig], root: Path, tmp_path: Path) -> None:
    assert "name two different list files" in list_folder(data(val_list="val"), seed=0).problems[0]
    (problem, *_) = list_folder(data(val_list="none.txt"), seed=0).problems
    assert problem.endswith("none.txt: no such list; lists in " + f"{root}: train.txt, val.txt")
    (problem, *_) = list_folder(data(val_list="../val.txt"), seed=0).problems
    assert problem == "../val.txt: a list must lie below data.root, which DVC watches; copy it there"
    (root / "labels.csv").write_text("image,labels\na,cat\nb b,dog\nc,cat\n")
    (problem,) = list_folder(data(), seed=0).problems
    assert problem == "1 image(s) of the lists have no label: d.jpg; label them, or unlist them"


def test_a_line(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("my cat.jpg my cat.png\r\n\r\nx.jpg,y.png\nz.jpg 1\nk\n".encode("utf-16"))
    lines = read_list(path, lambda text: text in ("my cat.jpg", "x.jpg", "z.jpg", "k"), missing="")
    assert lines == [Line("my cat.jpg", "my cat.png"), Line("x.jpg", "y.png"), Line("z.jpg", None), Line("k", None)]
