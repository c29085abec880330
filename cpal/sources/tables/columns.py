"""The meaning of a table's columns, from the words of the header and from cells that name existing pictures."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpal.errors import UserError
from cpal.sources.tables.file_names import ENDING
from cpal.sources.tables.grid import SAMPLE, Cell, Grid
from cpal.sources.tables.rows import counted

# Of one meaning, the more certain first. `\w` of any language is kept, signs and capital letters are not.
IMAGE = (
    "image filename file imagename imagefilename imagefile imagepath path filepath fname imageid image_id img imgname "
    "imgpath imgid picture photo imageindex imageurl url uri src idcode bild datei dateiname fichier archivo id name"
).split()
LABELS = (
    "labels label tags tag classes class classnames classname categories category labelnames labelname names targets "
    "target choices choice objects object species klasse klassen etiquetas etiqueta etiquette classe clase art y"
).split()
MANY = {"labels", "tags", "classes", "classnames", "categories", "labelnames", "names", "targets", "choices", "objects"}
SPLIT = "split set subset partition usage phase dataset datasplit isvalid isval istest".split()
CONFIDENCE = "confidence score prob probability conf certainty".split()
ABOUT = (  # the image, the box, or who labeled it
    "width height xmin ymin xmax ymax x y w h x1 y1 x2 y2 bbox area depth size imagewidth imageheight source annotator "
    "annotationid createdat updatedat leadtime index unnamed0 row no nr isoccluded istruncated isgroupof isdepiction "
    "isinside iscrowd sha256 sha1 md5 date time comment comments note notes fold age sex gender patientid subjectid "
    "studyid caseid total sum count lat lon latitude longitude"
).split()
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
PARTS = tuple(name for names in SPLITS.values() for name in names)
# Also as Excel writes them in other languages.
YES = {*"1 1.0 true yes x t y wahr ja j vrai oui verdadero verdadeiro sí si sim vero waar prawda tak".split()}
NO = {"", *"0 0.0 false no f n -1 -1.0 falsch nein faux non falso não nao onwaar nee fałsz nie".split()}


@dataclass(frozen=True)
class Columns:
    """Places of the columns. `labels`: columns with names. `classes`: a column for each class. One of the two is empty.

    `asked`: the split of the rows that say yes in a column such as is_valid. `many`: the header of the labels is a
    plural. `first`: the first row of data, 1 after a header. `told`: the meaning, as a phrase.
    """

    image: int
    labels: tuple[int, ...]
    classes: tuple[int, ...]
    split: int | None
    asked: str
    confidence: int | None
    many: bool
    first: int
    told: str


def word(cell: Cell) -> str:
    """`Image Name` -> `imagename`."""
    return re.sub(r"[\W_]+", "", cell.casefold()) if isinstance(cell, str) else ""


def part_of(name: str) -> str | None:
    """The split whose word is in a name: `train2017` and `training_set` -> `train`; None for no word or for several."""
    words = set(re.findall(r"[^\W\d_]+", name.casefold()))
    found = [part for part, names in SPLITS.items() if words.intersection(names)]
    return found[0] if len(found) == 1 else None


def is_header(row: Sequence[Cell]) -> bool:
    """Whether the row has a word for an image, and a word for labels or a split."""
    words = [word(cell) for cell in row]
    images = [n for n, one in enumerate(words) if one in IMAGE]
    others = [n for n, one in enumerate(words) if one in (*LABELS, *SPLIT) or _ends_as_label(row[n])]
    return bool(images) and (len(set(images) | set(others)) > 1 or bool(images and images[0] == 0 and len(words) > 1))


def find_columns(grid: Grid, named: Callable[[Cell], bool], path: Path) -> Columns:
    """The columns' meaning. Raises UserError if several meanings are possible, with the header to write."""
    width = max((len(row) for row in grid.rows[:SAMPLE]), default=0)
    if width < 1:
        raise UserError(f"{path}: holds no table of labels; {_cure()}")
    header = list(grid.rows[0]) + [""] * (width - len(grid.rows[0]))
    sample = [row + [""] * (width - len(row)) for row in grid.rows[1:SAMPLE]]
    cells = [[row[n] for row in sample[: 4 + 5000 // width]] for n in range(width)]
    hits = [sum(map(named, column)) for column in cells]
    # A row's number also names a picture where pictures are called 1.jpg, 2.jpg; `1.jpg` can mean nothing else.
    endings = [sum(bool(ENDING.search(str(cell))) for cell in column) for column in cells]
    image = _image_column(header, hits, endings, path)
    headed = is_header(header) or not named(header[image])
    if not headed:
        sample.insert(0, header)
        header = [""] * width
    rest = [n for n in range(width) if n != image and any(row[n] for row in (*sample, header))]
    if headed:
        rest = [n for n in rest if word(header[n]) or not _is_index([row[n] for row in sample])]
    split = _split_column(header, rest, sample)
    confidence = next((n for n in rest if word(header[n]) in CONFIDENCE), None)
    free = [n for n in rest if n not in (split, confidence)]
    labels, classes = _label_columns(header, free, sample, path)
    many = any(word(header[n]) in MANY or len(labels) > 1 for n in labels)
    used = {image, split, confidence, *labels, *classes}
    passed = [str(header[n]) or f"number {n + 1}" for n in rest if n not in used]
    names = [str(header[n]) for n in (image, *labels, *(() if split is None else (split,)))]
    told = f"columns {', '.join(names)}" if headed else "no header"
    if passed:
        told += f" ({counted(len(passed), 'other')} passed over: {', '.join(passed[:5])}{', ...' * (len(passed) > 5)})"
    asked = {"isvalid": "val", "isval": "val", "istest": "test"}.get("" if split is None else word(header[split]), "")
    return Columns(image, labels, classes, split, asked, confidence, many, int(headed), told)


def _cure() -> str:
    return "write a first line image,labels or image,labels,split, and one line for each image"


def _image_column(header: Sequence[Cell], hits: Sequence[int], endings: Sequence[int], path: Path) -> int:
    """The column with most cells that name pictures (`hits`).

    Of equal columns, the one with most cells that end as a file's name does, then the one with the header's best word.
    """
    words = [word(cell) for cell in header]
    rank = {one: n for n, one in enumerate(IMAGE)}
    best = max(hits)
    places = [n for n in range(len(hits)) if hits[n] == best and (best or words[n] in rank)]
    if not best and len(header) > 1 and not places and words[-1] in LABELS:
        places = [0]
    if not places:
        raise UserError(f"{path}: no column names the images; {_cure()}")
    return min(places, key=lambda n: (-endings[n], rank.get(words[n], len(rank)), not words[n], n))


def _is_index(cells: Sequence[Cell]) -> bool:
    """Whether a column counts the rows, as pandas writes it without a header."""
    return len(cells) > 0 and all(isinstance(cell, str) and cell.isdecimal() for cell in cells)


def _split_column(header: Sequence[Cell], rest: Sequence[int], sample: Sequence[Sequence[Cell]]) -> int | None:
    worded = [n for n in rest if word(header[n]) in SPLIT]
    if worded:
        return min(worded, key=lambda n: SPLIT.index(word(header[n])))
    told = [n for n in rest if all(str(row[n]).casefold() in PARTS for row in sample)] if sample else []
    return told[0] if len(told) == 1 and len(rest) > 1 else None


def _ends_as_label(cell: Cell) -> bool:
    """Whether a header ends in a word for labels: `Finding Labels`, `image_label`, `label_2`, `labels.1`."""
    words = re.findall(r"[^\W\d_]+", cell.casefold()) if isinstance(cell, str) else []
    return bool(words) and words[-1] in ("label", "labels", "tag", "tags", "class", "classes", "category", "categories")


def _label_columns(
    header: Sequence[Cell], free: Sequence[int], sample: Sequence[Sequence[Cell]], path: Path
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Columns with names, and columns of one class each; one of the two is empty."""
    worded = [n for n in free if re.sub(r"\d+$", "", word(header[n])) in LABELS and word(header[n])[0] not in "xy"]
    worded = worded or [n for n in free if _ends_as_label(header[n])] or [n for n in free if word(header[n]) == "y"]
    if worded and not _numbered(header, worded):
        texts = [n for n in worded if not _is_numeric(n, sample)]
        exact = [n for n in worded if word(header[n]) == "labels"]
        worded = exact if len(exact) == 1 else texts if len(worded) > 1 and len(texts) == 1 else worded
        if len(worded) > 1:
            _two(header, worded, path)
    if worded:
        return tuple(worded), ()
    free = [n for n in free if word(header[n]) not in ABOUT]
    numbers = [n for n in free if _is_numeric(n, sample)]
    texts = [n for n in free if n not in numbers]
    if len(texts) == 1 and not (numbers and all(_is_flag(n, sample) for n in numbers)):
        return (texts[0],), ()
    if len({part_of(word(header[n])) for n in numbers if word(header[n]) in PARTS}) > 1:
        parts = ", ".join(str(header[n]) for n in numbers if word(header[n]) in PARTS)
        raise UserError(f"{path}: columns {parts} are splits and no classes; write one column split with these words")
    if not texts and (named := [n for n in numbers if header[n]]):
        return (), tuple(named)
    if len(texts) > 1 or texts and numbers:
        _two(header, free, path)
    if len(numbers) == 1:
        return (numbers[0],), ()
    raise UserError(f"{path}: no column names what the images show; {_cure()}")


def _two(header: Sequence[Cell], places: Sequence[int], path: Path) -> None:
    names = [str(header[n]) or f"number {n + 1}" for n in places]
    shown = ", ".join(names[:6])
    if not any(header):
        raise UserError(
            f"{path}: columns {shown} can each tell what an image shows; write a first line with a word for each "
            "column: image, label (label_1, label_2 for several), split, and note for what is no label"
        )
    raise UserError(
        f"{path}: columns {shown} can each tell what an image shows; write labels as the header of the right one, and "
        "take out what are no labels"
    )


def _numbered(header: Sequence[Cell], places: Sequence[int]) -> bool:
    """`label_1`, `label_2`, or `labels`, `labels.1`: several columns of one kind."""
    kinds = {re.sub(r"\d+$", "", word(header[n])) for n in places}
    return len(places) > 1 and len(kinds) == 1 and any(word(header[n])[-1:].isdecimal() for n in places)


def _cells(place: int, sample: Sequence[Sequence[Cell]]) -> list[str]:
    return [str(row[place]).strip().lower() for row in sample]


def _is_numeric(place: int, sample: Sequence[Sequence[Cell]]) -> bool:
    cells = _cells(place, sample)
    return all(number(cell) is not None or cell in YES or cell in NO for cell in cells)


def _is_flag(place: int, sample: Sequence[Sequence[Cell]]) -> bool:
    return all(cell in YES or cell in NO for cell in _cells(place, sample))


def number(cell: str) -> float | None:
    """A decimal number, with a point or a comma; None for other text."""
    text = cell.strip().replace(",", ".")
    return float(text) if re.fullmatch(r"[-+]?(\d{1,300}\.?\d*|\.\d+)(e[-+]?\d{1,3})?", text, re.IGNORECASE) else None
