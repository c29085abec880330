"""YOLO's layouts give image-level labels. Each form says where it is documented."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cpal.settings.data import DataConfig
from cpal.sources.folder import list_folder
from cpal.sources.listing import Listing

# docs.ultralytics.com/datasets/detect: coco8.yaml
ULTRALYTICS = (
    "# COCO8 dataset\n# parent\n# \u251c\u2500\u2500 ultralytics\npath: mine # dataset root dir\n"
    "train: images/train # train images (relative to 'path') 4 images\nval: images/val\n"
    "test: # test images (optional)\n\n"
    "# Classes\nnames:\n  0: cat\n  1: hot dog\n  2: unused\n\n# Download script/URL (optional)\ndownload: https://x/y.zip\n"
)
# data.yaml of an export "YOLOv8" from universe.roboflow.com
ROBOFLOW = (
    "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
    "names: ['cat', 'hot dog', 'unused']\n\n"
    "roboflow:\n  workspace: w\n  project: p\n  version: 1\n  license: CC BY 4.0\n  url: https://universe.roboflow.com/w/p\n"
)
LABELS = {  # an image without label file, and one with an empty one, hold no objects
    "a": "0 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.1 0.1\n",
    "b": "1 0.1 0.1 0.9 0.1 0.9 0.9\n",  # docs.ultralytics.com/datasets/segment: an outline
    "c": "0 0.5 0.5 0.2 0.2\r\n1 0.5 0.5 0.1 0.1\r\n",
    "d": "",
    "e": None,
    "f": "1 0.5 0.5 0.2 0.2",
}
SHOWN = {"a": {"cat"}, "b": {"hot dog"}, "c": {"cat", "hot dog"}, "d": set(), "e": set(), "f": {"hot dog"}}
VAL = ("e", "f")


@pytest.fixture
def listed(data_settings: Callable[..., DataConfig], tmp_path: Path) -> Callable[..., Listing]:
    """`listed("images/{part}/{name}.jpg", "labels/{part}/{name}.txt", {"data.yaml": ...})`."""

    def run(image: str, label: str, texts: dict[str, str], **changes: Any) -> Listing:
        root = tmp_path / "mine"
        for name, text in LABELS.items():
            part = ("valid" if "valid" in changes else "val") if name in VAL else "train"
            for path, content in ((image, ""), (label, text)):
                file = root / path.format(part=part, name=name)
                file.parent.mkdir(parents=True, exist_ok=True)
                if content is not None:
                    file.write_text(content)
        for file_name, content in texts.items():
            (root / file_name).write_text(content)
        values = {"source": "folder", "images": ".", "labels": "yolo", "masks": None, "root": str(root)}
        values |= {"labels_file": next(iter(texts))} | {k: v for k, v in changes.items() if k != "valid"}
        return list_folder(data_settings(**values), seed=0)

    return run


def shown(listing: Listing) -> dict[str, set[str]]:
    assert listing.problems == ()
    return {image.image.stem: set(image.names or ()) for image in listing.images}


@pytest.mark.parametrize("images", [".", "images"])
def test_ultralytics(listed: Callable[..., Listing], images: str) -> None:
    listing = listed("images/{part}/{name}.jpg", "labels/{part}/{name}.txt", {"data.yaml": ULTRALYTICS}, images=images)
    assert shown(listing) == SHOWN and listing.classes == ("cat", "hot dog")
    assert {image.image.stem for image in listing.images if image.split == "val"} == set(VAL)
    assert listing.origin.told == (
        "YOLO's labels, 3 names in data.yaml; splits of data.yaml; 1 image without label file and 1 with an empty one "
        "show no class; 6 images, 2 classes; 2 without a label"
    )


def test_roboflow(listed: Callable[..., Listing]) -> None:
    listing = listed(
        "{part}/images/{name}_jpg.rf.0a1b.jpg", "{part}/labels/{name}_jpg.rf.0a1b.txt", {"data.yaml": ROBOFLOW}, valid=1
    )
    assert shown(listing) == {f"{name}_jpg.rf.0a1b": names for name, names in SHOWN.items()}
    assert {image.image.stem[0] for image in listing.images if image.split == "val"} == set(VAL)


def test_label_img(listed: Callable[..., Listing]) -> None:
    """labelImg writes a.txt and classes.txt beside a.jpg; the splits are folders here."""
    listing = listed("{part}/{name}.jpg", "{part}/{name}.txt", {"train/classes.txt": "cat\nhot dog\nunused\n"})
    assert shown(listing) == SHOWN
    assert {image.image.stem for image in listing.images if image.split == "val"} == set(VAL)


def test_list_files_in_data_yaml(listed: Callable[..., Listing]) -> None:
    """docs.ultralytics.com: 'train/val/test sets as 1) dir, 2) file: path/to/imgs.txt, or 3) list'."""
    texts = {
        "data.yaml": "path: /content/datasets/mine\ntrain: [a.txt, more]\nval: ./val.txt\nnames: [cat, hot dog]\n",
        "a.txt": "./images/a.jpg\n./images/b.jpg\n",
        "val.txt": "./images/e.jpg\n./images/f.jpg\n",
    }
    problem, *_ = listed("images/{name}.jpg", "labels/{name}.txt", texts).problems
    assert problem.endswith(
        "mine/data.yaml: train: more is not there; correct it, or take train and val out, so that "
        + ("data.val_share holds images out")
    )
    texts["data.yaml"] = texts["data.yaml"].replace("more", "./val.txt").replace("./val.txt\nnames", "a.txt\nnames")
    problem, *_ = listed("images/{name}.jpg", "labels/{name}.txt", texts).problems
    assert "2 image(s) are in train and in val: images/a.jpg, images/b.jpg" in problem
    texts["data.yaml"] = "train: a.txt\nval: val.txt\nnames: [cat, hot dog]\n"
    listing = listed("images/{name}.jpg", "labels/{name}.txt", texts)
    assert {image.image.stem: image.split for image in listing.images} == dict(a="train", b="train", e="val", f="val")
    assert "splits of data.yaml, 2 images in none left out" in listing.origin.told


def test_one_folder_for_both(listed: Callable[..., Listing]) -> None:
    """As coco128.yaml: train and val are the same folder."""
    text = "path: ../datasets/mine\ntrain: images\nval: images\nnames: {0: cat, 1: hot dog}\n"
    listing = listed("images/{name}.jpg", "labels/{name}.txt", {"data.yaml": text})
    assert shown(listing) == SHOWN and {image.split for image in listing.images} == {"train", "val"}
    assert "data.val_share holds images out" in listing.origin.told


@pytest.mark.parametrize(
    ("yaml", "label", "message"),
    [
        ("names: [cat]\n", "1 0.5 0.5 0.1 0.1", "b.txt, line 1: class 1, but data.yaml names 0 to 0"),
        ("nc: 3\nnames: [cat, dog]\n", "", "nc says 3 classes, but names has 2"),
        ("nc: 3\n", "", "holds no `names`"),
        ("names: [cat, ]\n  bad: [\n", "", "not valid YAML"),
        ("names: {0: cat, x: dog}\n", "", "a class has no name, or no number"),
        ("names: [cat, '']\n", "", "a class has no name, or no number"),
        ("names: [cat, dog]\n", "cat 0.5 0.5 0.1 0.1", "line 1: not a class number and a box or outline"),
        ("names: [cat, dog]\n", "0.5 0.5 0.1", "line 1: not a class number and a box or outline"),
        ("names: [cat, dog]\n", "0 0.5 0.5 0.1 0.1 0.93", "line 1: 6 columns: if the last is a confidence, set"),
    ],
)
def test_what_is_refused(listed: Callable[..., Listing], yaml: str, label: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine/labels").mkdir(parents=True)
    problems = listed("images/{name}.jpg", "labels/{name}.txt", {"data.yaml": yaml, "labels/b.txt": label}).problems
    assert message in problems[0], problems


def test_a_confidence_is_compared(listed: Callable[..., Listing]) -> None:
    """`yolo predict save_txt save_conf` writes the confidence as the last column."""
    texts = {"data.yaml": "names: [cat, hot dog]", "labels/a.txt": "0 0.5 0.5 0.1 0.1 0.3\n1 0.5 0.5 0.1 0.1 0.8\n"}
    listing = listed("images/{name}.jpg", "labels/{name}.txt", texts, label_threshold=0.5)
    assert shown(listing)["a"] == {"hot dog"}


def test_labels_without_images_and_images_without_labels(listed: Callable[..., Listing], tmp_path: Path) -> None:
    texts = {"data.yaml": "names: [cat, hot dog]", "labels/zebra.txt": "0 0.5 0.5 0.1 0.1\n"}
    (tmp_path / "mine/labels").mkdir(parents=True)
    assert (
        "1 label file(s) of no image: zebra.txt" in listed("images/{name}.jpg", "labels/{name}.txt", texts).problems[0]
    )
    shutil.rmtree(tmp_path / "mine/labels")
    listing = listed("pictures/{name}.jpg", "elsewhere/{name}.txt", {"data.yaml": "names: [cat]"}, images="pictures")
    assert "no image has a label file; looked for " in listing.problems[0]


def test_lines_that_name_no_image_and_a_file_of_darknet(listed: Callable[..., Listing]) -> None:
    yaml = "train: train.txt\nval: val.txt\nnames: [cat, hot dog, unused]\n"
    texts = {"data.yaml": yaml, "train.txt": "./images/a.jpg\n./images/gone.jpg\n", "val.txt": "./images/e.jpg\n"}
    (problem,) = listed("images/{name}.jpg", "labels/{name}.txt", texts).problems
    assert "train.txt: 1 line(s) name no image, or several: ./images/gone.jpg; correct them" in problem
    texts |= {
        "data.yaml": f"{yaml}test: test.txt\n",
        "train.txt": "./images/a.jpg\n",
        "test.txt": "./images/gone.jpg\n",
    }
    assert not listed("images/{name}.jpg", "labels/{name}.txt", texts).problems
    texts = {"obj.data": "classes= 2\ntrain  = data/train.txt\nnames = data/obj.names\n"}
    (problem, *_) = listed("images/{name}.jpg", "labels/{name}.txt", texts).problems
    assert "'classes= 2' is a setting of darknet and no class; name obj.names" in problem
