"""Findings that concern files and labels. class_findings.py holds the findings that concern classes."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cpal.data.images import ENDINGS, files_passed_over, passed_over
from cpal.settings.data import DataConfig
from cpal.sources.health.image_facts import ImageFacts, earlier_alike
from cpal.sources.labels_and_masks import ScoredImage, contradictions, order_of_masks, undrawn
from cpal.sources.listing import ListedImage, Listing

Severity = Literal["error", "warning", "note"]
TINY = 64  # pixels of the short side: four feature cells at stride 16
HUGE = 40_000_000  # pixels
THIN = 4  # times the short side

TROUBLES = {  # of a file: text and cure; each is an error
    "missing": ("listed images without a file", "put the files there, or take them out of the table or list"),
    "empty": ("empty image files", "fetch them again, or leave them out"),
    "truncated": ("image files that end too early", "fetch them again, or leave them out"),
    "unreadable": ("image files that cannot be read", "replace them, or leave them out"),
    "too large": ("images larger than Pillow opens", "scale them down"),
}
TRAITS: dict[str, tuple[Severity, str, str]] = {
    "clipped": (
        "error",
        "16-bit gray images: their values above 255 would all be read as white",
        "save them with 8 bits",
    ),
    "transparent": ("warning", "images with see-through pixels", "hidden colors would be seen; flatten them"),
    "animated": ("warning", "image files that hold several pictures", "only the first is used"),
    "cmyk": ("warning", "CMYK images", "they are read without a color profile; convert them to RGB"),
    "ending": ("note", "image files of another format than their ending says", "they are read all the same"),
    "deep": ("note", "images with 16 bits a channel", "the upper 8 are used"),
    "gray": ("note", "gray images", "they are read with three equal channels"),
    "palette": ("note", "images with a palette", "they are read by its colors; make sure that they are no masks"),
    "profile": ("note", "images with a color profile other than sRGB", "profiles are not applied"),
}


@dataclass(frozen=True)
class Finding:
    """`text` ends with the number of cases, `names` names all cases. `kind` is for programs."""

    severity: Severity
    kind: str
    text: str
    names: tuple[str, ...] = ()
    cure: str = ""


@dataclass(frozen=True)
class CheckedImage:
    """A listed image after reading. `labels`: its kept classes. `drawn`: classes in its mask. None: unknown.

    `others`: classes of the image that data.classes leaves out.
    """

    item: ListedImage
    facts: ImageFacts
    labels: frozenset[str] | None
    problems: tuple[str, ...]
    drawn: frozenset[str] | None = None
    others: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.item.image_id


def found(severity: Severity, kind: str, text: str, names: Sequence[str], cure: str) -> Iterator[Finding]:
    """A finding that ends with the number of names; nothing if there are no names."""
    if names:
        yield Finding(severity, kind, f"{text}: {len(names)}", tuple(map(printable, names)), cure)


def printable(text: str) -> str:
    """The text with escapes for unprintable characters, which could control a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]


def of_files(seen: Sequence[CheckedImage]) -> Iterator[Finding]:
    """Files that cannot be read, and files that the pipeline converts."""
    for trouble, (text, cure) in TROUBLES.items():
        hit = [one for one in seen if one.facts.trouble == trouble]
        names = [f"{one.name} ({one.facts.reason})" if one.facts.reason else one.name for one in hit]
        yield from found("error", trouble.replace(" ", "_"), text, names, cure)
    kinds = dict.fromkeys((one.facts.reason, one.facts.cure) for one in seen if one.facts.trouble == "not read")
    for reason, cure in kinds:
        names = [one.name for one in seen if one.facts.trouble == "not read" and one.facts.reason == reason]
        yield from found("error", "not_read", f"image files that are not read ({reason})", names, cure)
    for trait, (severity, text, cure) in TRAITS.items():
        yield from found(severity, trait, text, [one.name for one in seen if trait in one.facts.traits], cure)
    turned = [one for one in seen if "turned" in one.facts.traits]
    masked = [one.name for one in turned if one.item.mask is not None and one.item.mask.exists()]
    masked_names = set(masked)
    plain = [one.name for one in turned if one.name not in masked_names]
    text, cure = "images that are turned upright by their EXIF orientation", "their masks must be upright, too"
    yield from found("warning", "turned_with_mask", f"{text}, with masks", masked, cure)
    yield from found("note", "turned", text, plain, "as a viewer does")


def of_masks(seen: Sequence[CheckedImage], data: DataConfig) -> Iterator[Finding]:
    """Images without a mask, if other images have masks."""
    if data.source == "folder" and data.labels != "masks" and any(one.item.scored for one in seen):
        names = [one.name for one in seen if not one.item.scored]
        yield from found("note", "unscored", "images without a mask", names, "they are not scored")


def of_agreement(listing: Listing, seen: Sequence[CheckedImage], scored: Sequence[ScoredImage]) -> Iterator[Finding]:
    """Contradictions between labels and masks of scored images."""
    if wrong := order_of_masks(listing, scored):
        names = tuple(map(printable, wrong.evidence))
        yield Finding("error", "wrong_order", "masks show other classes than the labels", names, printable(wrong.cure))
        return
    problems = undrawn((one.labels or (), one.drawn) for one in seen if one.item.scored)
    yield from (Finding("error", "undrawn", printable(problem)) for problem in problems)
    drawn = frozenset().union(*(one.drawn for one in scored))
    lacking, unlabeled = contradictions([name for name in listing.classes if name in drawn], scored)
    cure = "one of the two is wrong, or the object is too small"
    yield from found("warning", "not_drawn", "images labeled with a class that their mask lacks", lacking, cure)
    cure = "label what is seen; else the image teaches that it is background"
    text = "images whose mask shows a class that they are not labeled with"
    yield from found("warning", "not_labeled", text, unlabeled, cure)


def of_labels(seen: Sequence[CheckedImage]) -> Iterator[Finding]:
    """Problems of masks and annotations: a finding for each kind."""
    groups: dict[str, list[tuple[CheckedImage, str]]] = defaultdict(list)
    for one in seen:
        for problem in one.problems:
            files = [
                path
                for path in (one.item.mask, one.item.xml, one.item.image)
                if path and problem.startswith(f"{path}: ")
            ]
            what = problem.removeprefix(f"{files[0]}: ") if files else problem
            kind = re.sub(r"\(.*\)|'.*'|[\d, ]+", "", what)  # without what differs from file to file
            groups[kind].append((one, f"{files[0].name}: {what}" if files else what))
    for hit in groups.values():
        sideways = sum("sideways" in one.facts.traits for one, _ in hit)
        cure = f"EXIF turns {sideways} of the images: their masks must have the upright size" if sideways else ""
        text = f"masks or annotations that are refused: {len(hit)}, the first is {printable(hit[0][1])}"
        yield Finding("error", "labels", text, tuple(printable(one.name) for one, _ in hit), cure)


def of_copies(seen: Sequence[CheckedImage]) -> Iterator[Finding]:
    """Images that equal or resemble an earlier image. `seen` has training images first, so that leaks into val show."""
    first: dict[str, CheckedImage] = {}
    same: list[tuple[CheckedImage, CheckedImage]] = []
    distinct: list[CheckedImage] = []
    for one in seen:
        if one.facts.sha256 is not None:
            earlier = first.setdefault(one.facts.sha256, one)
            if earlier.item.image == one.item.image and earlier is not one:
                continue  # one file on two lists, which the listing tells
            if earlier is not one:
                same.append((one, earlier))
            elif one.facts.look is not None:
                distinct.append(one)
    matches = earlier_alike(np.array([one.facts.look for one in distinct], np.uint64).reshape(-1, 2)).tolist()
    alike = [(one, distinct[match]) for one, match in zip(distinct, matches, strict=True) if match >= 0]

    def pairs(of: list[tuple[CheckedImage, CheckedImage]], *, leak: bool) -> list[str]:
        chosen = [(b, a) for b, a in of if (a.item.split != b.item.split) == leak]
        return [f"{b.name} = {a.name}" for b, a in chosen]

    leak_cure = "a leak: scores come out too high; take one of each pair off its list"
    text = "validation images that are training images, byte for byte"
    yield from found("warning", "same_file_in_train_and_val", text, pairs(same, leak=True), leak_cure)
    text = "validation images that look like a training image"
    yield from found("warning", "alike_in_train_and_val", text, pairs(alike, leak=True), leak_cure)
    text = "images that repeat another one of their list, byte for byte"
    yield from found("warning", "same_file", text, pairs(same, leak=False), "each counts twice; keep one")
    unlike = [(b, a) for b, a in same if None not in (a.labels, b.labels) and a.labels != b.labels]
    text = "images with other labels than the same file under another id"
    names = [f"{b.name} = {a.name}" for b, a in unlike]
    yield from found("warning", "same_file_other_labels", text, names, "one of the two is labeled wrongly")
    text = "images that look like another one of their list"
    yield from found("note", "alike", text, pairs(alike, leak=False), "if they are copies, keep one")


def of_shapes(seen: Sequence[CheckedImage]) -> Iterator[Finding]:
    """Tiny, huge and thin images."""
    sizes = [(one.name, *one.facts.size) for one in seen if one.facts.size is not None]

    def those(test: Callable[[int, int], bool]) -> list[str]:
        return [f"{name} ({width}x{height})" for name, width, height in sizes if test(width, height)]

    names = those(lambda width, height: min(width, height) < TINY)
    yield from found("warning", "tiny", f"images with a side below {TINY} pixels", names, "too coarse to find parts in")
    names = those(lambda width, height: width * height > HUGE)
    text = f"images of more than {HUGE // 10**6} megapixels"
    yield from found("warning", "huge", text, names, "slow, and much memory; scale them down")
    names = those(lambda width, height: max(width, height) > THIN * min(width, height))
    text = f"images more than {THIN} times as long as wide"
    yield from found("warning", "thin", text, names, "a crop shows little of them; cut them up")


def of_left_over(listing: Listing, data: DataConfig) -> Iterator[Finding]:
    """Files beside the listed images that are on no list, and rows of the csv that name no listed image."""
    listed = {item.image for item in listing.images}
    masks = {item.mask for item in listing.images}
    files = [path for folder in sorted({path.parent for path in listed}) for path in _files_in(folder)]
    known = listed | masks
    names = [path.name for path in files if path not in known and path.suffix.lower() in ENDINGS]
    yield from found("note", "unlisted", "image files on no list", names, "they are not used")
    others = [path for path in files if path not in listed and path.suffix.lower() not in ENDINGS]
    table = None if data.labels_file is None else Path(data.root) / data.labels_file
    names = [path.name for path in others if passed_over(path) is None and path != table]
    text = "other files beside the images"
    yield from found("note", "other_files", text, names, f"images end in {', '.join(ENDINGS)}")
    rows = f"rows of {data.labels_file}" if data.labels_file else f"images below {data.images}"
    text = f"{rows} whose split is neither {data.train_list} nor {data.val_list}"
    yield from found("warning", "other_split", text, listing.origin.other_splits, "they are not used")
    text = f"rows of {data.labels_file} that name no listed image"
    yield from found("note", "unlisted_rows", text, listing.origin.unlisted, "they are not used")


def of_passed_over(listing: Listing, data: DataConfig) -> Iterator[Finding]:
    """Files below the folder of images that look like pictures and that no source lists."""
    for why, names in files_passed_over(listing.root / data.images).items():
        yield from found("warning", "passed_over", f"files not used ({why.what})", names, why.cure)


def _files_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_file())
    except OSError:  # its images are told as missing
        return []
    return [folder / name for name in names if not name.startswith(".")]
