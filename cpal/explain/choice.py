"""Which image and which of its classes are explained, by the names that a user gives."""

from collections.abc import Sequence
from difflib import get_close_matches

from cpal.data.dataset import Dataset, Record
from cpal.errors import UserError
from cpal.sources.tables.file_names import FileNames

NAMED = 3  # candidates in a message


def find_record(dataset: Dataset, image_id: str) -> Record:
    """The training image of this id, or of this name of its file, in small or capital letters.

    Raises UserError, which names candidates, if there is no such image.
    """
    records = {record.image_id: record for record in dataset.records}
    train = [record.image_id for record in dataset.split("train")]
    if image_id not in records:
        by_file = {record.image: record.image_id for record in dataset.records}
        file = FileNames(by_file).find(image_id, loose=False).file
        image_id = image_id if file is None else by_file[file]
    if image_id not in records:
        near = get_close_matches(image_id, train, NAMED) or train[:NAMED]
        raise UserError(f"image {image_id!r}: the data set has none of this id; name one such as {', '.join(near)}")
    if records[image_id].split != "train":
        raise UserError(
            f"image {image_id}: a validation image, which has no maps and no pseudo-mask; "
            f"name a training image such as {', '.join(train[:NAMED])}"
        )
    return records[image_id]


def find_classes(dataset: Dataset, record: Record, only: str | None) -> Sequence[int]:
    """The labels of the image, or the one that `only` names.

    Raises UserError, which names candidates, if there is no such class, if the image is without it, or if it is without
    any class.
    """
    if only is not None and only not in dataset.classes:
        raise UserError(f"--class {only}: no class of this data set; choose {', '.join(dataset.classes)}")
    label = None if only is None else 1 + dataset.classes.index(only)
    if record.labels and label in (None, *record.labels):
        return record.labels if label is None else (label,)
    showing = [
        other.image_id for other in dataset.split("train") if label in other.labels or (not only and other.labels)
    ]
    own = ", ".join(dataset.classes[k - 1] for k in record.labels)
    raise UserError(
        f"image {record.image_id}: {f'its labels are {own}' if own else 'it has no label'}; name "
        + (f"an image with {only}" if only else "another image")
        + (f", such as {', '.join(showing[:NAMED])}" if showing else ": the training images have none")
    )
