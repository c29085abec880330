"""The COCO source: outlines into masks, labels, damaged files, and an import that goes on where it was killed."""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import cpal.sources.coco as coco
from cpal.data.dataset import Dataset, read_dataset
from cpal.data.masks import VOID, read_mask
from cpal.errors import UserError
from cpal.settings.config import Config
from cpal.settings.data import DataConfig
from cpal.sources.coco import import_coco, list_coco
from cpal.sources.health.health import examine, look_at_all
from cpal.sources.instances_json import read_instances

CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]
SIZES = {1: (30, 20), 2: (24, 24), 3: (16, 28), 4: (20, 20), 5: (22, 18)}  # width, height by image id
TRAIN, VAL = (3, 1, 2), (4, 5)


def square(left: int, top: int, side: int) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths column by column, zeros first, by a plain loop."""
    counts, value = [0], 0
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return counts


def rectangle(number: int, left: int, top: int, right: int, bottom: int) -> dict[str, Any]:
    width, height = SIZES[number]
    mask = np.zeros((height, width), np.uint8)
    mask[top:bottom, left:right] = 1
    return {"size": [height, width], "counts": runs(mask)}


def annotation(image: int, category: int, outline: Any, crowd: int = 0) -> dict[str, Any]:
    return {"id": 7, "image_id": image, "category_id": category, "segmentation": outline, "iscrowd": crowd}


ANNOTATIONS = [
    annotation(1, 1, [square(2, 2, 10)]),
    annotation(1, 90, [square(6, 6, 10)]),
    annotation(3, 13, rectangle(3, 1, 1, 9, 9)),
    annotation(3, 1, rectangle(3, 4, 4, 14, 20), crowd=1),
    annotation(4, 90, [square(1, 1, 5), square(10, 10, 6), [1, 1, 2, 2]]),
]


def instances(numbers: tuple[int, ...]) -> dict[str, Any]:
    return {
        "info": {"year": 2014},
        "images": [
            {"id": n, "file_name": f"COCO_{n:012}.jpg", "width": SIZES[n][0], "height": SIZES[n][1]} for n in numbers
        ],
        "annotations": [copy.deepcopy(entry) for entry in ANNOTATIONS if entry["image_id"] in numbers],
        "categories": CATEGORIES,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "coco"
    for name, numbers in {"train2014": TRAIN, "val2014": VAL}.items():
        (root / name).mkdir(parents=True)
        for number in numbers:
            Image.new("RGB", SIZES[number], (9 * number, 99, 0)).save(root / name / f"COCO_{number:012}.jpg")
        write_json(root, name, instances(numbers))
    return root


def write_json(root: Path, name: str, content: Any) -> None:
    (root / "annotations").mkdir(exist_ok=True)
    (root / f"annotations/instances_{name}.json").write_text(json.dumps(content))


SETTINGS = {
    "source": "coco2014",
    "labels": "coco",
    "masks": "annotations",
    "train_list": "train2014",
    "score_list": "train2014",
    "val_list": "val2014",
}


@pytest.fixture
def data(data_settings: Callable[..., DataConfig], root: Path) -> Callable[..., DataConfig]:
    return lambda **changes: data_settings(**(SETTINGS | {"root": str(root)} | changes))


@pytest.fixture
def imported(data: Callable[..., DataConfig], tmp_path: Path) -> Callable[..., Dataset]:
    def run(*, limit: int | None = None, workers: int = 1, out: str = "out", **changes: Any) -> Dataset:
        folder = tmp_path / out
        import_coco(folder / "dataset", folder / "shards", data(**changes), workers=workers, limit=limit)
        return read_dataset(folder / "dataset")

    return run


@pytest.fixture
def problems(imported: Callable[..., Dataset]) -> Callable[..., list[str]]:
    def run(**changes: Any) -> list[str]:
        with pytest.raises(UserError) as caught:
            imported(**changes)
        return str(caught.value).split("\n  - ")[1:]

    return run


def mask_of(dataset: Dataset, number: int) -> np.ndarray:
    record = next(r for r in dataset.records if int(r.image_id.split("_")[1]) == number)
    return read_mask(dataset.mask_path(record))


# What is read


def test_ids_without_gaps_and_labels(imported: Callable[..., Dataset]) -> None:
    dataset = imported(classes=None)
    assert dataset.classes == ("person", "stop sign", "toothbrush")
    assert [(r.image_id, r.split, r.scored, r.labels) for r in dataset.records] == [
        ("COCO_000000000003", "train", True, (1, 2)),
        ("COCO_000000000001", "train", True, (1, 3)),
        ("COCO_000000000002", "train", True, ()),
        ("COCO_000000000004", "val", True, (3,)),
        ("COCO_000000000005", "val", True, ()),
    ]
    assert [(r.width, r.height) for r in dataset.records] == [SIZES[n] for n in (*TRAIN, *VAL)]
    assert dataset.image_path(dataset.records[0]).exists()


def test_masks(imported: Callable[..., Dataset]) -> None:
    dataset = imported()
    expected = np.zeros((20, 30), np.uint8)
    expected[2:12, 2:12] = 1
    expected[6:16, 6:16] = 3  # later over earlier
    np.testing.assert_array_equal(mask_of(dataset, 1), expected)
    expected = np.zeros((28, 16), np.uint8)
    expected[4:20, 4:14] = VOID  # a crowd, below the objects
    expected[1:9, 1:9] = 2
    np.testing.assert_array_equal(mask_of(dataset, 3), expected)
    expected = np.zeros((20, 20), np.uint8)
    expected[1:6, 1:6] = expected[10:16, 10:16] = 3
    np.testing.assert_array_equal(mask_of(dataset, 4), expected)
    assert not mask_of(dataset, 2).any()


@pytest.mark.parametrize("other, value", [("background", 0), ("void", VOID)])
def test_other_classes(imported: Callable[..., Dataset], other: str, value: int) -> None:
    dataset = imported(classes=["stop sign", "person"], other_classes=other)
    mask = mask_of(dataset, 1)
    assert mask[3, 3] == 2 and mask[8, 8] == value and mask[15, 15] == value
    assert mask_of(dataset, 3)[2, 2] == 1


def test_lists_with_and_without_images_that_have_no_label(imported: Callable[..., Dataset], tmp_path: Path) -> None:
    assert len(imported().records) == 5
    dataset = imported(without_labels="drop", out="dropped")
    assert [int(r.image_id[-1]) for r in dataset.records] == [3, 1, 4, 5]
    assert len(list((tmp_path / "dropped/dataset/masks").iterdir())) == 4


def test_without_masks(imported: Callable[..., Dataset], tmp_path: Path) -> None:
    dataset = imported(masks=None)
    assert not any(r.scored or r.mask for r in dataset.records)
    assert [r.labels for r in dataset.records][:2] == [(1, 2), (1, 3)]
    assert not (tmp_path / "out/dataset/masks").exists()


def test_limit_and_listing(imported: Callable[..., Dataset], data: Callable[..., DataConfig]) -> None:
    assert [int(r.image_id[-1]) for r in imported(limit=1).records] == [3, 4]
    listing = list_coco(data())
    assert listing.images[1].names == frozenset({"person", "toothbrush"}) and listing.images[1].image.exists()


def test_the_health_check_finds_nothing_wrong(data: Callable[..., DataConfig], settings: Callable[..., Config]) -> None:
    """Its masks are made from the outlines, so that none is missing."""
    listing = list_coco(data())
    seen = look_at_all(listing, workers=1)
    health = examine(listing, seen, settings())
    assert [one.labels for one in seen][:2] == [frozenset({"person", other}) for other in ("stop sign", "toothbrush")]
    assert [finding for finding in health.findings if finding.severity == "error"] == []


def test_the_health_check_finds_what_the_import_refuses(
    data: Callable[..., DataConfig], settings: Callable[..., Config], root: Path
) -> None:
    for number in (1, 3):
        Image.new("RGB", (5, 6)).save(root / f"train2014/COCO_{number:012}.jpg")
    listing = list_coco(data())
    (error,) = [f for f in examine(listing, look_at_all(listing, workers=1), settings()).findings if f.kind == "labels"]
    assert error.names == ("COCO_000000000003", "COCO_000000000001")
    assert error.text.endswith("2, the first is COCO_000000000003.jpg: 5x6 pixels, but the JSON says 16x28")
    write_json(root, "train2014", instances(TRAIN) | {"annotations": [annotation(3, 1, None)]})
    what = "segmentation is neither polygons nor run lengths of its image's size"
    assert list_coco(data()).problems[0].endswith(f"{what}; {CURE}")
    assert not list_coco(data(masks=None)).problems, "outlines are for masks alone"


def test_polygons_against_pycocotools(tmp_path: Path, root: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [[rng.uniform(0, 30, 2 * rng.integers(3, 12)).round(2).tolist() for _ in range(2)] for _ in range(30)]
    content = instances((1,))
    content["annotations"] = [annotation(1, 1, polygons) for polygons in shapes]
    write_json(root, "shapes", content)
    images, _ = read_instances(root / "annotations/instances_shapes.json", outlines=True)
    for polygons, instance in zip(shapes, images[0].instances, strict=True):
        expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 30)))
        np.testing.assert_array_equal(coco_mask.decode({"size": [20, 30], "counts": instance.code}), expected)


def test_run_lengths_in_both_forms(root: Path) -> None:
    rng = np.random.default_rng(0)
    masks = [np.asfortranarray(rng.random((20, 30)) < share, np.uint8) for share in (0, 0.01, 0.3, 0.9, 1)]
    content = instances((1,))
    for mask in masks:
        text = coco_mask.encode(mask)["counts"].decode()
        for counts in (text, runs(mask)):
            content["annotations"].append(annotation(1, 1, {"size": [20, 30], "counts": counts}))
    write_json(root, "shapes", content)
    images, _ = read_instances(root / "annotations/instances_shapes.json", outlines=True)
    codes = [instance.code for instance in images[0].instances[2:]]
    for n, mask in enumerate(masks):
        for code in codes[2 * n : 2 * n + 2]:
            np.testing.assert_array_equal(coco_mask.decode({"size": [20, 30], "counts": code}), mask)


def test_real_masks_come_back(data_settings: Callable[..., DataConfig], tmp_path: Path) -> None:
    """Masks of real photographs, turned into a JSON with COCO's own ids, come back to the byte."""
    real = Path(os.environ.get("CPAL_TEST_DATA", "")) / "coco_mini"
    if not real.is_dir():
        pytest.skip("CPAL_TEST_DATA names no folder that holds coco_mini")
    ids = [n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
    lists: dict[str, list[Path]] = {"train2014": [], "val2014": []}
    for n, path in enumerate(sorted((real / "JPEGImages").iterdir())):
        lists["val2014" if n % 4 == 3 else "train2014"].append(path)
    shown = set[int]()
    for name, paths in lists.items():
        content: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        (tmp_path / name).mkdir()
        for number, path in enumerate(paths):
            mask = read_mask(real / f"SegmentationClassCOCO/{path.stem}.png")
            (tmp_path / name / path.name).symlink_to(path)
            content["images"].append(
                {"id": number, "file_name": path.name, "width": mask.shape[1], "height": mask.shape[0]}
            )
            for value in np.unique(mask)[1:].tolist():
                counts = runs((mask == value).astype(np.uint8))
                crowd, category = int(value == VOID), 1 if value == VOID else ids[value - 1]
                outline = {"size": list(mask.shape), "counts": counts}
                content["annotations"].append(annotation(number, category, outline, crowd))
                if name == "train2014":
                    shown.add(category)
        content["categories"] = [{"id": n, "name": f"class {n}"} for n in ids]
        write_json(tmp_path, name, content)
    kept = [f"class {n}" for n in ids if n in shown]
    config = data_settings(**SETTINGS, root=str(tmp_path), classes=kept, other_classes="void")
    import_coco(tmp_path / "out", tmp_path / "shards", config, workers=2)
    dataset = read_dataset(tmp_path / "out")
    ours = np.full(256, VOID, np.uint8)
    ours[0] = 0
    for value, n in enumerate(ids, 1):
        if n in shown:
            ours[value] = kept.index(f"class {n}") + 1
    assert len(dataset.records) == 128
    for record in dataset.records:
        mask = read_mask(real / f"SegmentationClassCOCO/{record.image_id}.png")
        np.testing.assert_array_equal(read_mask(dataset.mask_path(record)), ours[mask])


# A killed import


def test_goes_on_after_a_kill(
    imported: Callable[..., Dataset], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = imported(out="whole")
    monkeypatch.setattr(coco, "SHARD", 1)
    paint, painted = coco.paint, list[str]()

    def killed(image: Any, label_of: Any) -> np.ndarray:
        painted.append(image.file_name)
        if len(painted) == 4:
            raise KeyboardInterrupt
        return paint(image, label_of)

    monkeypatch.setattr(coco, "paint", killed)
    with pytest.raises(KeyboardInterrupt):
        imported()
    assert not (tmp_path / "out/dataset/dataset.json").exists()
    changed = root / "train2014" / painted[1]
    os.utime(changed, ns=(1, 1))
    assert imported().records == whole.records
    assert painted[4:] == [painted[1], *painted[3:4], "COCO_000000000005.jpg"]
    assert {p.name: p.read_bytes() for p in (tmp_path / "out/dataset").rglob("*.*")} == {
        p.name: p.read_bytes() for p in (tmp_path / "whole/dataset").rglob("*.*")
    }


def test_workers_change_nothing(imported: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    assert imported(workers=2, out="two").records == imported().records


# What can be wrong

CURE = "correct the file, or export it again"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": []}, "lists no images; it should be an instances JSON of COCO's form"),
        ({"images": [3]}, "images holds '3', which is no object"),
        ({"categories": []}, "lists no categories; it should be an instances JSON of COCO's form"),
        ({"categories": [{"id": 1, "name": "a"}] * 2}, "category 1: name 'a' or id is missing or there twice"),
        ({"annotations": [annotation(9, 1, [])]}, "annotation 7 of image 9: no such image in the file"),
        ({"annotations": [annotation(3, 5, [])]}, "annotation 7 of image 3: no category 5 in the file"),
        ({"annotations": [{"id": 7, "image_id": "3"}]}, "annotation 7: image_id '3' is no whole number"),
    ],
)
def test_wrong_entries(problems: Callable[..., list[str]], root: Path, change: dict[str, Any], message: str) -> None:
    write_json(root, "train2014", instances(TRAIN) | change)
    assert problems()[0] == f"{root}/annotations/instances_train2014.json: {message}; {CURE}"


@pytest.mark.parametrize(
    "outline, message",
    [
        (None, "segmentation is neither polygons nor run lengths of its image's size"),
        ({"size": [16, 28], "counts": [448]}, "segmentation is neither polygons nor run lengths of its image's size"),
        ({"size": [28, 16], "counts": [447]}, "run lengths cover 447 pixels of 16x28"),
        ({"size": [28, 16], "counts": [-1, 449]}, "run lengths must be whole numbers from 0"),
        ({"size": [28, 16], "counts": [448.0]}, "run lengths must be whole numbers from 0"),
        ({"size": [28, 16], "counts": "o"}, "run lengths end in the middle"),
        ({"size": [28, 16], "counts": " "}, "run lengths hold ' ', which is not COCO's text form"),
        ({"size": [28, 16], "counts": "ooooooooooooo"}, "run lengths hold 'o', which is not COCO's text form"),
        ([[1, 2, 3]], "a polygon must be a list of x, y, x, y, ..."),
        ([["1", 2, 3, 4, 5, 6]], "a polygon must be a list of x, y, x, y, ..."),
        ([[1, 2, 3, 4, 5, 600]], "a polygon has a point at 600, far outside of 16x28 pixels"),
        ([[1e300, 2, 3, 4, 5, 6]], "a polygon has a point at 1e+300, far outside of 16x28 pixels"),
    ],
)
def test_wrong_outlines(problems: Callable[..., list[str]], root: Path, outline: Any, message: str) -> None:
    write_json(root, "train2014", instances(TRAIN) | {"annotations": [annotation(3, 1, outline)]})
    assert problems()[0] == f"{root}/annotations/instances_train2014.json: annotation 7 of image 3: {message}; {CURE}"


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/passwd", "a/b.jpg", ".jpg", "", "a\nb.jpg", None, "a\\b.jpg"])
def test_names_that_are_no_file_names(problems: Callable[..., list[str]], root: Path, name: Any) -> None:
    content = instances(TRAIN)
    content["images"][0]["file_name"] = name
    write_json(root, "train2014", content)
    assert repr(name) in problems()[0]


def test_a_byte_order_mark_is_passed_over(imported: Callable[..., Dataset], root: Path) -> None:
    path = root / "annotations/instances_train2014.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert len(imported().records) == 5


def test_damaged_json(problems: Callable[..., list[str]], root: Path) -> None:
    path = root / "annotations/instances_train2014.json"
    path.write_text(path.read_text()[:-30])
    assert problems()[0].startswith(f"{path}: damaged, or no JSON (")
    path.unlink()
    assert problems()[0] == (f"{path}: no such file; put it there, or name another one in the settings, section data")


def test_wrong_images_are_told_together(problems: Callable[..., list[str]], root: Path) -> None:
    (root / "train2014/COCO_000000000001.jpg").unlink()
    Image.new("RGB", (5, 6)).save(root / "train2014/COCO_000000000003.jpg")
    assert problems() == [
        f"{root}/train2014/COCO_000000000003.jpg: 5x6 pixels, but the JSON says 16x28",
        f"{root}/train2014/COCO_000000000001.jpg: no such image file; put it there, or take the image off its list",
    ]


def test_lists_that_overlap(problems: Callable[..., list[str]], root: Path) -> None:
    write_json(root, "val2014", instances((4, 1)))
    assert problems() == ["1 image(s) are listed more than once, or in both lists: COCO_000000000001"]


def test_outlines_that_enclose_nothing(problems: Callable[..., list[str]], root: Path) -> None:
    for name, numbers in {"train2014": TRAIN, "val2014": VAL}.items():
        content = instances(numbers)
        for entry in content["annotations"]:
            if entry["category_id"] == 90:
                entry["segmentation"] = []
        write_json(root, name, content)
    assert problems() == [
        "no mask has a pixel of toothbrush, which 2 scored image(s) are labeled with; segmentation must hold polygons "
        "or run lengths; or write data.masks: null"
    ]


def test_classes_nobody_shows(problems: Callable[..., list[str]]) -> None:
    assert problems(classes=["person", "zebra"])[0].startswith("data.classes: zebra not among the categories: person")
