"""A folder laid out like PASCAL VOC -> listing: JPEGImages/, ImageSets/Segmentation/, masks, Annotations/."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cpal.data.dataset import id_problem
from cpal.data.images import ENDINGS
from cpal.settings.data import DataConfig
from cpal.sources.labels.list_files import image_id_of, is_list_file, list_below, never, read_list, told_masks
from cpal.sources.listing import LabelOrigin, ListedImage, Listing
from cpal.sources.mask_colors import voc_colors
from cpal.sources.problems import missing_folder, noted, some, twin_problems
from cpal.sources.tables.file_names import ENDING, FileNames
from cpal.sources.tables.read import read_table
from cpal.sources.tables.rows import reading_of

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
LISTS = Path("ImageSets/Segmentation")


def list_voc(
    settings: DataConfig, *, limit: int | None = None, lists: Mapping[str, Sequence[str]] | None = None
) -> Listing:
    """The images of train_list and val_list, training images first; none if a folder is missing.

    `limit` keeps the first images of each list. `lists` gives image ids of lists that have no file.
    """
    root, problems = Path(settings.root), list[str]()
    if unknown := [name for name in settings.classes or () if name not in CLASSES]:
        problems.append(
            f"data.classes: {', '.join(unknown)} not among VOC's classes {', '.join(CLASSES)}; "
            "data.source: folder takes classes of your own"
        )
    images, origin = list[ListedImage](), LabelOrigin()
    if no_root := missing_folder(root, f"set it to the folder that holds {settings.images}"):
        problems += no_root
    else:
        images, origin = _list_images(root, settings, lists or {}, limit, problems)
    splits = settings.splits
    kept = () if unknown else tuple(images)
    colors = voc_colors(CLASSES) if settings.mask_colors else None
    return Listing(root, kept, settings.classes or CLASSES, CLASSES, splits, tuple(problems), origin, colors)


def _list_images(
    root: Path,
    settings: DataConfig,
    known: Mapping[str, Sequence[str]],
    limit: int | None,
    problems: list[str],
) -> tuple[list[ListedImage], LabelOrigin]:
    needed = {settings.images: "images"}
    if settings.masks is not None:
        needed[settings.masks] = "ground-truth masks (data.masks)"
    if settings.labels == "xml":
        needed["Annotations"] = "image-level labels (data.labels: xml)"
    absent = [name for name in needed if not (root / name).is_dir()]
    problems += [f"{root / name}: no such folder; it holds the {needed[name]}" for name in absent]
    folder, told = root / settings.images, list[str]()
    once = dict.fromkeys((settings.train_list, settings.score_list, settings.val_list))
    lists = {name: known[name] if name in known else _read_ids(root, name, settings, problems, told) for name in once}
    train, val, scored = lists[settings.train_list], lists[settings.val_list], set(lists[settings.score_list])
    if both := sorted(set(train) & set(val)):
        problems.append(f"{len(both)} image(s) are in both data.train_list and data.val_list: {some(both)}")
    if train and (strange := sorted(scored - set(train))):
        problems.append(
            f"{len(strange)} image(s) of data.score_list {settings.score_list} are not in data.train_list "
            f"{settings.train_list}, and seeds exist for training images only: {some(strange)}"
        )
    problems += twin_problems(dict.fromkeys([*train, *val]))
    names, origin = _names_from_csv(root, settings, [*train, *val], problems)
    origin = replace(origin, told="; ".join(filter(None, (origin.told, *told))))
    masked = settings.masks is not None

    def listed(image_id: str, split: str) -> ListedImage:
        return ListedImage(
            image_id,
            "train" if split == "train" else "val",
            masked and (split == "val" or image_id in scored),
            _image_file(folder, image_id),
            root / settings.masks / f"{image_id}.png" if settings.masks is not None else None,
            names.get(image_id),
            root / "Annotations" / f"{image_id}.xml" if settings.labels == "xml" else None,
        )

    images = [listed(image_id, "train") for image_id in train[:limit]]
    return ([] if absent else images + [listed(image_id, "val") for image_id in val[:limit]]), origin


def _names_from_csv(
    root: Path, settings: DataConfig, image_ids: Sequence[str], problems: list[str]
) -> tuple[dict[str, frozenset[str]], LabelOrigin]:
    """With labels: csv, the classes of each image. Each of `image_ids` needs a line."""
    if settings.labels != "csv":
        return {}, LabelOrigin()
    assert settings.labels_file is not None, "the settings demand labels_file with labels: csv"
    path, before = root / settings.labels_file, len(problems)
    places = FileNames(dict.fromkeys(image_ids), settings.images)
    table = read_table(path, reading_of(settings), lambda text: places.find(text).file is not None, problems)
    rows = [] if table is None else table.rows
    for image_id, names, _ in rows:
        if strange := sorted(names - set(CLASSES)):
            problems.append(f"{path}, image {image_id}: {', '.join(strange)} not among VOC's classes")
    found = [(row, places.find(row.image).file) for row in rows]
    by_id = {image_id: row.names for row, image_id in found if image_id is not None}
    lacking = [image_id for image_id in image_ids if image_id not in by_id]
    if lacking and (rows or len(problems) == before):
        problems.append(f"{path}: no line for {len(lacking)} listed image(s): {some(lacking)}")
    unlisted = tuple(row.image for row, image_id in found if image_id is None)
    return by_id, LabelOrigin("" if table is None else table.told, (), unlisted)


def _read_ids(root: Path, name: str, settings: DataConfig, problems: list[str], told: list[str]) -> list[str]:
    """Image ids of a list, each once. A line holds an id or a path. A second column is not read.

    A phrase is appended to `told` if the list names masks outside data.masks.
    """
    if is_list_file(name):
        path, lines = root / name, list_below(root, name, never, problems)
    else:
        path, lines = root / LISTS / f"{name}.txt", []
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.txt"))) or "none"
        with noted(problems):
            lines = read_list(path, never, missing=f"no such list; lists there: {known}")
    ids = [_id_of_line(line.image, root / settings.images) for line in lines]
    if wrong := {image_id: None for image_id in ids if id_problem(image_id)}:
        problems.append(f"{path}: {len(wrong)} line(s) hold no image id and no path: {some(list(wrong))}")
    counts = Counter(ids)
    if twice := [image_id for image_id, count in counts.items() if count > 1]:
        problems.append(f"{path}: {len(twice)} image(s) named more than once: {some(twice)}")
    if phrase := told_masks(lines, path.name, settings.masks):
        told.append(phrase)
    return [image_id for image_id in counts if image_id not in wrong]


def _id_of_line(text: str, folder: Path) -> str:
    """`a` for `a`, `a.jpg` and `/JPEGImages/a.jpg`. An id that ends like a picture is kept if its file exists."""
    image_id = image_id_of(text)
    bare = ENDING.sub("", image_id)
    return bare if bare != image_id and not _image_file(folder, image_id).exists() else image_id


def _image_file(folder: Path, image_id: str) -> Path:
    candidates = [folder / f"{image_id}{suffix}" for suffix in (*ENDINGS, *map(str.upper, ENDINGS))]
    return next((path for path in candidates if path.exists()), candidates[0])
