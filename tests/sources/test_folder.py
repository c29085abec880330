"""The folder source on small drawn trees: labels from a table, from class folders and from masks; splits."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from cpal.data.dataset import Dataset, read_dataset
from cpal.data.masks import VOID, read_mask
from cpal.errors import UserError
from cpal.settings.data import DataConfig
from cpal.sources.folder import list_folder, stratified
from cpal.sources.import_listing import import_listing

IMAGES = {
    "a.jpg": "cup",
    "b.PNG": "cup;fork",
    "sub/a.jpg": "fork",
    "sub/deep/c.webp": "",
    "d.jpeg": "cup",
    "e.bmp": "fork",
}
SPLITS = {
    "a.jpg": "train",
    "b.PNG": "train",
    "sub/a.jpg": "train",
    "sub/deep/c.webp": "train",
    "d.jpeg": "val",
    "e.bmp": "x",
}
MASK_VALUES = {"cup": 1, "table": 2, "fork": 3, "mug": 4}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Photographs with a table that tells labels and split, and masks of some of them."""
    root = tmp_path / "mine"
    for file, names in IMAGES.items():
        draw(root / "photos" / file, names.split(";") if names else [], root / "masks" / file)
    (root / "photos/notes.txt").write_text("no image")
    (root / "photos/.hidden.jpg").write_text("no image")
    (root / "masks/a.png").unlink()
    write_table(root, [f"{file},{names},{SPLITS[file]}" for file, names in IMAGES.items()])
    return root


def draw(path: Path, names: list[str], mask_path: Path) -> None:
    mask = np.zeros((20, 24), np.uint8)
    for place, name in enumerate(names):
        mask[2 : 2 + 6, 2 + 9 * place : 9 + 9 * place] = MASK_VALUES[name]
    mask[15, :] = VOID
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(mask[:, :, None] * 40, 3, axis=2)).save(path)
    mask_path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(mask_path.with_suffix(".png"))


def write_table(root: Path, lines: list[str], header: str = "image,labels,split") -> None:
    (root / "labels.csv").write_text("\n".join([header, *lines]))


@pytest.fixture
def data(data_settings: Callable[..., DataConfig], root: Path) -> Callable[..., DataConfig]:
    values = {"source": "folder", "images": "photos", "labels": "csv", "labels_file": "labels.csv", "masks": None}
    return lambda **changes: data_settings(**(values | {"root": str(root)} | changes))


@pytest.fixture
def imported(data: Callable[..., DataConfig], tmp_path: Path) -> Callable[..., Dataset]:
    def run(*, limit: int | None = None, seed: int = 0, **changes: Any) -> Dataset:
        settings = data(**changes)
        import_listing(
            tmp_path / "out",
            list_folder(settings, seed=seed, limit=limit),
            other_classes=settings.other_classes,
            drop_unlabeled=settings.without_labels == "drop",
            complete=limit is None,
            workers=1,
        )
        return read_dataset(tmp_path / "out")

    return run


@pytest.fixture
def problems(imported: Callable[..., Dataset], tmp_path: Path) -> Callable[..., list[str]]:
    def run(**changes: Any) -> list[str]:
        with pytest.raises(UserError) as caught:
            imported(**changes)
        assert not (tmp_path / "out").exists()
        return str(caught.value).split("\n  - ")[1:]

    return run


# A table


def test_table_with_splits_and_no_masks(imported: Callable[..., Dataset], root: Path) -> None:
    dataset = imported()
    assert dataset.classes == ("cup", "fork")
    assert {r.image_id: (r.split, r.labels) for r in dataset.records} == {
        "a": ("train", (1,)),
        "b": ("train", (1, 2)),
        "sub__a": ("train", (2,)),
        "sub__deep__c": ("train", ()),
        "d": ("val", (1,)),
    }
    assert not any(r.scored or r.mask for r in dataset.records)
    assert [dataset.image_path(r) for r in dataset.records][:2] == [root / "photos/a.jpg", root / "photos/b.PNG"]


def test_images_are_named_with_or_without_their_ending(imported: Callable[..., Dataset], root: Path) -> None:
    whole = imported().records
    write_table(root, [f"{Path(file).with_suffix('')},{names},{SPLITS[file]}" for file, names in IMAGES.items()])
    assert imported().records == whole


Form = Literal["NFC", "NFD"]


@pytest.mark.parametrize("ending", ["", ".jpg"])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_written_in_two_forms(
    imported: Callable[..., Dataset], root: Path, ending: str, forms: tuple[Form, Form]
) -> None:
    file, row = (normalize(form, "café") for form in forms)
    draw(root / f"photos/{file}.jpg", [], root / "none.png")
    write_table(root, [f"{row}{ending},cup,train", "d.jpeg,cup,val"])
    assert [r.image_id for r in imported().records] == [file, "d"]


def test_masks_score_the_images_that_have_one(imported: Callable[..., Dataset]) -> None:
    dataset = imported(masks="masks", mask_classes=["cup", "table", "fork"], other_classes="void")
    scored = {r.image_id: r.scored for r in dataset.records}
    assert scored == {"a": False, "b": True, "sub__a": True, "sub__deep__c": True, "d": True}
    mask = read_mask(dataset.mask_path(dataset.records[1]))
    assert mask[4, 4] == 1 and mask[4, 13] == 2 and mask[12, 12] == 0 and mask[15, 0] == VOID


def test_masks_under_other_names(
    problems: Callable[..., list[str]], imported: Callable[..., Dataset], root: Path
) -> None:
    masks = {"masks": "masks", "mask_classes": ["cup", "table", "fork"]}
    for path in (root / "masks").rglob("*.png"):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert problems(**masks) == [
        f"{root / 'masks'}: holds a mask of none of the 6 images; looked for a.png, b.png, d.png and 3 more; there are "
        "b_mask.png, d_mask.png, e_mask.png and 2 more: for 5 of them write data.mask_suffix: _mask"
    ]
    assert [r.image_id for r in imported(**masks, mask_suffix="_mask").records if r.scored] == [
        *("b", "sub__a", "sub__deep__c", "d")
    ]
    (root / "masks/b_mask.png").rename(root / "masks/b.PNG")
    assert [r.image_id for r in imported(**masks).records if r.scored] == ["b"]


@pytest.mark.parametrize(
    ("rename", "there"),
    [
        ("{stem}.jpg.png", "for 5 of them write data.mask_suffix: .jpg"),
        ("{stem}.jpg", "masks end in .png, .tif or .bmp, but these in .jpg; save them as PNG"),
        (
            "mask_{stem}.png",
            "there are mask_b.png, mask_d.png, mask_e.png and 2 more: rename them, or list "
            "each image with its mask in data.train_list and data.val_list",
        ),
        ("{stem}.npy", "no picture lies there"),
    ],
)
def test_what_lies_where_masks_are_looked_for(
    problems: Callable[..., list[str]], root: Path, rename: str, there: str
) -> None:
    for path in (root / "masks").rglob("*.png"):
        path.rename(path.with_name(rename.format(stem=path.stem)))
    (problem,) = problems(masks="masks", mask_classes=["cup", "table", "fork"])
    assert problem.endswith(there)


@pytest.mark.parametrize("ending", [".tif", ".TIFF", ".bmp", ".BMP"])
def test_masks_of_other_formats(imported: Callable[..., Dataset], root: Path, ending: str) -> None:
    before = {path.stem: read_mask(path) for path in (root / "masks").glob("*.png")}
    for path in list((root / "masks").rglob("*.png")):
        Image.open(path).save(path.with_suffix(ending), format={"t": "TIFF", "b": "BMP"}[ending[1].lower()])
        path.unlink()
    dataset = imported(masks="masks", mask_classes=["fork", "table", "cup"], classes=["fork", "cup"])
    records = {record.image_id: record for record in dataset.records}
    assert [name for name, record in records.items() if record.scored] == ["b", "sub__a", "sub__deep__c", "d"]
    expected = np.array([0, 1, 0, 2] + [0] * 251 + [VOID], np.uint8)[before["b"]]
    np.testing.assert_array_equal(read_mask(dataset.mask_path(records["b"])), expected)


def test_masks_beside_their_images(
    imported: Callable[..., Dataset], problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    for n in range(6):
        name = ("cup", "fork")[n % 2]
        draw(tmp_path / f"pets/{name}/{n}.png", [name], tmp_path / f"pets/{name}/{n}_mask.png")
    pets = {"root": str(tmp_path), "images": "pets", "labels": "folders", "labels_file": None}
    masks = {"masks": "pets", "mask_classes": ["cup", "table", "fork"]}
    message = problems(**pets, **masks)[0]
    assert message.startswith(
        f"{tmp_path / 'pets'}: data.masks and data.images are this folder, so that a picture would"
    )
    dataset = imported(**pets, **masks, mask_suffix="_mask")
    assert len(dataset.records) == 6 and all(record.scored for record in dataset.records)


def test_a_picture_is_never_its_own_mask(problems: Callable[..., list[str]], root: Path) -> None:
    """Also not through a link; and masks in a folder inside that of the images are no images."""
    Image.fromarray(np.ones((20, 24), np.uint8)).save(root / "photos/a.png")
    (root / "photos/a.jpg").unlink()
    write_table(root, [f"{file.split('.')[0]},{names},{SPLITS[file]}" for file, names in IMAGES.items()])
    (root / "linked").mkdir()
    (root / "linked/a.png").symlink_to(root / "photos/a.png")
    (message,) = problems(masks="linked", mask_classes=["cup", "fork"])
    assert message.startswith(f"{root / 'linked'}: holds a mask of none of the 6 images; looked for a.PNG")
    assert message.endswith("no picture lies there")


def test_masks_below_the_images_are_no_images(imported: Callable[..., Dataset], tmp_path: Path) -> None:
    for n in range(6):
        name = ("cup", "fork")[n % 2]
        draw(tmp_path / f"pets/{name}/{n}.png", [name], tmp_path / f"pets/masks/{name}/{n}.png")
    pets = {"root": str(tmp_path), "images": "pets", "labels": "folders", "labels_file": None}
    dataset = imported(**pets, masks="pets/masks", mask_classes=["cup", "table", "fork"])
    assert dataset.classes == ("cup", "fork") and all(record.scored for record in dataset.records)


def test_masks_of_images_that_are_not_used(problems: Callable[..., list[str]], root: Path) -> None:
    for path in (root / "masks").rglob("*.png"):
        if path.stem != "e":  # its split is neither list
            path.unlink()
    assert problems(masks="masks", mask_classes=["cup", "fork"]) == [
        f"{root / 'photos'}: none of the 5 images that are used has a mask, so that nothing would be scored; label "
        "images that have one, or write data.masks: null"
    ]


def color_masks(root: Path, colors: dict[int, tuple[int, int, int]]) -> None:
    table = np.zeros((256, 3), np.uint8)
    for value, color in colors.items():
        table[value] = color
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(table[read_mask(path)]).save(path)


def test_masks_of_colors(imported: Callable[..., Dataset], problems: Callable[..., list[str]], root: Path) -> None:
    before = read_mask(root / "masks/b.png")
    color_masks(root, {1: (250, 50, 83), 3: (51, 221, 255), VOID: (1, 2, 3)})
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nfork:51,221,255::\nvoid:1,2,3::\ncup:250,50,83::\n"
    )
    assert problems(masks="masks", mask_classes=["cup", "fork"])[0].endswith(
        "save it as an 8-bit palette PNG, or name the table of its colors in data.mask_colors"
    )
    colors = {"masks": "masks", "mask_colors": "labelmap.txt"}
    assert problems(**colors, mask_classes=["cup", "dog"])[0] == (
        "data.mask_classes or data.classes: dog has no color in labelmap.txt; it has fork, cup"
    )
    assert problems(**colors | {"mask_colors": "gone.txt"})[0].startswith(f"{root / 'gone.txt'}: no such file")
    dataset = imported(**colors)
    records = {record.image_id: record for record in dataset.records}
    assert dataset.classes == ("cup", "fork") and records["b"].scored
    expected = np.array([0, 1, 0, 2] + [0] * 251 + [VOID], np.uint8)[before]
    np.testing.assert_array_equal(read_mask(dataset.mask_path(records["b"])), expected)


def test_labels_of_masks_of_colors(imported: Callable[..., Dataset], root: Path) -> None:
    draw(root / "photos/a.jpg", ["cup"], root / "masks/a.png")
    color_masks(root, {1: (128, 0, 0), 3: (128, 128, 0), VOID: (224, 224, 192)})
    colors = {"masks": "masks", "mask_colors": "voc", "mask_classes": ["cup", "table", "fork"], "labels": "masks"}
    dataset = imported(**colors, labels_file=None)
    assert {r.image_id: r.labels for r in dataset.records} == {
        "a": (1,), "b": (1, 2), "sub__a": (2,), "sub__deep__c": (), "d": (1,), "e": (2,)
    }  # fmt: skip


def test_a_class_of_two_mask_values(imported: Callable[..., Dataset], root: Path) -> None:
    draw(root / "photos/a.jpg", ["mug"], root / "masks/a.jpg")
    values = ["cup", "table", "fork", "cup"]
    dataset = imported(masks="masks", mask_classes=values, labels="masks", labels_file=None, val_share=0.4)
    assert dataset.classes == ("cup", "fork")
    assert {r.image_id: r.labels for r in dataset.records}["a"] == (1,)


def test_kept_classes_and_images_without_them(imported: Callable[..., Dataset]) -> None:
    dataset = imported(classes=["fork"], without_labels="drop")
    assert {r.image_id: (r.split, r.labels) for r in dataset.records} == {
        "b": ("train", (1,)),
        "sub__a": ("train", (1,)),
        "d": ("val", ()),
    }


def test_limit(imported: Callable[..., Dataset]) -> None:
    assert [r.image_id for r in imported(limit=1).records] == ["a", "d"]


def test_what_can_be_wrong_with_a_table(problems: Callable[..., list[str]], root: Path) -> None:
    table, photos = root / "labels.csv", root / "photos"
    write_table(root, ["a.jpg,cup,train", "a,cup,train", "gone.jpg,cup,train", ",cup,val", "../x.jpg,cup,val"])
    assert problems(classes=["cup", "spoon"]) == [
        f"{table}, line 5: names no image; write the name of the image in each row",
        f"{table}: 2 image(s) that are not below {photos}: gone.jpg, ../x.jpg; correct the names, put the images "
        "there, or take these rows out",
        f"{table}: image a.jpg twice, as a.jpg and a; keep one line for it",
        "labels.csv: no image is in the split val (data.val_list); there are: train; let data.val_list name one "
        "of them, in quotes",
        "class spoon: no image of train shows it; take it off data.classes",
    ]
    write_table(root, ["a.jpg,,train", "b.PNG,,val"])
    assert problems() == ["no image has a label; each needs the names of what it shows"]
    write_table(root, ["a.jpg,background,train", "b.PNG,,val"])
    assert problems() == [
        "label background (1 image): if it says that an image shows none of the classes, set data.negatives: "
        '["background"]; if it is a class, set data.negatives: []',
        "no image has a label; each needs the names of what it shows",
    ]
    assert problems(negatives=[]) == [
        "a class is named background, which is what no class covers; leave it away, or rename it"
    ]
    write_table(root, ["a.jpg,Void,train", "b.PNG,Void,val"])
    assert problems() == ["a class is named Void, which is pixels without a label; leave it away, or rename it"]


def test_a_table_without_images(problems: Callable[..., list[str]], root: Path) -> None:
    write_table(root, [])
    for classes in (None, ["cup"]):
        assert problems(classes=classes) == [
            f"data.labels: csv of labels.csv: labels no image below {root / 'photos'}, so that nothing could be learned"
        ]


def test_nothing_to_learn_from_is_left(imported: Callable[..., Dataset], root: Path) -> None:
    write_table(root, ["a.jpg,,train", "b.PNG,cup,train", "d.jpeg,cup,val"])
    with pytest.raises(UserError, match="no training image shows a kept class, and data.without_labels: drop leaves"):
        imported(without_labels="drop", limit=1)


def test_two_images_of_one_id(problems: Callable[..., list[str]], root: Path) -> None:
    draw(root / "photos/a.png", [], root / "masks/a.png")
    draw(root / "photos/sub__a.jpg", [], root / "masks/sub__a.png")
    assert problems()[0] == (
        f"{root / 'photos'}: 4 images share an id with another (it is the path without ending): "
        "a.jpg, a.png, sub/a.jpg and 1 more"
    )


def test_ids_that_some_computers_do_not_tell_apart(problems: Callable[..., list[str]], root: Path) -> None:
    draw(root / "photos/A.png", [], root / "masks/A.png")
    assert (
        "1 image(s) whose id differs from another's in capital letters only, which are one file on many computers; "
        "rename: A and a"
    ) in problems()


def test_a_backslash_in_a_name(problems: Callable[..., list[str]], root: Path) -> None:
    draw(root / "photos/x\\y.png", [], root / "masks/x.png")
    assert problems()[0] == (
        f"{root / 'photos'}: 1 image name(s) with unprintable characters or \\; rename: 'x\\\\y.png'"
    )


def test_ids_too_long_for_the_name_of_a_file(
    problems: Callable[..., list[str]], data: Callable[..., DataConfig], root: Path
) -> None:
    folder = root / "photos" / ("é" * 60)
    draw(folder / f"{'x' * 108}.png", [], root / "none.png")
    assert not list_folder(data(), seed=0).problems
    draw(folder / f"{'x' * 109}.png", [], root / "none.png")
    assert problems()[0].startswith(
        f"{root}/photos: 1 image(s) with an id of more than 230 bytes (it is the whole path"
    )


def test_missing_folders(problems: Callable[..., list[str]], root: Path) -> None:
    assert problems(root=str(root / "no"))[0].startswith(f"data.root: no folder {root / 'no'}; set it to")
    assert problems(images="pictures")[0].startswith(f"{root / 'pictures'}: no such folder; data.images")
    assert problems(masks="truth", mask_classes=["cup"])[0].startswith(f"{root / 'truth'}: no such folder; data.masks")


def test_a_mask_of_another_size(problems: Callable[..., list[str]], root: Path) -> None:
    Image.fromarray(np.zeros((24, 20), np.uint8)).save(root / "masks/b.png")
    assert problems(masks="masks", mask_classes=["cup", "table", "fork"]) == [
        f"{root}/masks/b.png: 20x24 pixels, but its image has 24x20; one of the two was resized or turned"
    ]


def test_classes_that_masks_do_not_name(problems: Callable[..., list[str]]) -> None:
    assert problems(masks="masks", mask_classes=["Cup", "Table", "Fork"]) == [
        "class cup, fork not among data.mask_classes Cup, Table, Fork; its pixels could not be scored: write both "
        "alike, or leave it out by data.classes",
        "no mask has a pixel of cup, which 2 scored image(s) are labeled with; objects must have the values 1, 2, ... "
        "of their classes, and 255 is void",
        "no mask has a pixel of fork, which 2 scored image(s) are labeled with; objects must have the values 1, 2, ... "
        "of their classes, and 255 is void",
    ]


def test_mask_classes_that_begin_with_background(problems: Callable[..., list[str]]) -> None:
    """As in the class lists of VOC's code and of mmseg, where 0 is a class as well."""
    found = problems(masks="masks", mask_classes=["background", "cup", "fork"])
    assert found[0].startswith("data.mask_classes begins with background, but names the values 1, 2, ...: take it out")


def test_mask_values_in_another_order(problems: Callable[..., list[str]], root: Path) -> None:
    """`prepare` refuses what would be scored as other classes."""
    draw(root / "photos/a.jpg", ["cup"], root / "masks/a.png")
    (message,) = problems(masks="masks", mask_classes=["fork", "table", "cup"])
    assert message == (
        "masks show other classes than the labels: cup: 3 images, 1 with cup in the mask, 3 with fork; fork: 2 images, "
        "1 with fork in the mask, 2 with cup: put data.mask_classes in the order cup, table, fork"
    )


def test_masks_of_black_and_white(problems: Callable[..., list[str]], root: Path) -> None:
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(np.where(read_mask(path) == 1, np.uint8(VOID), np.uint8(0))).save(path)
    masks = {"masks": "masks", "mask_classes": ["cup", "fork"]}
    cup, fork = problems(**masks)
    assert cup.startswith("no mask has a pixel of cup, which 2 scored image(s) are labeled with; objects must have")
    assert fork.startswith("no mask has a pixel of fork, which 2 scored image(s) are")
    assert problems(**masks, classes=["cup"]) == [cup]


# Class folders


def test_class_folders(imported: Callable[..., Dataset], problems: Callable[..., list[str]], tmp_path: Path) -> None:
    for n in range(10):
        draw(tmp_path / f"pets/cat/{n}.jpg", [], tmp_path / "none")
        draw(tmp_path / f"pets/dog/litter {n % 2}/{n}.jpg", [], tmp_path / "none")
    pets = {"root": str(tmp_path), "images": "pets", "labels": "folders", "labels_file": None}
    dataset = imported(**pets)
    assert dataset.classes == ("cat", "dog") and len(dataset.records) == 20
    assert all(r.labels == ((1,) if r.image_id.startswith("cat__") else (2,)) for r in dataset.records)
    assert [sum(r.labels == (n,) for r in dataset.split("val")) for n in (1, 2)] == [2, 2]
    draw(tmp_path / "pets/loose.jpg", [], tmp_path / "none")
    for path in tmp_path.glob("out/**/*"):
        path.unlink()
    (tmp_path / "out").rmdir()
    assert problems(**pets)[0].startswith(f"{tmp_path}/pets: 1 image(s) in no sub-folder")


def test_folders_that_are_not_looked_into(
    problems: Callable[..., list[str]], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "photos/sub/fork").symlink_to(tmp_path, target_is_directory=True)
    (root / "photos/.link").symlink_to(tmp_path, target_is_directory=True)
    (root / "photos/closed").mkdir()
    scandir = os.scandir

    def closed(path: str) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    assert problems() == [
        f"{root}/photos/closed: Permission denied; its images cannot be found",
        f"{root}/photos: 1 link(s) to folders, behind which DVC sees no change; put the folders there, or begin the "
        f"links' names with a dot: {root}/photos/sub/fork",
    ]


def test_labels_of_a_coco_file(imported: Callable[..., Dataset], root: Path) -> None:
    whole = {r.image_id: r.labels for r in imported().records}
    files = {n: file for n, file in enumerate(IMAGES)}
    content = {
        "images": [{"id": n, "file_name": file, "width": 1, "height": 1} for n, file in files.items()],
        "annotations": [
            {"image_id": n, "category_id": {"cup": 5, "fork": 9}[name]}
            for n, file in files.items()
            for name in filter(None, IMAGES[file].split(";"))
        ],
        "categories": [{"id": 9, "name": "fork"}, {"id": 5, "name": "cup"}],
    }
    (root / "labels.json").write_text(json.dumps(content))
    found = {r.image_id: r.labels for r in imported(labels="coco", labels_file="labels.json").records}
    assert found == whole | {"e": (2,)}, "without a column split all images are used"


# The split


def random_names(rng: np.random.Generator) -> dict[str, frozenset[str]]:
    shares = {"common": 0.7, "half": 0.5, "some": 0.2, "rare": 0.03}
    return {f"{n:03}": frozenset(c for c, share in shares.items() if rng.random() < share) for n in range(200)}


@pytest.mark.parametrize("seed", range(5))
def test_each_class_has_its_share(seed: int) -> None:
    names = random_names(np.random.default_rng(seed))
    parts = stratified(names, 0.25, seed)
    assert sorted(parts["train"] + parts["val"]) == sorted(names)
    assert abs(len(parts["val"]) - 50) <= 8
    for name in ("common", "half", "some", "rare"):
        total = sum(name in classes for classes in names.values())
        held = sum(name in names[file] for file in parts["val"])
        assert held < total and abs(held - 0.25 * total) <= max(2, 0.06 * total), name


def test_the_split_depends_on_the_seed_alone() -> None:
    names = random_names(np.random.default_rng(0))
    backwards = dict(reversed(names.items()))
    assert stratified(names, 0.2, 1) == stratified(backwards, 0.2, 1) != stratified(names, 0.2, 2)


def test_most_images_stay_on_their_side_when_others_are_added() -> None:
    """Without a column `split`, a data set that grows by a quarter is still the same data set."""
    names = random_names(np.random.default_rng(0))
    first = dict(list(names.items())[:160])
    before, after = (set(stratified(all_, 0.2, 0)["val"]) for all_ in (first, names))
    stayed = before & after
    assert len(stayed) >= 0.8 * len(before) and len((after & set(first)) - before) <= 0.1 * len(before)


def test_a_lone_image_stays_for_training() -> None:
    parts = stratified({"a": frozenset({"x"}), "b": frozenset({"y"}), "c": frozenset()}, 0.9, 0)
    assert parts == {"train": ["a", "b", "c"], "val": []}
