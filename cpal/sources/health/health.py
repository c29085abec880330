"""The health of a listed data set: findings, and the counts behind them."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from joblib import delayed

from cpal.data.dataset import Split
from cpal.running.parallel import processes
from cpal.settings.config import Config
from cpal.sources.health.class_findings import multi_hot, of_classes, of_length, of_names, of_settings, of_unlabeled
from cpal.sources.health.file_findings import (
    CheckedImage,
    Finding,
    Severity,
    of_agreement,
    of_copies,
    of_files,
    of_labels,
    of_left_over,
    of_masks,
    of_passed_over,
    of_shapes,
    printable,
)
from cpal.sources.health.image_facts import read_facts
from cpal.sources.labels_and_masks import class_counts, scored_images
from cpal.sources.listing import LabelOrigin, ListedImage, Listing, Progress, silent
from cpal.sources.problems import some
from cpal.sources.read_listed import read_names

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
COLUMNS = 100
NAMES = 10  # of a finding, for a start
TABLE = 25  # classes up to which all pairs are printed
PAIRS = 20  # strongest pairs that are printed for more classes


@dataclass(frozen=True)
class Health:
    """Findings and counts. `complete`: every listed image was read. `labels`: how their file was understood.

    `together` (N, N): number of training images that show both classes; on the diagonal, that show the class.
    `alone`: training images that show the class and no other class. `val`: validation images that show the class.
    `scored`: scored images that are labeled with the class, that have its pixels, and both; empty if labels come from
    masks. `short`, `long`: smallest, median and largest side in pixels; None if no image can be read.
    """

    root: str
    labels: str
    complete: bool
    lists: dict[str, str]
    images: dict[Split, int]
    findings: tuple[Finding, ...]
    classes: tuple[str, ...]
    together: tuple[tuple[int, ...], ...]
    alone: tuple[int, ...]
    val: tuple[int, ...]
    scored: tuple[tuple[int, int, int], ...]
    short: tuple[int, int, int] | None
    long: tuple[int, int, int] | None

    def count(self, severity: Severity) -> int:
        return sum(finding.severity == severity for finding in self.findings)


def look_at_all(listing: Listing, *, workers: int, progress: Progress = silent) -> list[CheckedImage]:
    """Read every listed image, mask and annotation, training images first. Problems are returned and not raised."""
    items = sorted(listing.images, key=lambda item: item.split != "train")
    if not items:  # joblib warns of a generator that nobody reads
        return []
    shared = replace(listing, images=(), origin=LabelOrigin())  # each task is sent its own image, not all of them
    looks = processes(workers)(delayed(look_at)(shared, item) for item in items)
    return list(progress(looks, total=len(items), what="check images"))


def look_at(listing: Listing, item: ListedImage) -> CheckedImage:
    facts, problems = read_facts(item.image), list[str]()
    names, drawn = read_names(item, facts.size and facts.size[::-1], listing.mask_classes, problems, listing.colors)
    if names is None:
        return CheckedImage(item, facts, None, tuple(problems), drawn)
    classes = set(listing.classes)
    return CheckedImage(item, facts, names & classes, tuple(problems), drawn, names - classes)


def examine(listing: Listing, seen: Sequence[CheckedImage], config: Config, *, complete: bool = True) -> Health:
    """All findings, errors first. `complete` False: only a part was listed, so that classes are not judged."""
    train, val = (multi_hot(listing.classes, seen, split) for split in ("train", "val"))
    sides = np.array([sorted(one.facts.size) for one in seen if one.facts.size]).reshape(-1, 2)
    scored = scored_images((one.item, one.labels, one.drawn) for one in seen)
    findings = [Finding("error", "listing", printable(problem)) for problem in listing.problems]
    findings += [*of_copies(seen), *of_files(seen), *of_labels(seen), *of_masks(seen, config.data), *of_shapes(seen)]
    if complete and seen:
        findings += of_agreement(listing, seen, scored)
        findings += of_names(listing, seen, config.data)
        findings += of_classes(listing.classes, train, val, listing.splits, config)
        findings += [*of_left_over(listing, config.data), *of_passed_over(listing, config.data)]
        findings += of_length(len(train), config)
    if seen and not any(one.item.split == "val" for one in seen):
        findings.append(
            Finding("warning", "no_val", "no image to validate on", (), "nothing tells how good the model is")
        )
    findings += of_unlabeled(seen, config.data.without_labels)
    if len(sides):
        findings += of_settings(sides[:, 1], config)
    shown = train.astype(int)
    return Health(
        root=printable(str(listing.root)),
        labels=printable(listing.origin.told),
        complete=complete,
        lists=listing.splits,
        images={split: sum(one.item.split == split for one in seen) for split in ("train", "val")},
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        classes=listing.classes,
        together=tuple(map(tuple, (shown.T @ shown).tolist())),
        alone=tuple(shown[shown.sum(axis=1) == 1].sum(axis=0).tolist()),
        val=tuple(val.sum(axis=0).tolist()),
        scored=tuple(class_counts(listing.classes, scored)) if scored else (),
        short=_spread(sides[:, 0]),
        long=_spread(sides[:, 1]),
    )


def _spread(values: np.ndarray) -> tuple[int, int, int] | None:
    return (int(values.min()), int(np.median(values)), int(values.max())) if len(values) else None


def health_text(health: Health) -> str:
    """Plain text of at most 100 columns, except for long paths."""
    train, val = (f"{health.images[split]} images of {printable(health.lists[split])}" for split in ("train", "val"))
    parts = [f"{health.root}: {train} to learn from, {val} to validate"]
    if health.labels:
        parts.append(f"Labels: {health.labels}")
    if not health.complete:
        parts.append("Only the first images of each list: nothing is said of classes and left-over files.")
    for severity in SEVERITIES:
        findings = [_item(finding) for finding in health.findings if finding.severity == severity]
        if findings:
            parts.append("\n".join([f"{severity.capitalize()}s", *findings]))
    if sum(health.images.values()):
        pairs = _pair_table if len(health.classes) <= TABLE else _pair_list
        parts += [_class_table(health), _scored_table(health), pairs(health), _sizes(health)]
    numbers = [(health.count(severity), severity) for severity in SEVERITIES]
    parts.append(", ".join(f"{number} {severity}{'' if number == 1 else 's'}" for number, severity in numbers))
    return "\n\n".join(part for part in parts if part)


def _item(finding: Finding) -> str:
    lines = _wrapped(finding.text, "- ", 2)
    if finding.names:
        lines += _wrapped(some(finding.names, NAMES), "", 4)
    return "\n".join(lines + _wrapped(finding.cure, "-> ", 4))


def _wrapped(text: str, start: str, indent: int) -> list[str]:
    first = " " * indent + start
    return textwrap.wrap(
        text,
        COLUMNS,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _class_table(health: Health) -> str:
    lines = [f"{'Classes':20s}{'training':>12s}{'of these alone':>18s}{'validation':>14s}"]
    for n, name in enumerate(health.classes):
        lines.append(f"  {printable(name):18s}{health.together[n][n]:12d}{health.alone[n]:18d}{health.val[n]:14d}")
    return "\n".join(lines)


def _scored_table(health: Health) -> str:
    """Labels against masks; empty if both agree on every image."""
    if all(labeled == drawn == both for labeled, drawn, both in health.scored):
        return ""
    lines = [f"{'Scored images':20s}{'labeled':>12s}{'in the mask':>18s}{'both':>14s}"]
    for name, (labeled, drawn, both) in zip(health.classes, health.scored, strict=True):
        lines.append(f"  {printable(name):18s}{labeled:12d}{drawn:18d}{both:14d}")
    return "\n".join(lines)


def _pairs(health: Health) -> list[tuple[int, int, int]]:
    """(number of training images with both classes, class, class), the most frequent pair first."""
    pairs = [(health.together[a][b], a, b) for a, b in combinations(range(len(health.classes)), 2)]
    return sorted((pair for pair in pairs if pair[0]), key=lambda pair: -pair[0])


def _pair_table(health: Health) -> str:
    """All pairs of classes that have training images, in blocks of columns that fit."""
    pairs = _pairs(health)
    shown = [n for n in range(len(health.classes)) if health.together[n][n]]
    if not pairs:
        return ""
    width = 2 + max(len(str(pairs[0][0])), len(str(len(shown))))
    at_once = (COLUMNS - 20) // width
    lines = ["Training images that show both classes"]
    for start in range(0, len(shown), at_once):
        columns = shown[start : start + at_once]
        lines.append(" " * 20 + "".join(f"{start + number:{width}d}" for number in range(1, len(columns) + 1)))
        for number, a in enumerate(shown, 1):
            cells = ("-" if a == b else str(health.together[a][b] or ".") for b in columns)
            name = printable(health.classes[a])
            lines.append(f"{number:4d} {name:15.15s}" + "".join(f"{cell:>{width}s}" for cell in cells))
    return "\n".join(lines)


def _pair_list(health: Health) -> str:
    """The most frequent pairs."""
    pairs = _pairs(health)
    if not pairs:
        return ""
    lines = [f"Training images that show both classes ({min(PAIRS, len(pairs))} of {len(pairs)} pairs)"]
    names = [printable(name) for name in health.classes]
    return "\n".join([*lines, *(f"{count:8d}  {names[a]}, {names[b]}" for count, a, b in pairs[:PAIRS])])


def _sizes(health: Health) -> str:
    if health.short is None or health.long is None:
        return ""
    short, long = ("{:>10d}{:>10d}{:>10d}".format(*side) for side in (health.short, health.long))
    header = f"{'Sides in pixels':20s}{'smallest':>10s}{'median':>10s}{'largest':>10s}"
    return f"{header}\n  {'short':18s}{short}\n  {'long':18s}{long}"
