"""A folder as people have it becomes a section `data` that prepare can read, or a question that names the ways."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stages.check
import stages.prepare
from cpal.data.dataset import read_dataset
from cpal.data.masks import write_mask
from cpal.errors import UserError
from cpal.settings.config import load_config
from cpal.sources.dispatch import list_images
from cpal.sources.import_listing import import_listing
from stages import profile, use
from stages.job.job import Job
from stages.job.paths import PARAMS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "profiles", folder / "profiles")
    shutil.copy(ROOT / "params.yaml", folder)
    monkeypatch.chdir(folder)
    return folder


def pictures(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def labels(folder: Path) -> dict[str, set[str]]:
    """Classes of each image after `stages.use --yes`."""
    use.main(folder, profile="photographs", yes=True, params=Path("params.yaml"))
    config = load_config(Path("params.yaml"))
    assert config.hosts.irn.crop_size == 224, "the profile was written too"
    listing = list_images(config.data, seed=0)
    assert not listing.problems and {image.split for image in listing.images} == {"train", "val"}
    return {image.image_id: set(image.names or ()) for image in listing.images}


def prepared(folder: Path) -> dict[str, tuple[str, set[str]]]:
    """Split and classes of each image after the commands that a user types: use, check, prepare."""
    use.main(folder, profile="photographs", yes=True, params=Path("params.yaml"))
    config = load_config(Path("params.yaml"))
    stages.check.main(Job("check", config, workers=1))
    stages.prepare.main(Job("prepare", config, workers=1))
    dataset = read_dataset(Path("data/dataset"))
    return {r.image_id: (r.split, {dataset.classes[n - 1] for n in r.labels}) for r in dataset.records}


def test_lists_of_pairs_as_the_fields_repositories_ship_them(tmp_path: Path) -> None:
    """voc12/train_aug.txt and voc12/val.txt of AffinityNet, SEAM, MCTformer and others, beside VOC's folders."""
    root, ids = tmp_path / "VOC2012", {"train_aug": ("2007_000032", "2008_000002"), "val": ("2009_000005",)}
    for name, listed in ids.items():
        pictures(*(root / "JPEGImages" / f"{i}.jpg" for i in listed))
        for number, i in enumerate(listed):
            write_mask(root / "SegmentationClassAug" / f"{i}.png", np.full((30, 40), 8 + number % 2, np.uint8))
        (root / "voc12").mkdir(exist_ok=True)
        text = "".join(f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png\n" for i in listed)
        (root / "voc12" / f"{name}.txt").write_text(text)
    (root / "SegmentationClass").mkdir()  # VOC's own, which the lists do not name
    use.main(root, profile="photographs", yes=True, params=Path("params.yaml"))
    data = load_config(Path("params.yaml")).data
    assert (data.source, data.labels, data.masks) == ("voc", "masks", "SegmentationClassAug")
    assert (data.train_list, data.val_list) == ("voc12/train_aug.txt", "voc12/val.txt")
    listing = list_images(data.model_copy(update={"classes": ("cat", "chair")}), seed=0)
    assert not listing.problems
    import_listing(Path("out"), listing, other_classes="void", drop_unlabeled=False, complete=True, workers=1)
    found = {record.image_id: (record.split, record.labels) for record in read_dataset(Path("out")).records}
    assert found == {"2007_000032": ("train", (1,)), "2008_000002": ("train", (2,)), "2009_000005": ("val", (1,))}


def test_lists_of_paths_beside_a_table(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    pictures(*(root / "images" / f"p{n}.jpg" for n in range(7)))
    rows = [f"p{n}.jpg,{'nut' if n % 2 else 'bolt'}" for n in range(7)]
    (root / "labels.csv").write_text("\n".join(["image,labels", *rows]))
    (root / "train.txt").write_text("".join(f"images/p{n}.jpg\n" for n in range(4)))
    (root / "val.txt").write_text("".join(f"images/p{n}.jpg\n" for n in (4, 5)))
    found = prepared(root)
    assert found == {f"p{n}": ("train" if n < 4 else "val", {"nut" if n % 2 else "bolt"}) for n in range(6)}


def test_yolo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The layout of docs.ultralytics.com/datasets/detect, with READMEs as Roboflow adds them."""
    root = tmp_path / "mine"
    for part, numbers in (("train", range(6)), ("val", range(6, 8))):
        pictures(*(root / f"images/{part}/p{n}.jpg" for n in numbers))
        (root / f"labels/{part}").mkdir(parents=True)
        for n in numbers:
            if n != 5:  # shows no object
                (root / f"labels/{part}/p{n}.txt").write_text(f"{n % 2} 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("path: mine\ntrain: images/train\nval: images/val\nnames:\n  0: nut\n  1: bolt\n")
    (root / "README.dataset.txt").write_text("# mine > v1\nhttps://universe.roboflow.com/x\nProvided by me\n")
    found = prepared(root)
    assert found == {
        f"{'train' if n < 6 else 'val'}__p{n}": (
            "train" if n < 6 else "val",
            set() if n == 5 else {"bolt" if n % 2 else "nut"},
        )
        for n in range(8)
    }
    out = capsys.readouterr().out
    assert "found: labels from YOLO's files and data.yaml: 6 training and 2 validation images" in out
    assert (
        out.count("\nLabels: YOLO's labels, 2 names in data.yaml; splits of data.yaml; 1 image without label file") == 2
    )


def test_via(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    pictures(*(root / f"p{n}.jpg" for n in range(6)))
    content = {
        f"p{n}.jpg{n}": {
            "filename": f"p{n}.jpg",
            "size": n,
            "regions": [
                {"shape_attributes": {"name": "point"}, "region_attributes": {"kind": "nut" if n % 2 else "bolt"}}
            ],
            "file_attributes": {},
        }
        for n in range(6)
    }
    (root / "via_export_json.json").write_text(json.dumps(content))
    assert {i: names for i, (_, names) in prepared(root).items()} == {
        f"p{n}": {"nut" if n % 2 else "bolt"} for n in range(6)
    }


def test_class_folders(tmp_path: Path) -> None:
    root = tmp_path / "My Photos (2024) \u7167\u7247"
    pictures(*(root / name / f"{name}{n}.jpg" for name in ("cat", "dog") for n in range(4)))
    assert labels(root) == {f"{name}__{name}{n}": {name} for name in ("cat", "dog") for n in range(4)}


def test_settings_of_the_folder_before_count_no_longer(tmp_path: Path) -> None:
    pictures(*(tmp_path / f"table/images/{n}.jpg" for n in range(8)))
    rows = "".join(f"{n}.jpg|{'cat' if n % 2 else 'dog'}\n" for n in range(8))
    (tmp_path / "table/labels.csv").write_text(f"image|labels\n{rows}")
    pictures(*(tmp_path / f"folders/{name}/{n}.jpg" for name in ("bird", "cow") for n in range(4)))
    assert set().union(*labels(tmp_path / "table").values()) == {"cat", "dog"}
    assert set().union(*labels(tmp_path / "folders").values()) == {"bird", "cow"}


def test_check_sees_a_corrected_mask_of_a_validation_image(tmp_path: Path) -> None:
    """Else it would stop write_pseudo_masks, hours later."""
    pictures(*(tmp_path / f"mine/{name}/{n}.jpg" for name in ("bird", "cow") for n in range(5)))
    labels(tmp_path / "mine")
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(text.replace("corrected: false", "corrected: true"), encoding="utf-8")
    config = load_config(Path("params.yaml"))
    side = {image.split: image.image_id for image in list_images(config.data, seed=config.seed).images}
    write_mask(Path(f"data/corrected_masks/{side['train']}.png"), np.zeros((30, 40), np.uint8))
    stages.check.main(Job("check", config, workers=1))
    write_mask(Path(f"data/corrected_masks/{side['val']}.png"), np.zeros((30, 40), np.uint8))
    with pytest.raises(UserError, match=f"{side['val']}.png is of no training image; move the file away"):
        stages.check.main(Job("check", config, workers=1))


def test_a_table_beside_a_folder_of_images(tmp_path: Path) -> None:
    pictures(*(tmp_path / "mine" / "photos" / f"p{n}.png" for n in range(6)))
    rows = [f"p{n}.png,{'cup;fork' if n % 2 else 'fork'}" for n in range(6)]
    (tmp_path / "mine" / "tags.csv").write_text("\n".join(["image,labels", *rows]))
    assert labels(tmp_path / "mine") == {f"p{n}": {"cup", "fork"} if n % 2 else {"fork"} for n in range(6)}


def test_coco(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    pictures(*(root / "images" / f"{n}.jpg" for n in range(6)))
    content = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 40, "height": 30} for n in range(6)],
        "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "bus"}],
        "annotations": [
            {
                "id": n,
                "image_id": n,
                "category_id": 3 if n % 2 else 5,
                "iscrowd": 0,
                "segmentation": [],
                "bbox": [0] * 4,
            }
            for n in range(6)
        ],
    }
    (root / "instances.json").write_text(json.dumps(content))
    assert labels(root) == {f"{n}": {"car"} if n % 2 else {"bus"} for n in range(6)}


def test_a_table_in_each_folder_of_a_split(tmp_path: Path) -> None:
    """As Roboflow exports a data set for classification with several labels."""
    root = tmp_path / "mine"
    for split, count in (("train", 6), ("valid", 4)):
        pictures(*(root / split / f"{split}{n}.jpg" for n in range(count)))
        rows = [f"{split}{n}.jpg, {n % 2}, {(n + 1) % 2}" for n in range(count)]
        (root / split / "_classes.csv").write_text("\n".join(["filename, cat, dog", *rows]))
    found = labels(root)
    assert len(found) == 10 and found["train__train1"] == {"cat"} and found["valid__valid2"] == {"dog"}


def test_voc_layout(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    ids = {"train": ["a", "b"], "val": ["c", "d"]}
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, names in ids.items():
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(names))
        pictures(*(root / "JPEGImages" / f"{i}.jpg" for i in names))
        for i in names:
            write_mask(root / "SegmentationClass" / f"{i}.png", np.full((30, 40), 8, np.uint8))
    use.main(root, profile="photographs", yes=True, params=Path("params.yaml"))
    data = load_config(Path("params.yaml")).data
    assert (data.source, data.images, data.masks, data.labels) == ("voc", "JPEGImages", "SegmentationClass", "masks")


def test_replaced_settings_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "mine"
    pictures(*(root / f"{name}/{n}.jpg" for name in ("cat", "dog") for n in range(4)))
    labels(root)
    text = Path("params.yaml").read_text().replace("  topk: 8 ", "  topk: 9 ")
    assert "topk: 9 " in text
    Path("params.yaml").write_text(text)
    capsys.readouterr()
    labels(root)  # again: a setting that was changed by hand since is replaced, and said to be
    assert "cpal.topk: 9 -> 8" in capsys.readouterr().out.splitlines()


def test_many_photographs_get_more_iterations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "mine"
    (root / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(root / "images/p0.jpg")
    for n in range(1, 1200):
        (root / f"images/p{n}.jpg").symlink_to(root / "images/p0.jpg")
    rows = [f"p{n}.jpg,{'nut' if n % 2 else 'bolt'},{'train' if n < 1000 else 'val'}" for n in range(1200)]
    (root / "labels.csv").write_text("\n".join(["image,labels,split", *rows]))
    labels(root)
    assert (
        "segmentation.iterations: 1300, so that the training shows each of 1000 images often" in capsys.readouterr().out
    )
    assert load_config(Path("params.yaml")).segmentation.iterations == 1300  # batches of 8, in hundreds


def test_few_photographs_get_more_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "mine"
    pictures(*(root / f"p{n}.jpg" for n in range(40)))
    rows = [f"p{n}.jpg,{'nut' if n % 2 else 'bolt'},{'train' if n < 32 else 'val'}" for n in range(40)]
    (root / "labels.csv").write_text("\n".join(["image,labels,split", *rows]))
    labels(root)
    assert "hosts.irn.epochs: 50, since 32 images make few steps an epoch" in capsys.readouterr().out
    assert load_config(Path("params.yaml")).hosts.irn.epochs == 50  # of two batches of 16: 100 steps


def test_a_wrong_row_is_what_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "mine"
    pictures(*(root / f"p{n}.jpg" for n in range(4)))
    (root / "tags.csv").write_text("file,tags\np0.jpg,cat\np1.jpg,dog\np22.jpg,cat\np3.jpg,dog\np3,dog\n")
    problems = r"correct what is wrong(?s:.*)tags.csv: 1 image.*: p22(?s:.*)tags.csv: image p3.jpg twice"
    with pytest.raises(UserError, match=f"the labels cannot be read as they are; {problems}"):
        use.main(root, yes=True, params=Path("params.yaml"))
    assert not capsys.readouterr().out, "each reason is told once"
    with pytest.raises(UserError, match=r"tags.csv: is a file; name the folder that holds it"):
        use.main(root / "tags.csv", yes=True, params=Path("params.yaml"))


def test_no_labels_at_all(tmp_path: Path) -> None:
    before = Path("params.yaml").read_bytes()
    pictures(*(tmp_path / "mine" / f"p{n}.png" for n in range(3)))
    with pytest.raises(
        UserError, match=r"cannot be read as they are.*put a table labels.csv there, with the line image,"
    ):
        use.main(tmp_path / "mine", yes=True, params=Path("params.yaml"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: holds no image"):
        use.main(tmp_path / "empty", yes=True, params=Path("params.yaml"))
    assert Path("params.yaml").read_bytes() == before


def test_two_ways_are_both_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "mine"
    pictures(*(root / "pics" / name / f"{name}{n}.jpg" for name in ("cat", "dog") for n in range(4)))
    rows = [f"{name}/{name}{n}.jpg,{'old' if n % 2 else 'new'}" for name in ("cat", "dog") for n in range(4)]
    (root / "age.csv").write_text("\n".join(["image,labels", *rows]))
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match="can be read in 2 ways, listed above"):
        use.main(root, yes=True, params=Path("params.yaml"))
    out = capsys.readouterr().out
    assert "found: labels from age.csv: " in out and "found: labels from the names of folders: " in out
    assert Path("params.yaml").read_bytes() == before


def test_class_folders_inside_splits(tmp_path: Path) -> None:
    paths = [f"{split}/{name}/{name}{n}.jpg" for split in ("train", "val") for name in ("cat", "dog") for n in range(3)]
    pictures(*(tmp_path / "mine" / path for path in paths))
    assert set(map(frozenset, labels(tmp_path / "mine").values())) == {frozenset({"cat"}), frozenset({"dog"})}


def test_a_class_may_be_called_mask(tmp_path: Path) -> None:
    """Pictures of people with one or the other; no picture has the name of another, as ground truth would."""
    paths = [f"{name}/{name}{n}.jpg" for name in ("mask", "helmet") for n in range(4)]
    pictures(*(tmp_path / "mine" / path for path in paths))
    assert set(map(frozenset, labels(tmp_path / "mine").values())) == {frozenset({"mask"}), frozenset({"helmet"})}


def test_xml_with_own_classes_and_masks_beside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "mine"
    pictures(*(root / "photos" / f"p{n}.jpg" for n in range(6)))
    (root / "Annotations").mkdir()
    for n in range(6):
        name = "bolt" if n % 2 else "nut"
        (root / "Annotations" / f"p{n}.xml").write_text(
            f"<annotation><object><name>{name}</name></object></annotation>"
        )
        write_mask(root / "masks" / f"p{n}.png", np.ones((30, 40), np.uint8))
    assert labels(root) == {f"p{n}": {"bolt"} if n % 2 else {"nut"} for n in range(6)}
    assert "masks may be ground truth" in capsys.readouterr().out


@pytest.mark.parametrize("names", [("Training", "Testing"), ("seg_train", "seg_test")])  # of data sets on Kaggle
def test_a_test_split_validates_if_there_is_no_other(
    tmp_path: Path, names: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(*(tmp_path / f"mine/{s}/{c}/{s}{c}{n}.jpg" for s in names for c in ("cat", "dog") for n in range(3)))
    found = prepared(tmp_path / "mine")
    assert {split for split, _ in found.values()} == {"train", "val"}
    assert all(shown == {"cat" if "cat" in i else "dog"} for i, (_, shown) in found.items())
    out = capsys.readouterr().out
    assert "6 training and 6 validation images of the split test, 2 classes (cat, dog)" in out and "not:" not in out


def test_the_files_of_a_kaggle_competition(tmp_path: Path) -> None:
    """train.csv, and for the pictures without labels test.csv and sample_submission.csv with a constant label."""
    root = tmp_path / "mine"
    pictures(*(root / f"{'train' if n < 8 else 'test'}_images/p{n}.jpg" for n in range(11)))
    rows = [f"p{n}.jpg,{'nut' if n % 2 else 'bolt'}\n" for n in range(8)]
    (root / "train.csv").write_text("".join(["image_id,label\n", *rows]))
    (root / "test.csv").write_text("image_id\n" + "".join(f"p{n}.jpg\n" for n in range(8, 11)))
    (root / "sample_submission.csv").write_text("image_id,label\n" + "".join(f"p{n}.jpg,nut\n" for n in range(8, 11)))
    assert labels(root) == {f"train_images__p{n}": {"nut" if n % 2 else "bolt"} for n in range(8)}


@pytest.mark.parametrize("word", ["val", "valid", "validation"])
def test_tables_and_lists_of_each_split(tmp_path: Path, word: str) -> None:
    """train.csv and val.csv; or train.txt and val.txt with the number of a class, as Caffe and mmpretrain read them."""
    for name, ending, line in (("a", "csv", "p{}.jpg,c{}"), ("b", "txt", "images/p{}.jpg {}")):
        root = tmp_path / name
        pictures(*(root / f"images/p{n}.jpg" for n in range(9)))
        for part, numbers in (("train", range(6)), (word, range(6, 9))):
            header = ["image,label"] if ending == "csv" else []
            (root / f"{part}.{ending}").write_text("\n".join([*header, *(line.format(n, 3 + n % 2) for n in numbers)]))
        found = prepared(root)
        letter = "c" if ending == "csv" else ""
        assert found == {f"p{n}": ("train" if n < 6 else "val", {f"{letter}{3 + n % 2}"}) for n in range(9)}


def test_cocos_own_layout(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for part, numbers in (("train2017", range(6)), ("val2017", range(6, 9))):
        pictures(*(root / part / f"{n:012d}.jpg" for n in numbers))
        (root / "annotations").mkdir(exist_ok=True)
        content = {
            "images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in numbers],
            "categories": [{"id": 3, "name": "car"}, {"id": 5, "name": "bus"}],
            "annotations": [{"id": n, "image_id": n, "category_id": 3 if n % 2 else 5} for n in numbers],
        }
        (root / f"annotations/instances_{part}.json").write_text(json.dumps(content))
    assert prepared(root) == {
        f"{'train' if n < 6 else 'val'}2017__{n:012d}": ("train" if n < 6 else "val", {"car" if n % 2 else "bus"})
        for n in range(9)
    }


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "labels.xlsx",
            b"PK\x03\x04",
            "labels.xlsx: a workbook or an archive and no text; save the sheet as CSV UTF-8",
        ),
        ("cls_labels.npy", b"\x93NUMPY", "an array of NumPy; convert it with python -m stages.import_labels"),
        ("photos/p0.json", b'{"shapes": [], "imagePath": "p0.jpg"}', "labelme's file of one image, which is not read"),
        ("data.ndjson", b'{"data_row": {}, "projects": {}}\n', "Labelbox's export, which is not read"),
    ],
)
def test_files_that_are_not_read_are_named(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    pictures(*(tmp_path / "mine/photos" / f"p{n}.jpg" for n in range(3)))
    (tmp_path / "mine" / file).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(message)):
        use.main(tmp_path / "mine", yes=True, params=Path("params.yaml"))


def test_class_folders_inside_other_folders(tmp_path: Path) -> None:
    """An archive of Kaggle: archive/Dataset/train/cat/1.jpg."""
    paths = [
        f"archive/Dataset/{s}/{c}/{s}{c}{n}.jpg" for s in ("train", "val") for c in ("cat", "dog") for n in range(3)
    ]
    pictures(*(tmp_path / "mine" / path for path in paths))
    assert labels(tmp_path / "mine")["train__cat__traincat0"] == {"cat"}


def test_exports_of_several_tasks_are_ways_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(*(tmp_path / "mine/images" / f"p{n}.jpg" for n in range(6)))
    for task, numbers in ((1, (0, 1, 2)), (2, (3, 4, 5))):
        images = "".join(f'<image name="p{n}.jpg"><tag label="t{n % 2}"/></image>' for n in numbers)
        (tmp_path / f"mine/task_{task}").mkdir()
        (tmp_path / f"mine/task_{task}/annotations.xml").write_text(f"<annotations>{images}</annotations>")
    with pytest.raises(UserError, match="can be read in 2 ways"):
        use.main(tmp_path / "mine", yes=True, params=Path("params.yaml"))
    assert "found: labels from task_1/annotations.xml" in capsys.readouterr().out


def test_a_question_is_answered_in_params(tmp_path: Path) -> None:
    """A folder of background beside the classes: the answer is kept, and no table is asked for."""
    pictures(*(tmp_path / f"mine/{name}/{name}{n}.jpg" for name in ("cat", "dog", "background") for n in range(4)))
    with pytest.raises(
        UserError, match=r"set data.negatives: \[\]; write it into .* params.yaml, and run this command ag"
    ):
        use.main(tmp_path / "mine", yes=True, params=Path("params.yaml"))
    text = Path("params.yaml").read_text(encoding="utf-8")
    start = text.index("  negatives:")
    Path("params.yaml").write_text(f"{text[:start]}  negatives: [background]{text[text.index(chr(10), start) :]}")
    found = labels(tmp_path / "mine")
    assert found["background__background0"] == set() and found["cat__cat0"] == {"cat"}


def test_photographs_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/IMG_1.CR2").write_bytes(b"II*\0")
    with pytest.raises(UserError, match=r"1 file\(s\) not used, raw files of a camera: IMG_1.CR2; develop them into"):
        use.main(tmp_path / "mine", yes=True, params=Path("params.yaml"))


def test_one_folder_is_no_class(tmp_path: Path) -> None:
    """A folder of a camera: all pictures would show the class 100APPLE, from which nothing is learned."""
    pictures(*(tmp_path / "mine" / "DCIM" / "100APPLE" / f"p{n}.jpg" for n in range(5)))
    with pytest.raises(UserError, match="100APPLE would be the only class, of every image"):
        use.main(tmp_path / "mine", yes=True, params=Path("params.yaml"))


def test_train_and_val_are_no_classes(tmp_path: Path) -> None:
    pictures(*(tmp_path / "mine" / name / f"{name}{n}.jpg" for name in ("train", "val") for n in range(4)))
    with pytest.raises(UserError, match="the labels cannot be read as they are"):
        use.main(tmp_path / "mine", yes=True, params=Path("params.yaml"))


def test_masks_of_the_last_data_set_do_not_hide_those_of_this_one(
    tmp_path: Path,
) -> None:
    """The profile msrc leaves data.mask_suffix: _GT, with which no mask of another data set would be found."""
    profile.main("msrc", PARAMS)
    mine = tmp_path / "mine"
    pictures(mine / "a.jpg", mine / "b.jpg", mine / "c.jpg")
    (mine / "labels.csv").write_text("image,labels\na,cat\nb,dog\nc,cat;dog\n")
    use.main(mine, yes=True)
    data = load_config(PARAMS).data
    assert (data.mask_suffix, data.mask_colors, data.masks) == (None, None, None)


def test_without_a_terminal_it_asks_for_yes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "mine"
    pictures(mine / "cat/a.jpg", mine / "cat/b.jpg", mine / "dog/c.jpg", mine / "dog/d.jpg")
    before = PARAMS.read_bytes()
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UserError, match="no terminal to ask in; add --yes"):
        use.main(mine)
    assert PARAMS.read_bytes() == before


def test_names_that_differ_in_letters_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    pictures(mine / "a.jpg", mine / "b.jpg", mine / "c.jpg", mine / "d.jpg")
    (mine / "labels.csv").write_text("image,labels\na,cat\nb,Cat\nc,cat;dog\nd,dog\n")
    use.main(mine, yes=True)
    assert "only in small and capital letters, each a class of its own: Cat = cat" in capsys.readouterr().out
