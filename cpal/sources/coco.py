"""COCO 2014's layout, annotations/instances_<list>.json and a folder of images for each list -> data set.

COCO's category ids have gaps (1 to 90 for 80 classes); ours have the same order without gaps. A mask is painted in the
order of the annotations: a later annotation covers an earlier one. Pixels that only a crowd region covers are void.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from joblib import delayed
from pycocotools import mask as coco_mask

from cpal.data.dataset import Record, Split, id_problem, write_dataset
from cpal.data.images import read_image
from cpal.data.masks import BACKGROUND, VOID, write_mask
from cpal.errors import UserError
from cpal.files import write_json
from cpal.running.parallel import processes
from cpal.settings.data import DataConfig
from cpal.sources.import_listing import kept, unlearnable
from cpal.sources.instances_json import AnnotatedImage, read_instances
from cpal.sources.labels_and_masks import undrawn
from cpal.sources.listing import ListedImage, Listing, Progress, silent
from cpal.sources.problems import missing_folder, noted, refuse, reserved_names, some, twin_problems
from cpal.sources.read_listed import ImportedImage, labels_of, make_record, read_names

SPLITS: tuple[Split, Split] = ("train", "val")
SHARD = 200  # images that a killed import does again at most, for each worker


def instances_file(root: Path, name: str) -> Path:
    """The JSON of a list, such as train2014."""
    return root / "annotations" / f"instances_{name}.json"


def list_coco(settings: DataConfig, *, limit: int | None = None) -> Listing:
    """The images of both lists with the names of their classes. Masks are drawn from the outlines."""
    return _read(settings, limit=limit)[0]


def import_coco(
    folder: Path,
    shards: Path,
    settings: DataConfig,
    *,
    workers: int,
    limit: int | None = None,
    progress: Progress = silent,
) -> None:
    """Write dataset.json and masks into `folder`. A killed import continues from the finished parts in `shards`.

    Both folders must belong to these settings and these JSON files. Raises UserError that lists all problems.
    """
    listing, annotated, label_of = _read(settings, limit=limit)
    refuse(listing.problems, listing.root)
    work = partial(_import_shard, listing.root, classes=listing.classes, label_of=label_of, folder=folder)
    starts = range(0, len(listing.images), SHARD)
    results = processes(workers)(
        delayed(work)(listing.images[n : n + SHARD], annotated[n : n + SHARD], shard=shards / f"{n:07}.json")
        for n in starts
    )
    each = (one for shard in results for one in shard)
    found: list[ImportedImage] = list(progress(each, total=len(listing.images), what="convert images"))
    problems = [problem for one in found for problem in one.problems]
    if limit is None:
        problems += unlearnable(found, listing)
    refuse(problems, listing.root)
    records = kept(found, drop_unlabeled=settings.without_labels == "drop")
    masks = {record.mask for record in records}
    for path in (folder / "masks").glob("*.png"):
        if f"masks/{path.name}" not in masks:
            path.unlink()
    write_dataset(folder, records, classes=listing.classes, splits=listing.splits, image_root=settings.root)


def _read(settings: DataConfig, *, limit: int | None) -> tuple[Listing, list[AnnotatedImage], dict[int, int]]:
    """The listing, its images' annotations in the same order, and the mask value of each category id."""
    root, problems = Path(settings.root), list[str]()
    splits = settings.splits
    if no_root := missing_folder(root, "set it to the folder that holds annotations/ and the folders of images"):
        return Listing(root, (), settings.classes or (), (), splits, tuple(no_root)), [], {}
    listed: list[ListedImage] = []
    annotated: list[AnnotatedImage] = []
    names: dict[int, str] = {}
    for split in SPLITS:
        with noted(problems):
            path = instances_file(root, splits[split])
            images, categories = read_instances(path, outlines=settings.masks is not None, keep=limit)
            names = names or categories
            if categories != names:
                problems.append(f"the lists {splits['train']} and {splits['val']} name different categories")
            else:
                annotated += images
                listed += [_listed(image, split, root / splits[split], settings, names) for image in images]
    counts = Counter(item.image_id for item in listed)
    if twice := [image_id for image_id, count in counts.items() if count > 1]:
        problems.append(f"{len(twice)} image(s) are listed more than once, or in both lists: {some(twice)}")
    problems += twin_problems(counts)
    known = tuple(names.values())
    classes = settings.classes or known
    if strange := [name for name in classes if names and name not in known]:
        problems.append(f"data.classes: {', '.join(strange)} not among the categories: {', '.join(known)}")
    problems += reserved_names(classes)
    if len(known) >= VOID:
        problems.append(f"{len(known)} categories; masks of 8 bits hold {VOID - 1}")
    if settings.masks is not None and limit is None and not problems:
        outlined = ({names[n] for n in _outlined(image)} for image in annotated)
        shown = ((item.names or frozenset()) & set(classes) for item in listed)
        cure = "segmentation must hold polygons or run lengths; or write data.masks: null"
        problems += undrawn(zip(shown, outlined, strict=True), cure)
    other = VOID if settings.other_classes == "void" else BACKGROUND
    label_of = {number: classes.index(name) + 1 if name in classes else other for number, name in names.items()}
    return Listing(root, tuple(listed), classes, known, splits, tuple(problems)), annotated, label_of


def _outlined(image: AnnotatedImage) -> set[int]:
    """Categories that have a pixel outside crowd regions, which are void."""
    size, codes = [image.height, image.width], [(i.category, i.code) for i in image.instances if i.code and not i.crowd]
    return {category for category, code in codes if coco_mask.area({"size": size, "counts": code})}


def _listed(
    image: AnnotatedImage, split: Split, folder: Path, settings: DataConfig, names: Mapping[int, str]
) -> ListedImage:
    if id_problem(image.file_name):
        raise UserError(
            f"{folder}: file_name {image.file_name!r} in the JSON is no plain name, as COCO's are; rename it there"
        )
    shown = frozenset(names[instance.category] for instance in image.instances)
    image_id, scored = PurePosixPath(image.file_name).stem, settings.masks is not None
    size = image.height, image.width
    return ListedImage(image_id, split, scored, folder / image.file_name, None, shown, size=size)


def _import_shard(
    root: Path,
    images: Sequence[ListedImage],
    annotated: Sequence[AnnotatedImage],
    *,
    classes: Sequence[str],
    label_of: Mapping[int, int],
    folder: Path,
    shard: Path,
) -> list[ImportedImage]:
    """Check the images and write their masks, or read the result of an earlier import of the same files."""
    state = [_state(item.image) for item in images]
    if shard.exists():
        content = json.loads(shard.read_text(encoding="utf-8"))
        if content["state"] == state:
            records = [Record(**record | {"labels": tuple(record["labels"])}) for record in content["records"]]
            return [ImportedImage(record.split, record.labels, record, ()) for record in records]
    found = [
        _import_one(root, item, entry, classes, label_of, folder) for item, entry in zip(images, annotated, strict=True)
    ]
    if all(one.record is not None for one in found):
        write_json(shard, {"state": state, "records": [asdict(one.record) for one in found if one.record]})
    return found


def _state(path: Path) -> list[int]:
    """Size and time of a file, which change with the file; empty if there is no file."""
    try:
        status = path.stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _import_one(
    root: Path,
    item: ListedImage,
    entry: AnnotatedImage,
    classes: Sequence[str],
    label_of: Mapping[int, int],
    folder: Path,
) -> ImportedImage:
    assert item.names is not None, "the JSON names every image's classes"
    labels, size, problems = labels_of(item.names, classes), (entry.height, entry.width), list[str]()
    with noted(problems):
        height, width = read_image(item.image).shape[:2]
        read_names(item, (height, width), classes, problems)
    if problems:
        return ImportedImage(item.split, labels, None, tuple(problems))
    if item.scored:
        write_mask(folder / f"masks/{item.image_id}.png", paint(entry, label_of))
    return ImportedImage(item.split, labels, make_record(item, root, size, labels, masked=item.scored), ())


def paint(image: AnnotatedImage, label_of: Mapping[int, int]) -> np.ndarray:
    """Label map uint8 (H, W): crowd regions are void, and a later object covers an earlier object."""
    mask = np.full((image.height, image.width), BACKGROUND, np.uint8)
    for instance in sorted(image.instances, key=lambda instance: not instance.crowd):
        assert instance.code is not None, "read_instances was asked for outlines"
        inside = coco_mask.decode({"size": [image.height, image.width], "counts": instance.code}).astype(bool)
        label = label_of[instance.category]
        mask[inside] = VOID if instance.crowd and label != BACKGROUND else label
    return mask
