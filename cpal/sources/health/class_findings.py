"""Findings that concern the classes, and settings that do not fit the size of the data set."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations, groupby
from unicodedata import normalize

import numpy as np

from cpal.settings.config import Config, SegmentationConfig
from cpal.settings.data import DataConfig
from cpal.settings.hosts import TrainedHost
from cpal.sources.health.file_findings import CheckedImage, Finding, found
from cpal.sources.listing import Listing

RARE = 10  # training images of a class, below which it is hardly learned
UNEVEN = 10  # images of the most frequent class for one of the rarest
COINCIDENCE = 3  # least number of training images for a finding that two classes are always together
SHOWN, TOO_SELDOM = 10, 6  # how often the segmentation training should show each image, and below what it is too seldom
STEPS, TOO_SHORT = 100, 30  # of training; the profiles of photographs make about 130
ALIKE = "names of classes that differ only in small and capital letters"
LARGE = 1500  # pixels of the long side; settings in pixels are made for VOC's 500


def multi_hot(classes: Sequence[str], seen: Sequence[CheckedImage], split: str) -> np.ndarray:
    """bool (images of the split whose labels are known, N)."""
    labels = [one.labels for one in seen if one.item.split == split and one.labels is not None]
    return np.array([[name in shown for name in classes] for shown in labels], bool).reshape(len(labels), len(classes))


def of_names(listing: Listing, seen: Sequence[CheckedImage], data: DataConfig) -> Iterator[Finding]:
    """Names that data.classes leaves out, and names that are probably mistakes."""
    counts = Counter(name for one in seen for name in one.others)
    names = [f"{name} ({count})" for name, count in sorted(counts.items())]
    text = "classes that data.classes leaves out, with their images"
    yield from found("note", "left_out", text, names, "nothing is learned of them")
    every = sorted({*listing.classes, *counts, *(listing.mask_classes if data.masks is not None else ())})
    yield from found("warning", "same_name", ALIKE, alike_names(every), "each counts as a class of its own")
    if data.labels == "folders":
        names = [name for name in every if name.lower() in {data.train_list, data.val_list, "train", "val", "test"}]
        cure = "data.images must hold one folder a class; images are held out by data.val_share"
        yield from found("warning", "list_names", "class folders that are named as lists are", names, cure)


def alike_names(names: Iterable[str]) -> list[str]:
    """`Cat = cat` for each group of names that differ only in small and capital letters."""
    groups = (list(group) for _, group in groupby(sorted(sorted(names), key=_plain), _plain))
    return [" = ".join(group) for group in groups if len(group) > 1]


def _plain(name: str) -> str:
    return normalize("NFC", name).casefold()


def of_classes(
    classes: Sequence[str], train: np.ndarray, val: np.ndarray, lists: dict[str, str], config: Config
) -> Iterator[Finding]:
    """train, val: bool (images, N). `lists`: the names of both."""
    counts = dict(zip(classes, train.sum(axis=0).tolist(), strict=True))
    names = [name for name in classes if not counts[name]]
    text = f"classes in no image of {lists['train']}"
    yield from found("error", "absent", text, names, "take them off data.classes")
    if len(val):
        in_val: list[bool] = np.any(val, axis=0).tolist()
        names = [name for name, there in zip(classes, in_val, strict=True) if counts[name] and not there]
        text = f"classes in no image of {lists['val']}"
        yield from found("warning", "absent_in_val", text, names, "their IoU cannot be measured")
    names = [name for name in classes if counts[name] and counts[name] == len(train)]
    text = "classes in every training image"
    cure = "nothing tells them from background; add images without them"
    yield from found("warning", "always", text, names, cure)
    present = {name: count for name, count in counts.items() if count}
    yield from _rare(present, config)
    yield from _together(classes, train)
    if present and (most := max(present.values())) > UNEVEN * (least := min(present.values())):
        text = f"the most frequent class has {most} training images, the rarest {least}"
        yield Finding("note", "uneven", text, (), "add images of the rare ones")


def _rare(counts: dict[str, int], config: Config) -> Iterator[Finding]:
    """Classes with too few images: an image gives one instance prototype, of which context prototypes are groups."""
    prototypes = config.cpal.num_prototypes
    rarest = sorted(counts, key=lambda name: counts[name])
    names = [f"{name} ({counts[name]}){_like(name, counts)}" for name in rarest if counts[name] < RARE]
    cure = "too rare to learn; add images, or leave them out: list the other classes in data.classes"
    yield from found("warning", "rare", f"classes with fewer than {RARE} training images", names, cure)
    names = [f"{name} ({counts[name]})" for name in rarest if RARE <= counts[name] < prototypes]
    text = f"classes with fewer training images than context prototypes (cpal.num_prototypes: {prototypes})"
    cure = "then each image gives one prototype; add images, and leave cpal.num_prototypes as it is"
    yield from found("warning", "scarce", text, names, cure)


def _like(name: str, counts: Mapping[str, int]) -> str:
    """A hint at a more frequent class whose name differs by a letter or two."""
    others = [other for other in counts if counts[other] > counts[name]]
    near = get_close_matches(name, others, n=1, cutoff=0.65)
    return f", did you mean {near[0]}?" if near else ""


def _together(classes: Sequence[str], train: np.ndarray) -> Iterator[Finding]:
    """Classes that never appear without a certain other class."""
    both = train.T.astype(int) @ train.astype(int)
    counts = both.diagonal()
    often = [(a, b) for a, b in combinations(range(len(classes)), 2) if both[a, b] >= COINCIDENCE]
    names = [f"{classes[a]} and {classes[b]} ({counts[a]})" for a, b in often if both[a, b] == counts[a] == counts[b]]
    text = "pairs of classes in exactly the same training images"
    cure = "nothing tells them apart; join the two, or add images of one alone"
    yield from found("warning", "inseparable", text, names, cure)
    ordered = [(a, b) if counts[a] < counts[b] else (b, a) for a, b in often if counts[a] != counts[b]]
    names = [f"{classes[a]} ({counts[a]}) without {classes[b]}" for a, b in ordered if both[a, b] == counts[a]]
    text, cure = "classes never seen without another", "add images of the first alone"
    yield from found("warning", "never_without", text, names, cure)
    alone = train[train.sum(axis=1) == 1].any(axis=0)
    names = [name for name, count, once in zip(classes, counts, alone, strict=True) if count and not once]
    yield from found(
        "note", "never_alone", "classes that are never alone in a training image", names, "add images of one class"
    )


def of_unlabeled(seen: Sequence[CheckedImage], policy: str) -> Iterator[Finding]:
    """Images without known labels, or without a kept class. `policy`: data.without_labels."""
    names = [one.name for one in seen if one.labels is None]
    yield from found("note", "unknown", "images without known labels", names, "they are in none of the counts below")
    names = [one.name for one in seen if one.item.split == "train" and one.labels is not None and not one.labels]
    cure = "they are left out" if policy == "drop" else "they teach what background is"
    cure += f" (data.without_labels: {policy})"
    yield from found("note", "unlabeled", "training images that show no kept class", names, cure)


def short_segmentation(images: int, settings: SegmentationConfig) -> int | None:
    """The iterations that show each image SHOWN times, a multiple of checkpoint_interval.

    None if the settings show each at least TOO_SELDOM times.
    """
    if settings.iterations * settings.batch_size >= TOO_SELDOM * images:
        return None
    interval = settings.checkpoint_interval
    return interval * math.ceil(SHOWN * images / settings.batch_size / interval)


def short_host(images: int, host: TrainedHost, steps: int) -> int | None:
    """The epochs that make at least STEPS optimizer steps; None if the settings make at least `steps`."""
    an_epoch = host.epoch_steps(images)
    return -(-STEPS // an_epoch) if an_epoch * host.epochs < steps else None


def of_length(images: int, config: Config) -> Iterator[Finding]:
    """Trainings with too few steps for this number of images: of the host, its first round, the segmentation model."""
    if iterations := short_segmentation(images, config.segmentation):
        steps = config.segmentation.iterations
        times = steps * config.segmentation.batch_size / images
        text = f"{images} images and segmentation.iterations {steps}: the training shows each image {times:.1f} times"
        cure = f"then the model takes rare classes for frequent ones; set segmentation.iterations to {iterations}"
        yield Finding("warning", "short_segmentation", text, (), cure)
    hosts = {f"{key}.epochs": each for key, each in config.trainings.items() if isinstance(each, TrainedHost)}
    for key, section in hosts.items():
        if epochs := short_host(images, section, STEPS):
            steps = section.epoch_steps(images) * section.epochs
            text = f"{images} images and {key} {section.epochs} make {steps} optimizer steps"
            cure = f"set {key} to {epochs}, which makes at least {STEPS}"
            if steps >= TOO_SHORT:
                cure = f"if the classifier's mAP (in the report) ends below 90, {cure}"
            yield Finding("note" if steps >= TOO_SHORT else "warning", "short", text, (), cure)


def of_settings(long_sides: np.ndarray, config: Config) -> Iterator[Finding]:
    """Settings in pixels that do not fit the size of these images."""
    median = float(np.median(long_sides))
    size = f"half of the images are longer than {median:.0f} pixels"
    if median > LARGE:
        cure = "the CRF and the segmentation model take images at their own size; scale them down to about 500"
        yield Finding("note", "large", size, (), cure)
    host, key = config.chosen_host, f"hosts.{config.host}"
    low, high = host.resize_long
    if high < median / 4 or low > 2 * median:
        cure = f"{key}.resize_long makes that {low} to {high}; set it nearer to the images' size"
        yield Finding("note", "resize_long", size, (), cure)
    if isinstance(host, TrainedHost) and host.crop_size > high:
        text = f"{key}.crop_size {host.crop_size} is larger than every resized image ({high})"
        yield Finding("note", "crop_size", text, (), f"part of each crop is padding; raise {key}.resize_long")
    if not 0.03 <= (reach := config.crf.bilateral_sxy) / median <= 0.3:
        yield Finding(
            "note", "bilateral_sxy", size, (), f"crf.bilateral_sxy is {reach:g}; usual is a tenth of the length"
        )
