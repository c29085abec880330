"""COCO's instances JSON: polygons, and compressed run lengths for parts with holes. Category ids are the mask values.

Format: https://cocodataset.org/#format-data, with the folders of CVAT and Datumaro.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cpal.errors import UserError
from cpal.exports.items import Counts, Item, Options, copy_picture
from cpal.exports.regions import Region
from cpal.exports.shapes import DrawnImage, RunLengths
from cpal.files import write_json

FILE = "annotations/instances_default.json"


def write(folder: Path, items: Iterable[Item], classes: tuple[str, ...], options: Options) -> Counts:
    """Write annotations/instances_default.json and, if options.pictures, images/default/."""
    counts = Counts()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for item in items:
        found = options.find(item, classes)
        counts.add(found)
        height, width = item.size
        images.append({"id": len(images) + 1, "file_name": item.file_name, "width": width, "height": height})
        for region in found.regions:
            score = item.confidence.get(region.class_id)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": len(images), "category_id": region.class_id}
                | _outline(region, item.size)
                | {"area": region.area, "bbox": list(region.box), "iscrowd": 0}
                | ({} if score is None else {"score": round(score, 4)})
            )
        if options.pictures:
            copy_picture(item, folder / "images/default")
    categories = [{"id": n, "name": name, "supercategory": ""} for n, name in enumerate(classes, start=1)]
    write_json(folder / FILE, {"images": images, "annotations": annotations, "categories": categories})
    return counts


def _outline(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    if not region.holes:
        return {"segmentation": [region.outline.round(2).ravel().tolist()]}
    from pycocotools import mask as coco_mask

    whole = np.zeros(size, np.uint8, order="F")
    left, top, width, height = region.box
    whole[top : top + height, left : left + width] = region.pixels
    return {"segmentation": {"size": list(size), "counts": coco_mask.encode(whole)["counts"].decode("ascii")}}


def read(path: Path) -> Iterator[DrawnImage]:
    """The images of an instances JSON file; a folder must have only one JSON file.

    Raises UserError for a damaged file, and for a file whose annotations are boxes without outlines.
    """
    from pycocotools import mask as coco_mask

    from cpal.sources.instances_json import read_instances

    file = find_file(path, ".json")
    images, names = read_instances(file, outlines=True)
    codes = [
        {"size": [image.height, image.width], "counts": instance.code}
        for image in images
        for instance in image.instances
    ]
    if codes and not np.any(coco_mask.area(codes)):
        raise UserError(f"{file}: none of its {len(codes)} annotations has an outline; export masks, and no boxes")
    for image in images:
        shapes = [RunLengths(names[instance.category], instance.code or b"") for instance in image.instances]
        yield DrawnImage(image.file_name, (image.height, image.width), shapes, f"{file}: image {image.file_name}")


def find_file(path: Path, ending: str) -> Path:
    """The path itself, or the only file with this ending below a folder.

    Raises UserError if the folder has no such file, or several.
    """
    if not path.is_dir():
        return path
    files = sorted(file for file in path.rglob(f"*{ending}") if not file.name.startswith("."))
    if len(files) != 1:
        if not files and (packed := sorted(path.glob("*.zip"))):
            raise UserError(f"{path}: holds {packed[0].name}; unpack it, and name the folder of its files")
        several = f"{len(files)} files" if files else "no file"
        raise UserError(f"{path}: holds {several} *{ending}; name the file of the annotations")
    return files[0]
