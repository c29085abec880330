"""The VOC source on a small drawn tree: what it reads, and what it says of each thing that can be wrong."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cpal.data.dataset import Dataset, read_dataset
from cpal.data.masks import VOID, read_mask, voc_palette
from cpal.errors import UserError
from cpal.settings.data import DataConfig
from cpal.sources.import_listing import import_listing, label_table
from cpal.sources.voc import CLASSES, list_voc
from stages import import_labels

CAT, DOG, PERSON, SOFA = (CLASSES.index(name) + 1 for name in ("cat", "dog", "person", "sofa"))
KEPT = ["dog", "cat", "person"]
TREE = {  # id: (height, width), VOC ids drawn; `empty` has void pixels and no class
    "2007_000001": ((31, 40), (CAT, SOFA)),
    "2007_000002": ((24, 33), (DOG,)),
    "2007_000003": ((35, 35), (DOG, PERSON)),
    "2008_000004": ((40, 29), (CAT,)),
    "empty": ((22, 27), ()),
    "2009_000005": ((33, 41), (CAT, PERSON)),
    "2009_000006": ((28, 28), (SOFA,)),
}
LISTS = {"train": list(TREE)[:5], "official": list(TREE)[:3], "val": list(TREE)[5:]}
Import = Callable[..., Dataset]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A fresh VOC tree: images, masks with a void rim, annotations, lists."""
    root = tmp_path / "voc"
    for name in ("JPEGImages", "SegmentationClass", "Annotations", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for image_id, (size, classes) in TREE.items():
        draw(root, image_id, size, classes)
    for name, ids in LISTS.items():
        write_list(root, name, "".join(f"{image_id}\n" for image_id in ids))
    return root


def draw(root: Path, image_id: str, size: tuple[int, int], classes: tuple[int, ...]) -> None:
    mask = np.zeros(size, np.uint8)
    mask[1:6, 1:6] = VOID
    for place, label in enumerate(classes):
        top = 7 + 9 * place
        mask[top : top + 8, 4:20] = VOID
        mask[top + 1 : top + 7, 5:19] = label
    Image.fromarray(voc_palette()[mask]).save(root / f"JPEGImages/{image_id}.jpg")
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())
    image.save(root / f"SegmentationClass/{image_id}.png")
    objects = "".join(
        f"<object><name>{CLASSES[label - 1]}</name><part><name>head</name></part></object>" for label in classes
    )
    (root / f"Annotations/{image_id}.xml").write_text(
        f"<annotation><owner><name>me</name></owner>{objects}</annotation>"
    )


def write_list(root: Path, name: str, text: str, encoding: str = "utf-8") -> None:
    (root / f"ImageSets/Segmentation/{name}.txt").write_bytes(text.encode(encoding))


def write_mask_array(root: Path, image_id: str, mask: np.ndarray) -> None:
    Image.fromarray(mask).save(root / f"SegmentationClass/{image_id}.png")


@pytest.fixture
def data(data_settings: Callable[..., DataConfig], root: Path) -> Callable[..., DataConfig]:
    """`data(labels="xml")`: settings of the drawn tree, then these."""
    values = {"source": "voc", "score_list": "official", "classes": KEPT}
    return lambda **changes: data_settings(**(values | {"root": str(root)} | changes))


@pytest.fixture
def imported(data: Callable[..., DataConfig], tmp_path: Path) -> Import:
    """`imported(labels="xml")`: the data set that comes of these settings."""

    def run(*, workers: int = 1, limit: int | None = None, folder: str = "out", **changes: Any) -> Dataset:
        settings = data(**changes)
        import_listing(
            tmp_path / folder,
            list_voc(settings, limit=limit),
            other_classes=settings.other_classes,
            drop_unlabeled=settings.without_labels == "drop",
            complete=limit is None,
            workers=workers,
        )
        return read_dataset(tmp_path / folder)

    return run


@pytest.fixture
def problems(imported: Import, tmp_path: Path) -> Callable[..., list[str]]:
    """`problems(labels="xml")`: the lines of the message with these settings; nothing may have been written."""

    def run(**changes: Any) -> list[str]:
        with pytest.raises(UserError) as caught:
            imported(**changes)
        assert not (tmp_path / "out").exists()
        title, *lines = str(caught.value).split("\n  - ")
        count = len(lines) if not lines[-1].startswith("... and ") else 20 + int(lines[-1].split()[2])
        assert title.endswith(f": {count} problem(s) to put right:")
        return lines

    return run


def write_csv(path: Path, names: dict[str, list[str]], header: str = "image,labels") -> Path:
    path.write_text("\n".join([header, *(f"{image_id},{';'.join(names[image_id])}" for image_id in names)]))
    return path


def names_in_tree() -> dict[str, list[str]]:
    return {image_id: [CLASSES[label - 1] for label in classes] for image_id, (_, classes) in TREE.items()}


# What is read


def test_records(imported: Import, root: Path, tmp_path: Path) -> None:
    dataset = imported()
    assert dataset.classes == ("dog", "cat", "person")
    assert dataset.splits == {"train": "train", "score": "official", "val": "val"}
    assert dataset.image_root == root
    found = {r.image_id: (r.split, r.scored, r.labels, (r.height, r.width)) for r in dataset.records}
    assert found == {
        "2007_000001": ("train", True, (2,), (31, 40)),
        "2007_000002": ("train", True, (1,), (24, 33)),
        "2007_000003": ("train", True, (1, 3), (35, 35)),
        "2008_000004": ("train", False, (2,), (40, 29)),
        "empty": ("train", False, (), (22, 27)),
        "2009_000005": ("val", True, (2, 3), (33, 41)),
        "2009_000006": ("val", True, (), (28, 28)),
    }
    assert [r.image_id for r in dataset.records] == LISTS["train"] + LISTS["val"]
    for record in dataset.records:
        assert record.sha256 == hashlib.sha256(dataset.image_path(record).read_bytes()).hexdigest()
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert written == {"dataset.json", *(f"masks/{image_id}.png" for image_id in TREE)}, "images are not copied"


@pytest.mark.parametrize("classes", [KEPT, None, ["sofa"]])
@pytest.mark.parametrize("other", ["background", "void"])
def test_masks_against_a_loop(imported: Import, root: Path, classes: list[str] | None, other: str) -> None:
    if classes is None:  # all twenty need a training image
        for label in range(1, 21):
            draw(root, f"only{label}", (20, 24), (label,))
        write_list(root, "train", "\n".join([*LISTS["train"], *(f"only{label}" for label in range(1, 21))]))
    dataset = imported(classes=classes, other_classes=other)
    kept = list(classes or CLASSES)
    for record in dataset.records:
        before = np.array(Image.open(root / f"SegmentationClass/{record.image_id}.png"))
        after = read_mask(dataset.mask_path(record))
        for row, column in np.ndindex(before.shape):
            label = int(before[row, column])
            if label in (0, VOID):
                right = label
            elif CLASSES[label - 1] in kept:
                right = kept.index(CLASSES[label - 1]) + 1
            else:
                right = VOID if other == "void" else 0
            assert after[row, column] == right


def test_label_table_keeps_background_and_void() -> None:
    table = label_table(CLASSES, CLASSES, "void")
    assert table[:21].tolist() == list(range(21))
    assert set(table[21:].tolist()) == {VOID}


def test_three_sources_of_labels_agree(imported: Import, tmp_path: Path) -> None:
    columns = {i: np.isin(np.arange(1, 21), classes).astype(np.float32) for i, (_, classes) in TREE.items()}
    np.save(tmp_path / "labels.npy", np.array(columns, dtype=object))
    import_labels.main(tmp_path / "labels.npy", tmp_path / "labels.csv")
    from_masks = imported(folder="masks").records
    assert imported(folder="xml", labels="xml").records == from_masks
    assert imported(folder="csv", labels="csv", labels_file=str(tmp_path / "labels.csv")).records == from_masks


def test_workers_do_not_change_a_byte(imported: Import, tmp_path: Path) -> None:
    one, two = imported(folder="one", workers=1), imported(folder="two", workers=2)
    assert one.records == two.records
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(names) == 1 + len(TREE)
    assert names == sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*.*"))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_limit_takes_the_first_of_each_list(imported: Import) -> None:
    dataset = imported(limit=1)
    assert [(r.image_id, r.split) for r in dataset.records] == [("2007_000001", "train"), ("2009_000005", "val")]


def test_progress_sees_every_image(data: Callable[..., DataConfig], tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}

    def progress(items: Any, *, total: int, what: str) -> Any:
        items = list(items)
        seen[what] = (len(items), total)
        return items

    import_listing(
        tmp_path / "out",
        list_voc(data()),
        other_classes="background",
        drop_unlabeled=False,
        complete=True,
        workers=1,
        progress=progress,
    )
    assert seen == {"read images": (7, 7), "write masks": (7, 7)}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{0}\r\n{1}\r\n{2}\r\n{3}\r\n", id="Windows"),
        pytest.param("{0}  1\n{1} -1\n{2}  0\n{3}  1", id="second column"),
        pytest.param("\n  {0}  \n\n{1}\t\n{2}\n\n{3}\n\n", id="blanks"),
        pytest.param("\ufeff{0}\n{1}\n{2}\n{3}", id="byte order mark"),
        pytest.param("{0}.jpg\n{1}.jpg\n{2}.jpg\n{3}.jpg\n", id="endings"),
        pytest.param("JPEGImages/{0}.jpg\n./JPEGImages/{1}\nJPEGImages\\{2}.jpg\n/a/JPEGImages/{3}.jpg", id="paths"),
        # voc12/train_aug.txt of AffinityNet, SEAM, MCTformer and others
        pytest.param(
            "".join(f"/JPEGImages/{{{n}}}.jpg /SegmentationClassAug/{{{n}}}.png\n" for n in range(4)), id="pairs"
        ),
    ],
)
def test_lists_in_other_forms(imported: Import, root: Path, text: str) -> None:
    write_list(root, "train", text.format(*LISTS["train"]))
    assert [r.image_id for r in imported().split("train")] == LISTS["train"][:4]


@pytest.mark.parametrize("suffix", [".jpeg", ".png", ".JPG"])
def test_other_image_endings(imported: Import, root: Path, suffix: str) -> None:
    source = root / "JPEGImages/2007_000002.jpg"
    with Image.open(source) as image:
        source.unlink()
        image.save(root / f"JPEGImages/2007_000002{suffix}")
    record = imported().records[1]
    assert (record.image, record.width) == (f"JPEGImages/2007_000002{suffix}", 33)


def test_turned_image_fits_its_upright_mask(imported: Import, root: Path) -> None:
    path = root / "JPEGImages/2007_000002.jpg"
    with Image.open(path) as image:
        upright = image.copy()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying; a viewer turns it a quarter clockwise
    upright.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    assert (imported().records[1].height, imported().records[1].width) == (24, 33)


def test_mask_may_be_missing_where_nothing_needs_it(imported: Import, root: Path) -> None:
    (root / "SegmentationClass/2008_000004.png").unlink()
    record = imported(labels="xml").records[3]
    assert (record.mask, record.labels) == (None, (2,))


# What is wrong with it


def test_missing_root(problems: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = problems(root="nowhere")
    assert line.startswith("data.root: no folder nowhere (a relative path starts at ") and str(tmp_path) in line


def test_missing_folders(problems: Callable[..., list[str]], root: Path) -> None:
    for path in (root / "Annotations").iterdir():
        path.unlink()
    (root / "Annotations").rmdir()
    lines = problems(masks="SegmentationClasses", labels="xml")
    assert lines == [
        f"{root}/SegmentationClasses: no such folder; it holds the ground-truth masks (data.masks)",
        f"{root}/Annotations: no such folder; it holds the image-level labels (data.labels: xml)",
    ]


def test_unknown_class(problems: Callable[..., list[str]]) -> None:
    (line,) = problems(classes=["cat", "mouse"])
    assert line.startswith("data.classes: mouse not among VOC's classes aeroplane, bicycle")


def test_missing_list(problems: Callable[..., list[str]], root: Path) -> None:
    assert problems(val_list="test") == [
        f"{root}/ImageSets/Segmentation/test.txt: no such list; lists there: official, train, val"
    ]


@pytest.mark.parametrize("name", ["train", "official", "val"])
def test_empty_list(problems: Callable[..., list[str]], root: Path, name: str) -> None:
    write_list(root, name, "\n \r\n")
    assert problems() == [f"{root}/ImageSets/Segmentation/{name}.txt: names no image"]


def test_list_of_other_bytes(problems: Callable[..., list[str]], root: Path) -> None:
    (root / "ImageSets/Segmentation/val.txt").write_bytes(b"2009_\0\xff\xfe\n")
    (line,) = problems()
    assert line.startswith(f"{root}/ImageSets/Segmentation/val.txt: ")


def test_list_of_ids_that_some_computers_do_not_tell_apart(problems: Callable[..., list[str]], root: Path) -> None:
    write_list(root, "val", "2009_x\n2009_X\n2009_000005\n")
    assert problems()[0] == (
        "1 image(s) whose id differs from another's in capital letters only, which are one file on many computers; "
        "rename: 2009_x and 2009_X"
    )


def test_list_of_no_ids(problems: Callable[..., list[str]], root: Path) -> None:
    write_list(root, "val", "2009_000005\n../../x\n.hidden\n2009_000006\n")
    assert problems() == [
        f"{root}/ImageSets/Segmentation/val.txt: 1 line(s) hold no image id and no path: .hidden",
        f"{root}/JPEGImages/x.jpg: no such image file; put it there, or take the image off its list",
        f"{root}/SegmentationClass/x.png: no such mask; scores are taken on this image",
    ]


def test_image_named_twice(problems: Callable[..., list[str]], root: Path) -> None:
    write_list(root, "val", "2009_000005\n2009_000006\n2009_000005\n")
    assert problems() == [f"{root}/ImageSets/Segmentation/val.txt: 1 image(s) named more than once: 2009_000005"]


def test_image_in_both_splits(problems: Callable[..., list[str]], root: Path) -> None:
    write_list(root, "val", "2009_000005\n2007_000001\n")
    assert problems() == ["1 image(s) are in both data.train_list and data.val_list: 2007_000001"]


def test_scored_beyond_train(problems: Callable[..., list[str]], root: Path) -> None:
    write_list(root, "official", "\n".join(["2007_000001", "b", "c", "d", "e"]))
    assert problems() == [
        "4 image(s) of data.score_list official are not in data.train_list train, and seeds exist for training "
        "images only: b, c, d and 1 more"
    ]


def test_missing_image(problems: Callable[..., list[str]], root: Path) -> None:
    (root / "JPEGImages/2007_000002.jpg").unlink()
    assert problems() == [
        f"{root}/JPEGImages/2007_000002.jpg: no such image file; put it there, or take the image off its list"
    ]


@pytest.mark.parametrize("damage", ["truncated", "empty", "no image"])
def test_damaged_image(problems: Callable[..., list[str]], root: Path, damage: str) -> None:
    path = root / "JPEGImages/2009_000006.jpg"
    whole = path.read_bytes()
    path.write_bytes({"truncated": whole[:-100], "empty": b"", "no image": b"text"}[damage])
    (line,) = problems()
    assert line.startswith(f"{path}: unreadable image (")


@pytest.mark.parametrize("image_id", ["2007_000001", "2009_000006"])
def test_missing_mask_of_scored_image(problems: Callable[..., list[str]], root: Path, image_id: str) -> None:
    path = root / f"SegmentationClass/{image_id}.png"
    path.unlink()
    assert problems(labels="xml") == [f"{path}: no such mask; scores are taken on this image"]


def test_missing_mask_that_gives_the_labels(problems: Callable[..., list[str]], root: Path) -> None:
    path = root / "SegmentationClass/2008_000004.png"
    path.unlink()
    assert problems() == [f"{path}: no such mask; its labels come from it (data.labels: masks)"]


def test_mask_of_another_size(problems: Callable[..., list[str]], root: Path) -> None:
    write_mask_array(root, "2007_000002", np.full((33, 24), DOG, np.uint8))
    (line,) = problems()
    assert line.startswith(
        f"{root}/SegmentationClass/2007_000002.png: 24x33 pixels, but its image has 33x24; one of the two"
    )


def test_mask_with_colors(problems: Callable[..., list[str]], root: Path) -> None:
    write_mask_array(root, "2007_000002", np.zeros((24, 33, 3), np.uint8))
    (line,) = problems()
    assert line.startswith(f"{root}/SegmentationClass/2007_000002.png: mode RGB does not hold 8-bit labels")


def test_mask_with_strange_labels(problems: Callable[..., list[str]], root: Path) -> None:
    mask = np.full((24, 33), DOG, np.uint8)
    mask[0, 0], mask[5, 5] = 21, 254
    write_mask_array(root, "2007_000002", mask)
    assert problems() == [
        f"{root}/SegmentationClass/2007_000002.png: label 21, 254 is outside the classes' 0 to 20 and void 255"
    ]


def test_damaged_mask(problems: Callable[..., list[str]], root: Path) -> None:
    path = root / "SegmentationClass/2007_000002.png"
    path.write_bytes(path.read_bytes()[:-40])
    (line,) = problems()
    assert line.startswith(f"{path}: unreadable mask (")


@pytest.mark.parametrize("labels", ["masks", "xml"])
def test_class_without_training_image(problems: Callable[..., list[str]], labels: str) -> None:
    lines = problems(classes=["cat", "sofa", "bird", "cow"], labels=labels)
    assert lines == [
        "class bird: no image of train shows it; take it off data.classes",
        "class cow: no image of train shows it; take it off data.classes",
    ]


def test_class_seen_in_val_only_has_no_training_image(problems: Callable[..., list[str]], root: Path) -> None:
    draw(root, "2009_000006", (28, 28), (CLASSES.index("bird") + 1,))
    assert problems(classes=["cat", "bird"]) == ["class bird: no image of train shows it; take it off data.classes"]


def test_classes_are_not_missed_while_labels_are_unknown(problems: Callable[..., list[str]], root: Path) -> None:
    (root / "SegmentationClass/2007_000003.png").unlink()  # the one with a person
    (line,) = problems()
    assert "no such mask" in line


def test_all_problems_at_once(problems: Callable[..., list[str]], root: Path) -> None:
    write_list(root, "val", "2009_000005\n2009_000006\n2009_000006\nlost\n")
    (root / "JPEGImages/2007_000001.jpg").write_bytes(b"")
    write_mask_array(root, "2007_000001", np.full((9, 9), 77, np.uint8))
    write_mask_array(root, "2007_000002", np.full((9, 9), 77, np.uint8))
    lines = problems(classes=[*KEPT, "cow"])
    assert [line.split(": ")[0].removeprefix(f"{root}/") for line in lines] == [
        "ImageSets/Segmentation/val.txt",
        "JPEGImages/2007_000001.jpg",
        "SegmentationClass/2007_000001.png",
        "SegmentationClass/2007_000002.png",
        "SegmentationClass/2007_000002.png",
        "JPEGImages/lost.jpg",
        "SegmentationClass/lost.png",
        "class cow",
    ]


def test_many_problems_are_counted(problems: Callable[..., list[str]], root: Path) -> None:
    write_list(root, "val", "".join(f"lost{n}\n" for n in range(30)))
    lines = problems()
    assert len(lines) == 21
    assert lines[-1] == "... and 40 more"


@pytest.mark.parametrize("workers", [1, 2])
def test_problems_are_the_same_with_workers(problems: Callable[..., list[str]], root: Path, workers: int) -> None:
    for image_id in LISTS["train"]:
        (root / f"JPEGImages/{image_id}.jpg").unlink()
    lines = problems(workers=workers)
    assert lines == [
        f"{root}/JPEGImages/{image_id}.jpg: no such image file; put it there, or take the image off its list"
        for image_id in LISTS["train"]
    ]


# Labels from annotations


def test_missing_annotation(problems: Callable[..., list[str]], root: Path) -> None:
    path = root / "Annotations/2009_000005.xml"
    path.unlink()
    assert problems(labels="xml") == [
        f"{path}: no such file; data.labels: xml needs one for each image, data.labels: masks does not"
    ]


def test_annotation_with_unknown_names(problems: Callable[..., list[str]], root: Path) -> None:
    path = root / "Annotations/2009_000005.xml"
    path.write_text("<annotation><object><name>cat</name></object><object><name>zebra</name></object></annotation>")
    assert problems(labels="xml") == [
        f"{path}: object 'zebra' is not among VOC's classes; rename or remove it, or set "
        "data.source: folder, which takes classes of your own"
    ]


def test_annotation_without_a_name(problems: Callable[..., list[str]], root: Path) -> None:
    path = root / "Annotations/2009_000005.xml"
    path.write_text("<annotation><object><name>cat</name></object><object/></annotation>")
    assert problems(labels="xml") == [f"{path}: an object has no name; name it, or take it out"]


def test_broken_annotation(problems: Callable[..., list[str]], root: Path) -> None:
    path = root / "Annotations/2009_000005.xml"
    path.write_text("<annotation><object>")
    (line,) = problems(labels="xml")
    assert line.startswith(f"{path}: not a readable XML file (no element found")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entity_bomb_is_refused(problems: Callable[..., list[str]], root: Path, encoding: str) -> None:
    entities = "".join(f'<!ENTITY e{n} "{10 * f"&e{n - 1};"}">' for n in range(1, 40))
    bomb = f'<!DOCTYPE annotation [<!ENTITY e0 "cat">{entities}]><annotation><object>&e39;</object></annotation>'
    path = root / "Annotations/2009_000005.xml"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?>{bomb}', encoding=encoding)
    (line,) = problems(labels="xml")
    assert line.startswith(f"{path}: has a document type")


# Labels from a csv file


def test_csv_without_file(problems: Callable[..., list[str]], root: Path) -> None:
    assert problems(labels="csv", labels_file="none.csv") == [
        f"{root}/none.csv: no such file; put it there, or name another one in data.labels_file"
    ]


def test_csv_that_cannot_be_read(problems: Callable[..., list[str]], root: Path) -> None:
    assert problems(labels="csv", labels_file="JPEGImages") == [
        f"{root}/JPEGImages: is a folder and no file; name a file in it"
    ]


@pytest.mark.parametrize("header", ["id,labels", "Bild,Art", "filename,tags"])
def test_csv_with_another_header(imported: Import, tmp_path: Path, header: str) -> None:
    by_masks = [record.labels for record in imported(folder="masks").records]
    path = write_csv(tmp_path / "labels.csv", names_in_tree(), header)
    assert [record.labels for record in imported(labels="csv", labels_file=str(path)).records] == by_masks


def test_csv_problems_are_told_together(problems: Callable[..., list[str]], tmp_path: Path) -> None:
    names = names_in_tree()
    names["2007_000001"] = ["cat", "zebra", "yak"]
    del names["empty"], names["2009_000005"]
    path = write_csv(tmp_path / "labels.csv", names)
    path.write_text(path.read_text() + "\n2007_000002,cow\n\nx,cat,dog\n")
    assert problems(labels="csv", labels_file=str(path)) == [
        f"{path}, line 9: 3 columns; write image,labels with ; between class names",
        f"{path}, line 7: image 2007_000002 for the second time; take out one line",
        f"{path}, image 2007_000001: yak, zebra not among VOC's classes",
        f"{path}: no line for 2 listed image(s): empty, 2009_000005",
    ]


def test_csv_as_spreadsheets_write_it(imported: Import, tmp_path: Path) -> None:
    names = names_in_tree() | {"not listed": ["cat"]}
    lines = [f'"{image_id}" , " {" ; ".join(names[image_id])} ; "' for image_id in names]
    path = tmp_path / "labels.csv"
    path.write_bytes(("\ufeffimage,labels\r\n" + "\r\n".join(lines)).replace('" , "', '","').encode())
    by_masks = [record.labels for record in imported(folder="masks").records]
    assert [record.labels for record in imported(labels="csv", labels_file=str(path)).records] == by_masks
