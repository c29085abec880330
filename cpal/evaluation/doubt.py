"""Which masks to doubt, judged without any ground truth: signals of each class in each image, and a verdict by class.

A signal says how well independent ways to the same answer agree, or how plausible a mask is. No signal is an IoU: where
all ways make the same mistake (a boat's mask always includes the water), they agree and nothing here can see it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import ndimage

from cpal.data.masks import VOID

Verdict = Literal["trust", "doubt", "do not use"]
Values = Mapping[str, float]
FEW = 10  # training images, below which a class is doubted
WORST = 3  # signals of a class that count, and reasons that are told
DOUBTED, REFUSED = 0.7, 0.35  # score of a class, below which it is doubted, and not to be used


@dataclass(frozen=True)
class Signal:
    """One signal, in percent. From `good` on it counts as 1, at `bad` and beyond as 0; good may be below bad.

    `title` and `meaning` explain it; `finding` is the reason, with {name}, {value}; `cure` is what to do about it.
    """

    title: str
    meaning: str
    good: float
    bad: float
    finding: str
    cure: str

    def mark(self, value: float) -> float:
        """Between 0, bad, and 1, good."""
        return float(np.clip((value - self.bad) / (self.good - self.bad), 0, 1))


SIGNALS = {
    "found": Signal(
        "Labels found",
        "Images of the class whose result has a pixel of it.",
        *(99, 75),
        "{value:.0f}% of the images with the label {name} show it in their mask.",
        "Look at the others: is the label right, is the object tiny, or hidden by another class?",
    ),
    "maps": Signal(
        "Agreement of the maps",
        "IoU of the class between CAM, PACAM and the taught CAM, each at its threshold.",
        *(55, 20),
        "CAM, PACAM and the taught CAM show {name} in different places: their regions share {value:.0f}%.",
        "Look at the maps. Where they light up different things, add images with other surroundings.",
    ),
    "crf": Signal(
        "Agreement of seeds and CRF",
        "IoU of the class before and after the CRF.",
        *(80, 40),
        "The CRF changes the seeds of {name} much: the same class before and after shares {value:.0f}%.",
        "Look at the CRF layer: where it covers background, raise the seeds' threshold; else lower it.",
    ),
    "model": Signal(
        "Agreement of mask and model",
        "IoU of the class between the pseudo-mask and the trained model's prediction, which was not told the labels.",
        *(75, 35),
        "The trained model draws {name} elsewhere than its own pseudo-masks: they share {value:.0f}%.",
        "The masks of this class contradict each other. Correct some of them by hand, see docs/correct_and_retrain.md.",
    ),
    "stray": Signal(
        "Seen where it is not",
        "Share of the pixels that the model calls this class in images without the label.",
        *(5, 40),
        "{value:.0f}% of what the model calls {name} lies in images without this label.",
        "The masks hold something that other images show too, or labels are missing. Look at these images.",
    ),
    "whole": Signal(
        "In one piece",
        "Share of the class's pixels in its largest connected part.",
        *(90, 60),
        "The masks of {name} fall into pieces: the largest part holds {value:.0f}%.",
        "Look at the masks: several objects in an image are fine, crumbs are not.",
    ),
    "spread": Signal(
        "Spread of sizes",
        "Standard deviation of the area in the image, relative to its mean.",
        *(40, 100),
        "The masks of {name} differ much in size: their spread is {value:.0f}% of their mean.",
        "Sort the images of this class: are the objects so different, or do some masks cover the background?",
    ),
    "confidence": Signal(
        "Confidence",
        "Mean probability of the CRF at the class's pixels.",
        *(90, 60),
        "The CRF is sure of {name} to {value:.0f}% only.",
        "Look at the borders of the masks; void pixels there are harmless, wrong parts are not.",
    ),
}

UNLEARNED = (
    "Look at its maps: if they show the surroundings, train the classifier longer (epochs in the section hosts); "
    "if they show the objects, raise segmentation.iterations."
)


def class_signals(label: int, ways: Mapping[str, np.ndarray], confidence: np.ndarray | None) -> dict[str, float]:
    """Signals of one class in one image, in percent; a signal that cannot be computed is left out.

    `ways` are label maps uint8 (H, W): `result`, and of training images `seeds`, `crf`, and those of single maps under
    their names (cam, pacam, taught); `prediction` where the model has seen the image. `confidence` uint8 (H, W) is the
    CRF's.
    """
    regions = {name: way == label for name, way in ways.items()}
    result, void = regions["result"], ways["result"] == VOID
    signals = {"found": 100.0 * bool(result.any()), "area": 100 * float(result.mean())}
    maps = [regions[name] for name in ("cam", "pacam", "taught") if name in regions]
    if shared := [_iou(first, second) for first, second in combinations(maps, 2)]:
        signals["maps"] = float(np.mean(shared))
    if "crf" in regions:
        signals["crf"] = _iou(regions["seeds"], regions["crf"])
        if "prediction" in regions:
            signals["model"] = _iou(result, regions["prediction"] & ~void)
    if result.any():
        pieces = np.bincount(ndimage.label(result)[0].ravel())[1:]
        signals["whole"] = 100 * float(pieces.max() / pieces.sum())
    if confidence is not None and result.any():
        signals["confidence"] = float(confidence[result].mean()) / 2.55
    return signals


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    """Percent; 0 where neither has a pixel: a class that both miss is no agreement."""
    return 100 * float((first & second).sum()) / max(int((first | second).sum()), 1)


def doubt_image(
    signals: Mapping[int, Values], predicted: np.ndarray | None, names: Sequence[str]
) -> tuple[float, list[str]]:
    """How doubtful an image's result is, 0 to 100, and why, the worst first.

    Without labels, only what the model sees counts.

    `signals` as of `class_signals`, by label; `predicted` (K,) are the pixels that the model gives each mask value.
    """
    marks = {
        (label, key): SIGNALS[key].mark(value)
        for label, values in signals.items()
        for key, value in values.items()
        if key in SIGNALS
    }
    reasons = [
        (mark, f"{names[label - 1]}: {_in_image(key, signals[label][key])}")
        for (label, key), mark in marks.items()
        if mark < 0.5 and (key == "found" or signals[label]["found"])
    ]
    if predicted is not None and predicted[1:].any():
        pixels = {
            value: int(count) for value, count in enumerate(predicted) if value and count and value not in signals
        }
        stray = 100 * sum(pixels.values()) / int(predicted[1:].sum())
        marks[0, "stray"] = SIGNALS["stray"].mark(stray)
        if marks[0, "stray"] < 0.5:
            most = names[max(pixels, key=lambda value: pixels[value]) - 1]
            reasons.append((marks[0, "stray"], f"{most}: the model sees it, but it is no label of this image"))
    doubt = 100 * (1 - float(np.mean(list(marks.values())))) if marks else 0.0
    return doubt, [reason for _, reason in sorted(reasons, key=lambda entry: entry[0])[:WORST]]


def _in_image(key: str, value: float) -> str:
    title = SIGNALS[key].title
    return "not found" if key == "found" else f"{title[0].lower()}{title[1:]} {value:.0f}%"


@dataclass(frozen=True)
class JudgedImage:
    """One image as `judge_classes` takes it: its labels; of a training image the signals by label, else none; the
    pixels (K,) that the trained model gives each mask value, None where it has not seen the image."""

    labels: Sequence[int]
    signals: Mapping[int, Values]
    predicted: np.ndarray | None


@dataclass(frozen=True)
class ClassDoubt:
    """What is to be thought of a class's masks. `values` are its signals in percent; `reasons` are pairs of a finding
    and what to do about it, the worst first; `images` is the number of training images. `score` is the mean mark of the
    WORST signals, 0 to 1: a class is as good as what is weakest about it."""

    label: int
    verdict: Verdict
    score: float
    images: int
    values: Values
    reasons: Sequence[tuple[str, str]]


def judge_classes(images: Sequence[JudgedImage], names: Sequence[str]) -> list[ClassDoubt]:
    """The verdict on each class, in the order of `names`."""
    inside, outside = np.zeros(len(names) + 1), np.zeros(len(names) + 1)
    for image in images:
        if image.predicted is not None:
            share = image.predicted / max(int(image.predicted.sum()), 1)
            own = np.isin(np.arange(len(share)), list(image.labels))
            inside, outside = inside + share * own, outside + share * ~own
    verdicts = []
    for label, name in enumerate(names, start=1):
        found = [image.signals[label] for image in images if label in image.signals]
        values = {key: _mean([signals[key] for signals in found if key in signals]) for key in SIGNALS}
        if inside[label] + outside[label]:
            values["stray"] = 100 * float(outside[label] / (inside[label] + outside[label]))
        areas = [signals["area"] for signals in found if signals["area"]]
        if len(areas) > 1:
            values["spread"] = 100 * float(np.std(areas) / np.mean(areas))
        verdicts.append(_judge(label, name, len(found), {key: v for key, v in values.items() if not np.isnan(v)}))
    return verdicts


def judgement_rows(verdicts: Sequence[ClassDoubt], names: Sequence[str]) -> list[dict[str, str | float]]:
    """A row for each class: its name, its score in percent and its verdict."""
    return [
        {"class": names[row.label - 1], "score": round(100 * row.score, 1), "judgement": row.verdict}
        for row in verdicts
    ]


def _judge(label: int, name: str, images: int, values: Values) -> ClassDoubt:
    marks = sorted((SIGNALS[key].mark(value), key) for key, value in values.items())
    score = float(np.mean([mark for mark, _ in marks[:WORST]])) if marks else 0.0
    verdict: Verdict = "trust"
    if score < DOUBTED or images < FEW or (marks and marks[0][0] == 0):
        verdict = "doubt"
    if score < REFUSED or not images:
        verdict = "do not use"
    limit = 0.5 if verdict == "trust" else DOUBTED  # the worst signal of a doubted class always has a mark below it
    reasons = [
        (SIGNALS[key].finding.format(name=name, value=values[key]), SIGNALS[key].cure)
        if key != "model" or "stray" in values  # else the model draws the class in no image
        else (f"The trained model draws {name} nowhere: it has not learned the class.", UNLEARNED)
        for mark, key in marks
        if mark < limit
    ]
    if images < FEW:
        reasons.insert(0, (f"{images} training images show {name}.", f"Add images until there are {FEW} or more."))
    return ClassDoubt(label, verdict, score, images, values, reasons[:WORST])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
