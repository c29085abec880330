"""Share of equal pixels, and mIoU, when other programs read exports of stages.export_masks; needs no cpal.

DIR holds exports of the same masks: DIR/png, which is the reference, and one folder for each other format, such as
DIR/coco. Run it in its own environment, because datumaro needs other package versions than this project:

    python3 -m venv /tmp/readers
    /tmp/readers/bin/pip install datumaro opencv-python-headless pycocotools
    /tmp/readers/bin/pip install --no-deps label-studio-converter
    /tmp/readers/bin/python benchmarks/read_exports.py DIR
"""

import argparse
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

VOID = 255
DATUMARO = {"coco": "coco_instances", "cvat": "cvat", "voc": "voc_segmentation"}
Shape = tuple[str, np.ndarray]  # class name, and its pixels bool (H, W)


def pixels_inside(points: Any, size: tuple[int, ...]) -> np.ndarray:
    flat = np.asarray(points, float).ravel().tolist()
    return coco_mask.decode(coco_mask.frPyObjects([flat], *size))[..., 0] > 0


def by_datumaro(folder: Path, name: str) -> Iterator[tuple[str, list[Shape]]]:
    """Read with datumaro; pycocotools draws the polygons in the order of their z_order."""
    import datumaro

    dataset = datumaro.Dataset.import_from(str(folder), DATUMARO[name])
    labels = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
    for item in dataset:
        shapes = []
        size = item.media.size
        for annotation in sorted(item.annotations, key=lambda each: each.z_order):
            if isinstance(annotation, datumaro.Polygon):
                shapes.append((labels[annotation.label], pixels_inside(annotation.points, size)))
            elif hasattr(annotation, "image"):
                shapes.append((labels[annotation.label], np.asarray(annotation.image) > 0))
        yield item.id, shapes


def by_ultralytics_rule(folder: Path, sizes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, list[Shape]]]:
    """Read as Ultralytics does: truncate points to integers, and fill the polygon with its border by OpenCV."""
    lines = (folder / "data.yaml").read_text(encoding="utf-8").partition("names:\n")[2].splitlines()
    names = [json.loads(line.partition(": ")[2]) for line in lines]
    for image_id, size in sizes.items():
        shapes = []
        for line in (folder / "labels/train" / f"{image_id}.txt").read_text(encoding="utf-8").splitlines():
            values = np.array(line.split(), float)
            mask = np.zeros(size, np.uint8)
            cv2.fillPoly(mask, [(values[1:].reshape(-1, 2) * size[::-1]).astype(np.int32)], 1)
            shapes.append((names[int(values[0])], mask > 0))
        yield image_id, shapes


def by_labelme_rule(folder: Path, sizes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, list[Shape]]]:
    """Read as labelme's own utils do: Pillow draws polygons with their outline."""
    for image_id, size in sizes.items():
        shapes = []
        for shape in json.loads((folder / f"{image_id}.json").read_text(encoding="utf-8"))["shapes"]:
            if shape["shape_type"] == "mask":
                (left, top), (right, bottom) = shape["points"]
                mask = np.zeros(size, bool)
                mask[top : bottom + 1, left : right + 1] = Image.open(io.BytesIO(base64.b64decode(shape["mask"])))
            else:
                picture = Image.new("1", (size[1], size[0]))
                ImageDraw.Draw(picture).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
                mask = np.array(picture)
            shapes.append((shape["label"], mask))
        yield image_id, shapes


def by_label_studio_converter(folder: Path, sizes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, list[Shape]]]:
    """Read with label-studio-converter; pycocotools draws the polygons."""
    from label_studio_converter.brush import decode_rle

    for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8")):
        image_id, shapes = Path(task["data"]["image"]).stem, []
        size = sizes[image_id]
        for result in task["predictions"][0]["result"]:
            value = result["value"]
            if result["type"] == "brushlabels":
                mask = decode_rle(value["rle"]).reshape(*size, 4)[..., 3] > 0
            else:
                mask = pixels_inside(np.array(value["points"]) / 100 * size[::-1], size)
            shapes.append((value[result["type"]][0], mask))
        yield image_id, shapes


def score(
    found: Iterator[tuple[str, list[Shape]]], truth: dict[str, np.ndarray], values: dict[str, int]
) -> tuple[float, float]:
    """Share of equal pixels, and mean IoU of the classes that occur in the truth."""
    counts = np.zeros((256, 256), np.int64)
    for image_id, shapes in found:
        labels = np.zeros(truth[image_id].shape, np.int64)
        for label, mask in shapes:
            labels[mask] = values[label]
        np.add.at(counts, (truth[image_id].astype(np.int64), labels), 1)
    shown = [n for n in range(1, 255) if counts[n].any()]
    iou = [counts[n, n] / (counts[n].sum() + counts[:, n].sum() - counts[n, n]) for n in shown]
    return float(counts.trace() / counts.sum()), float(np.mean(iou))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="DIR", type=Path)
    folder: Path = parser.parse_args().folder
    rows = json.loads((folder / "png/classes.json").read_text(encoding="utf-8"))
    values = {row["name"]: int(n) for n, row in rows.items()} | {"ignored": 0, "void": 0}
    truth = {path.stem: np.array(Image.open(path)) for path in sorted((folder / "png/masks").glob("*.png"))}
    truth = {image_id: np.where(mask == VOID, 0, mask) for image_id, mask in truth.items()}
    sizes = {image_id: mask.shape for image_id, mask in truth.items()}
    for name in ("coco", "cvat", "voc", "yolo", "labelme", "labelstudio"):
        if not (folder / name).is_dir():
            continue
        match name:
            case "yolo":
                found = by_ultralytics_rule(folder / name, sizes)
            case "labelme":
                found = by_labelme_rule(folder / name, sizes)
            case "labelstudio":
                found = by_label_studio_converter(folder / name, sizes)
            case _:
                found = by_datumaro(folder / name, name)
        equal, miou = score(found, truth, values)
        print(f"{name:12} equal pixels {100 * equal:7.3f} %  mIoU {100 * miou:6.2f}")


if __name__ == "__main__":
    main()
