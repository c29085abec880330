"""Every format is read back by a reader that is not ours, and by ours.

COCO: pycocotools. VOC, PNG: Pillow. YOLO: cv2.fillPoly of whole numbers, as Ultralytics reads its labels. CVAT,
labelme and Label Studio: a reader written here from their documentation, with matplotlib for the pixels inside.
"""

import base64
import contextlib
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image
from pycocotools.coco import COCO
from ruamel.yaml import YAML
from test_regions import random_map

from cpal.data.dataset import Dataset, Record, read_dataset, write_dataset
from cpal.data.masks import VOID, write_mask
from cpal.errors import UserError
from cpal.exports.corrected import Corrections
from cpal.exports.dispatch import Format, read_drawn, write_export
from cpal.exports.items import Item, Options

CLASSES = ("cow", "Köter & <Katze>", "羊")
IDS = ("a", "kühe 2024", "照片", "dotted.name.v2", "empty", "one pixel", "all void", "disc")
Read = Callable[[Path, dict[str, np.ndarray]], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def truth() -> dict[str, np.ndarray]:
    """Label maps by id."""
    rng = np.random.default_rng(3)
    maps = {
        name: random_map(rng, size) for name, size in zip(IDS, [(40, 33), (31, 50), (25, 25), (12, 61)], strict=False)
    }
    maps |= {"empty": np.zeros((9, 14), np.uint8), "one pixel": np.zeros((6, 5), np.uint8)}
    maps |= {"all void": np.full((8, 8), VOID, np.uint8), "disc": np.zeros((90, 120), np.uint8)}
    maps["one pixel"][5, 4] = 3
    rows, columns = np.indices((90, 120))
    for value, radius in ((1, 42), (2, 25), (0, 12)):
        maps["disc"][np.hypot(rows - 44, columns - 58) < radius] = value
    return maps


@pytest.fixture(scope="module")
def data(truth: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """All images are trained on, and labeled with every class."""
    folder = tmp_path_factory.mktemp("data")
    records = []
    for name, labels in truth.items():
        path = folder / "images" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", labels.shape[::-1]).save(path)
        write_mask(folder / "pseudo" / f"{name}.png", labels)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        image, (height, width) = f"images/{name}.png", labels.shape
        records.append(Record(name, "train", False, image, width, height, (1, 2, 3), None, digest))
    write_dataset(folder, records, classes=CLASSES, splits={"train": "t", "score": "t", "val": "v"}, image_root=None)
    return read_dataset(folder)


def items_of(data: Dataset) -> list[Item]:
    folder = data.mask_root / "pseudo"
    return [
        Item(record.image_id, data.image_path(record), folder / f"{record.image_id}.png", record.size, {1: 0.75})
        for record in data.records
    ]


def export(data: Dataset, format: Format, out: Path, *, tolerance: float = 0) -> Path:
    write_export(format, out, items_of(data), data.classes, Options(tolerance, 1, pictures=True))
    return out


def inside(points: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    rows, columns = np.indices(size)
    centers = np.stack([columns.ravel() + 0.5, rows.ravel() + 0.5], axis=1)
    return Outline(np.concatenate([points, points[:1]]), closed=True).contains_points(centers).reshape(size)


def pixels(file: Path | io.BytesIO, mode: str | None = None) -> np.ndarray:
    with Image.open(file) as image:
        return np.array(image.convert(mode) if mode else image)


def read_coco(folder: Path, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(folder / "annotations/instances_default.json")
    maps = {}
    for image in coco.dataset["images"]:
        picture = pixels(folder / "images/default" / image["file_name"])
        assert picture.shape[:2] == (image["height"], image["width"])
        labels = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation) > 0
            name = coco.cats[annotation["category_id"]]["name"]
            assert mask.sum() == annotation["area"] or len(annotation["segmentation"]) < 3
            assert annotation.get("score") == (0.75 if name == "cow" else None)
            labels[mask] = CLASSES.index(name) + 1
        maps[image["file_name"].removesuffix(".png")] = labels
    return maps


def read_yolo(folder: Path, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = YAML(typ="safe", pure=True).load((folder / "data.yaml").read_text(encoding="utf-8"))["names"]
    assert tuple(names[n] for n in range(3)) == CLASSES
    maps = {}
    for name, wanted in truth.items():
        assert (folder / "images/train" / f"{name}.png").is_file()
        labels = np.zeros_like(wanted)
        for line in (folder / "labels/train" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            values = np.array(line.split(), float)
            points = values[1:].reshape(-1, 2) * wanted.shape[::-1]
            cv2.fillPoly(labels, [points.astype(np.int32)], int(values[0]) + 1)
        maps[name] = labels
    return maps


def read_cvat(folder: Path, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    assert [node.text for node in root.iterfind("meta/task/labels/label/name")] == list(CLASSES)
    maps = {}
    for image in root.iterfind("image"):
        labels = np.zeros((int(image.attrib["height"]), int(image.attrib["width"])), np.uint8)
        for shape in sorted(image, key=lambda node: int(node.attrib["z_order"])):
            value = CLASSES.index(shape.attrib["label"]) + 1
            if shape.tag == "polygon":
                points = [tuple(map(float, pair.split(","))) for pair in shape.attrib["points"].split(";")]
                labels[inside(np.array(points), labels.shape)] = value
            else:
                left, top, width, height = (int(shape.attrib[key]) for key in ("left", "top", "width", "height"))
                flat: list[bool] = []
                for number, length in enumerate(shape.attrib["rle"].split(",")):
                    flat += [number % 2 == 1] * int(length)
                labels[top : top + height, left : left + width][np.array(flat).reshape(height, width)] = value
        maps[image.attrib["name"].removesuffix(".png")] = labels
    return maps


def brush(content: list[int]) -> np.ndarray:
    """https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack, bit by bit."""
    bits = iter([value >> place & 1 for value in content for place in range(7, -1, -1)])

    def take(number: int) -> int:
        return sum(next(bits) << place for place in range(number - 1, -1, -1))

    total, word, values = take(32), take(5) + 1, list[int]()
    lengths = [take(4) + 1 for _ in range(4)]
    while len(values) < total:
        run, length = take(1), take(lengths[take(2)]) + 1
        values += [take(word)] * length if run else [take(word) for _ in range(length)]
    return np.array(values)


def read_labelstudio(folder: Path, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    interface = ElementTree.parse(folder / "interface.xml").getroot()
    for tag in ("PolygonLabels", "BrushLabels"):
        assert [label.attrib["value"] for label in interface.iterfind(f"{tag}/Label")] == list(CLASSES)
    maps = {}
    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        (path,) = parse_qs(urlsplit(task["data"]["image"]).query)["d"]
        name = path.removeprefix("images/").removesuffix(".png")
        labels = np.zeros_like(truth[name])
        (prediction,) = task["predictions"]
        for result in prediction["result"]:
            assert (result["original_height"], result["original_width"]) == labels.shape
            (label,) = result["value"][result["type"]]
            assert result.get("score") == (0.75 if label == "cow" else None)
            if result["type"] == "brushlabels":
                mask = brush(result["value"]["rle"]).reshape(*labels.shape, 4)[..., 3] == 255
            else:
                mask = inside(np.array(result["value"]["points"]) / 100 * labels.shape[::-1], labels.shape)
            labels[mask] = CLASSES.index(label) + 1
        maps[name] = labels
    return maps


def read_labelme(folder: Path, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    maps = {}
    for name in truth:
        content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        assert (folder / content["imagePath"]).is_file()
        labels = np.zeros((content["imageHeight"], content["imageWidth"]), np.uint8)
        for shape in content["shapes"]:
            value = CLASSES.index(shape["label"]) + 1
            if shape["shape_type"] == "mask":
                (left, top), (right, bottom) = shape["points"]
                mask = pixels(io.BytesIO(base64.b64decode(shape["mask"]))).astype(bool)
                labels[top : bottom + 1, left : right + 1][mask] = value
            else:
                labels[inside(np.array(shape["points"]), labels.shape)] = value
        maps[name] = labels
    return maps


def read_voc(folder: Path, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    assert (folder / "ImageSets/Segmentation/default.txt").read_text(encoding="utf-8").splitlines() == list(truth)
    rows = (line.split(":") for line in (folder / "labelmap.txt").read_text(encoding="utf-8").splitlines()[1:])
    colors = {tuple(map(int, row[1].split(","))): row[0] for row in rows}
    values = {"background": 0, "ignored": VOID} | {name: n for n, name in enumerate(CLASSES, start=1)}
    maps = {}
    for name in truth:
        assert (folder / "JPEGImages" / f"{name}.png").is_file()
        path = folder / "SegmentationClass" / f"{name}.png"
        rgb = pixels(path, "RGB")
        by_color = [[values[colors[tuple(pixel)]] for pixel in row] for row in rgb.tolist()]
        np.testing.assert_array_equal(by_color, pixels(path))
        maps[name] = np.array(by_color, np.uint8)
    return maps


def read_png(folder: Path, truth: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    assert [names[str(n)]["name"] for n in (0, 1, 2, 3, 255)] == ["background", *CLASSES, "void"]
    return {name: pixels(folder / "masks" / f"{name}.png") for name in truth}


READERS: dict[Format, Read] = {
    Format.coco: read_coco,
    Format.yolo: read_yolo,
    Format.cvat: read_cvat,
    Format.labelstudio: read_labelstudio,
    Format.labelme: read_labelme,
    Format.voc: read_voc,
    Format.png: read_png,
}
KEEP_VOID = (Format.voc, Format.png)


def wanted(labels: np.ndarray, format: Format) -> np.ndarray:
    return labels if format in KEEP_VOID else np.where(labels == VOID, 0, labels).astype(np.uint8)


@pytest.mark.parametrize("format", Format)
def test_another_reader_finds_the_same_pixels(
    format: Format, data: Dataset, truth: dict[str, np.ndarray], tmp_path: Path
) -> None:
    found = READERS[format](export(data, format, tmp_path / "out"), truth)
    assert found.keys() == truth.keys()
    for name, labels in truth.items():
        if format == Format.yolo:  # where a cut crosses pixels that touch at corners only
            assert (found[name] == wanted(labels, format)).mean() > 0.99
        else:
            np.testing.assert_array_equal(found[name], wanted(labels, format))


@pytest.mark.parametrize("tolerance", [1, 2])
@pytest.mark.parametrize("format", Format)
def test_another_reader_finds_nearly_the_same_pixels(
    format: Format, data: Dataset, truth: dict[str, np.ndarray], tmp_path: Path, tolerance: int
) -> None:
    """The disc has borders of 500 pixels in 10,800: they differ by no more than the tolerance."""
    found = READERS[format](export(data, format, tmp_path / "out", tolerance=tolerance), truth)
    equal = (found["disc"] == truth["disc"]).mean()
    assert equal > 1 - 0.01 * tolerance


def accepted_annotations(path: Path) -> None:
    """What Label Studio writes when an annotator accepts each prediction."""
    tasks = json.loads(path.read_text(encoding="utf-8"))
    for task in tasks:
        task["annotations"] = [{"was_cancelled": False, "result": task["predictions"][0]["result"]}]
        task["data"]["image"] = "/data/upload/3/0123abcd-" + task["data"]["image"].rpartition("/")[2]
    path.write_text(json.dumps(tasks), encoding="utf-8")


def import_all(data: Dataset, format: Format, path: Path, *, void_unlabeled: bool = False) -> dict[str, np.ndarray]:
    corrections = Corrections(data, void_unlabeled)
    found = [corrections.accept(image) for image in read_drawn(format, path, corrections.sizes)]
    corrections.refuse(path)
    return {pair[0].image_id: pair[1] for pair in found if pair is not None}


@pytest.mark.parametrize(
    ("name", "image_id"),
    [("garden/a.jpg", "garden__a"), ("garden\\a.jpg", "garden__a"), ("garden/a", "garden__a"), ("a", "a")],
)
def test_a_path_means_the_image_in_its_folder(data: Dataset, name: str, image_id: str) -> None:
    first, second = data.records[:2]
    records = (replace(first, image_id="a", image="a.jpg"), replace(second, image_id="garden__a", image="garden/a.jpg"))
    found = Corrections(replace(data, records=records)).find(name)
    assert found is not None and found.image_id == image_id


@pytest.mark.parametrize("format", Format)
def test_round_trip(format: Format, data: Dataset, truth: dict[str, np.ndarray], tmp_path: Path) -> None:
    out = export(data, format, tmp_path / "out")
    if format == Format.labelstudio:
        accepted_annotations(out / "tasks.json")
    found = import_all(data, format, out)
    assert found.keys() == truth.keys()
    for name, labels in truth.items():
        if format == Format.labelstudio and name == "all void":  # nothing is drawn, so that no size is told
            assert not found[name].any()
        np.testing.assert_array_equal(found[name], wanted(labels, format))


FILES = {
    Format.coco: "annotations/instances_default.json",
    Format.yolo: "labels/train/a.txt",
    Format.cvat: "annotations.xml",
    Format.labelstudio: "tasks.json",
    Format.labelme: "a.json",
    Format.voc: "labelmap.txt",
    Format.png: "classes.json",
}


@pytest.mark.parametrize("format", Format)
def test_damaged_files_end_in_a_result_or_in_our_message(format: Format, data: Dataset, tmp_path: Path) -> None:
    out = export(data, format, tmp_path / "out", tolerance=1)
    if format == Format.labelstudio:
        accepted_annotations(out / "tasks.json")
    file, rng = out / FILES[format], np.random.default_rng(0)
    content = file.read_bytes()
    told = 0
    tokens = [b"-1", b"1e999", b"NaN", b"99999999999", b"null", b"[]", b"{}", b'"', b"<", b"\xff", b"<!DOCTYPE a>", b""]
    for _ in range(60):
        place = int(rng.integers(len(content)))
        end = place + int(rng.integers(30))
        file.write_bytes(content[:place] + tokens[int(rng.integers(len(tokens)))] + content[end:])
        try:
            import_all(data, format, out)
        except UserError:
            told += 1
    assert told > 10


@pytest.mark.parametrize(("ending", "options"), [(".jpg", {}), (".tif", {"compression": "tiff_lzw"}), (".png", {})])
def test_a_turned_photograph_is_written_upright(tmp_path: Path, ending: str, options: dict[str, str]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / f"turned{ending}", exif=exif, **options)
    write_mask(tmp_path / "mask.png", np.ones((30, 20), np.uint8))
    item = Item("turned", tmp_path / f"turned{ending}", tmp_path / "mask.png", (30, 20))
    write_export(Format.labelme, tmp_path / "out", [item], CLASSES, Options(0, 1, pictures=True))
    with Image.open(tmp_path / f"out/turned{ending}") as image:
        assert image.size == (20, 30) and image.getexif().get(0x0112, 1) == 1


def test_nothing_is_replaced(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/corrected.json").write_text("{}")
    with pytest.raises(UserError, match="out: is there already"):
        export(data, Format.labelme, tmp_path / "out")
    assert (tmp_path / "out/corrected.json").is_file()


def test_a_mask_that_does_not_fit_leaves_nothing(data: Dataset, tmp_path: Path) -> None:
    bad = Item("a", data.image_path(data.records[0]), data.mask_root / "pseudo/empty.png", (40, 33))
    with pytest.raises(UserError, match=r"empty.png: is of \(9, 14\), but the image is of \(40, 33\)"):
        write_export(Format.coco, tmp_path / "out", [bad], CLASSES, Options(0, 1, pictures=True))
    assert list(tmp_path.iterdir()) == []


# What is wrong in files of tools


def labelme_file(data: Dataset, tmp_path: Path, **changes: object) -> Path:
    """Image a, with one polygon; `changes` of the file, or with `shape_` before of the polygon."""
    shape: dict[str, object] = {"label": "cow", "shape_type": "polygon", "points": [[2, 3], [20, 3], [20, 15]]}
    shape |= {key.removeprefix("shape_"): value for key, value in changes.items() if key.startswith("shape_")}
    content: dict[str, object] = {"imagePath": "a.png", "imageHeight": 40, "imageWidth": 33, "shapes": [shape]}
    content |= {key: value for key, value in changes.items() if not key.startswith("shape_")}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imagePath": "b.png"}, r"the data set has no image b.png; rename or remove it"),
        ({"imagePath": "kuhe 2024.png"}, r"no image kuhe 2024.png \(is it kühe 2024.*\?\)"),
        ({"imageHeight": 33, "imageWidth": 40}, r"of 40 x 33 pixels, but the image is of 33 x 40 \(turned by its EXIF"),
        ({"shape_label": "cows"}, r"has the class 'cows' \(is it cow\?\), but the data set's are cow, .*; rename"),
        ({"shape_shape_type": "line"}, "a line of 'cow' cannot be read; draw it as a polygon"),
        ({"shape_points": [[1, 2, 3]]}, "its points are no list of pairs of numbers"),
        ({"shape_points": [[0, 0], [900, 0], [0, 9]]}, "the outline of 'cow' leaves the image by far"),
        ({"imageHeight": "40"}, "no file of labelme"),
        ({"shapes": None}, "no file of labelme"),
    ],
)
def test_what_is_wrong_is_named(data: Dataset, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_all(data, Format.labelme, labelme_file(data, tmp_path, **changes))


def test_rectangles_void_and_background_can_be_drawn(data: Dataset, tmp_path: Path) -> None:
    shapes = [
        {"label": name, "shape_type": "rectangle", "points": points}
        for name, points in (
            ("cow", [[2, 30], [22, 3]]),
            ("void", [[4, 5], [9, 9]]),
            ("background", [[20, 20], [33, 40]]),
        )
    ]
    labels = import_all(data, Format.labelme, labelme_file(data, tmp_path, shapes=shapes))["a"]
    expected = np.zeros((40, 33), np.uint8)
    expected[3:30, 2:22] = 1
    expected[5:9, 4:9] = VOID
    expected[20:40, 20:33] = 0
    np.testing.assert_array_equal(labels, expected)


def test_boxes_are_no_masks(data: Dataset, tmp_path: Path) -> None:
    coco = export(data, Format.coco, tmp_path / "coco") / "annotations/instances_default.json"
    content = json.loads(coco.read_text(encoding="utf-8"))
    for annotation in content["annotations"]:
        annotation["segmentation"] = []
    coco.write_text(json.dumps(content))
    with pytest.raises(UserError, match="none of its .* annotations has an outline; export masks, and no boxes"):
        import_all(data, Format.coco, coco)
    yolo = export(data, Format.yolo, tmp_path / "yolo")
    (yolo / "labels/train/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(UserError, match="a.txt: line 1: is a box, which says nothing of pixels"):
        import_all(data, Format.yolo, yolo)


def test_predictions_that_nobody_accepted_are_not_corrected(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no annotated training image"):
        import_all(data, Format.labelstudio, export(data, Format.labelstudio, tmp_path / "out"))


def label_studio_task(url: str, results: list[dict[str, object]]) -> list[dict[str, object]]:
    """labelstud.io/guide/task_format: an image of 50 x 31 pixels with one annotation."""
    common = {"original_width": 50, "original_height": 31, "image_rotation": 0, "to_name": "image"}
    return [{"id": 1, "data": {"image": url}, "annotations": [{"result": [common | result for result in results]}]}]


def test_what_label_studio_names_an_upload(data: Dataset, tmp_path: Path) -> None:
    """Blanks become _ and signs are dropped (Django's get_valid_filename). Choices about a region have no pixels."""
    points = {"points": [[10, 10], [60, 10], [60, 80]], "closed": True}
    results: list[dict[str, object]] = [
        {"type": "polygonlabels", "value": points | {"polygonlabels": ["cow"]}},
        {"type": "choices", "value": points | {"choices": ["blurred"]}},
    ]
    (tmp_path / "tasks.json").write_text(
        json.dumps(label_studio_task("/data/upload/1/0a1b2c3d-kühe_2024.png", results))
    )
    found = import_all(data, Format.labelstudio, tmp_path / "tasks.json")
    assert list(found) == ["kühe 2024"] and set(np.unique(found["kühe 2024"])) == {0, 1}


def test_what_label_studio_does_not_tell(data: Dataset, tmp_path: Path) -> None:
    points = {"points": [[10, 10], [60, 10], [60, 80]], "closed": True, "polygonlabels": ["cow"]}
    tasks = label_studio_task("/data/upload/1/0a1b2c3d-a.png", [{"type": "polygonlabels", "value": points}])
    tasks[0]["data"] = {"img": "/data/upload/1/0a1b2c3d-kühe_2024.png"}  # the interface chooses the key
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    assert list(import_all(data, Format.labelstudio, tmp_path / "tasks.json")) == ["kühe 2024"]
    short = {"img": "/data/upload/1/0a1b2c3d-a.png", "id": 1, "label": [points], "annotator": 1, "annotation_id": 1}
    (tmp_path / "tasks.json").write_text(json.dumps([short]))
    with pytest.raises(UserError, match="is JSON-MIN, from which shapes are not read; export it again as JSON"):
        import_all(data, Format.labelstudio, tmp_path / "tasks.json")


@pytest.mark.parametrize("name", ["a_png.rf.0123456789abcdef0123456789abcdef.png", "images/0a1b2c3d-a.png"])
def test_names_of_roboflow_and_label_studio_in_coco(data: Dataset, tmp_path: Path, name: str) -> None:
    """Roboflow's export, and Label Studio's of COCO, which keeps the name of the upload."""
    outline = {
        "category_id": 2,
        "segmentation": [[3, 3, 20, 3, 20, 15]],
        "bbox": [3, 3, 17, 12],
        "area": 102,
        "iscrowd": 0,
    }
    content = {
        "images": [{"id": 1, "file_name": name, "width": 33, "height": 40}],
        "categories": [{"id": 0, "name": "animals"}, {"id": 2, "name": "cow"}],
        "annotations": [{"id": 1, "image_id": 1} | outline],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert set(np.unique(import_all(data, Format.coco, tmp_path / "a.json")["a"])) == {0, 1}


def test_an_archive_is_to_be_unpacked(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "job_1.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"holds job_1.zip; unpack it, and name the folder of its files"):
        import_all(data, Format.cvat, tmp_path)


def test_corners_of_x_anylabeling(data: Dataset, tmp_path: Path) -> None:
    corners = [[2, 3], [20, 3], [20, 15], [2, 15]]
    for kind in ("rectangle", "rotation", None):
        path = labelme_file(data, tmp_path, shape_shape_type=kind, shape_points=corners)
        assert import_all(data, Format.labelme, path)["a"].sum() == 18 * 12


@pytest.mark.parametrize(
    "files",
    [
        {"classes.txt": "", "notes.json": "{}", "labels/0a1b2c3d-a.txt": "1 0.1 0.1 0.8 0.1 0.8 0.9\n"},  # Label Studio
        {
            "obj.names": "",
            "obj.data": "x",
            "train.txt": "x",
            "obj_train_data/a.txt": "1 0.1 0.1 0.8 0.1 0.8 0.9\n",
        },  # CVAT
        {
            "data.yaml": "",
            "README.dataset.txt": "x",
            "train/labels/a_png.rf.0123ab.txt": "1 .1 .1 .8 .1 .8 .9",
        },  # Roboflow
    ],
)
def test_layouts_of_yolo(data: Dataset, tmp_path: Path, files: dict[str, str]) -> None:
    names = "\n".join(CLASSES)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        content = f"names: {json.dumps(CLASSES)}" if name == "data.yaml" else text or names
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert set(np.unique(import_all(data, Format.yolo, tmp_path)["a"])) == {0, 2}


def test_classes_that_the_image_is_not_labeled_with(data: Dataset, tmp_path: Path) -> None:
    records = [Record(**{**vars(record), "labels": (2,)}) for record in data.records]
    less = Dataset(data.classes, data.splits, data.image_root, data.mask_root, tuple(records))
    path = labelme_file(data, tmp_path)
    with pytest.raises(UserError, match="shows cow, which the image is not labeled with; add it .* --void-unlabeled"):
        import_all(less, Format.labelme, path)
    labels = import_all(less, Format.labelme, path, void_unlabeled=True)["a"]
    assert set(np.unique(labels)) == {0, VOID}
