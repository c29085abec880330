"""Labels compared with ground-truth masks, image by image: do the mask values have the right names?"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from cpal.data.masks import VOID
from cpal.sources.listing import ListedImage, Listing

CONTRADICTIONS = 3  # of a class, on average, from which on another order of the values is believed
SHOWN = 6  # classes that one message names


@dataclass(frozen=True)
class ScoredImage:
    """An image with a mask. `labels`: its kept classes. `drawn`: kept classes with a pixel in its mask."""

    image_id: str
    labels: frozenset[str]
    drawn: frozenset[str]


@dataclass(frozen=True)
class WrongOrder:
    """Mask values whose names are exchanged. `evidence`: a line for each class."""

    evidence: tuple[str, ...]
    cure: str

    def problem(self) -> str:
        more = f"; and {len(self.evidence) - SHOWN} more" if len(self.evidence) > SHOWN else ""
        return f"masks show other classes than the labels: {'; '.join(self.evidence[:SHOWN])}{more}: {self.cure}"


def scored_images(
    looked_at: Iterable[tuple[ListedImage, frozenset[str] | None, frozenset[str] | None]],
) -> list[ScoredImage]:
    """Scored images, from the labels and the drawn classes of listed images.

    Images are left out if their labels are unknown, or if the labels come from the masks.
    """
    return [
        ScoredImage(item.image_id, labels, drawn)
        for item, labels, drawn in looked_at
        if item.scored and labels is not None and drawn is not None and (item.names is not None or item.xml is not None)
    ]


def order_of_masks(listing: Listing, scored: Sequence[ScoredImage]) -> WrongOrder | None:
    """Evidence that the names of the listing's mask values are exchanged; None if there is no such evidence."""
    colors = listing.colors.source if listing.colors is not None else None
    return wrong_order(listing.classes, listing.mask_classes, scored, colors)


def undrawn(
    scored: Iterable[tuple[Collection[str], Collection[str] | None]],
    cure: str = f"objects must have the values 1, 2, ... of their classes, and {VOID} is void",
) -> list[str]:
    """Problems of classes that no mask has, from the labels of each scored image and the classes in its mask."""
    known = [(labels, drawn) for labels, drawn in scored if drawn is not None]
    counts = Counter(name for labels, _ in known for name in labels)
    absent = sorted(counts.keys() - {name for _, drawn in known for name in drawn})
    return [
        f"no mask has a pixel of {name}, which {counts[name]} scored image(s) are labeled with; {cure}"
        for name in absent
    ]


def table(names: Sequence[str], images: Sequence[ScoredImage]) -> tuple[np.ndarray, np.ndarray]:
    """bool (images, N) twice: labeled with the class, and drawn."""
    shape = (len(images), len(names))
    labeled = np.array([[name in one.labels for name in names] for one in images], bool).reshape(shape)
    return labeled, np.array([[name in one.drawn for name in names] for one in images], bool).reshape(shape)


def class_counts(classes: Sequence[str], images: Sequence[ScoredImage]) -> list[tuple[int, int, int]]:
    """For each class, how many scored images are labeled with it, have its pixels, and both."""
    labeled, drawn = table(classes, images)
    counts = [matrix.sum(axis=0).tolist() for matrix in (labeled, drawn, labeled & drawn)]
    return list(zip(*counts, strict=True))


def contradictions(classes: Iterable[str], images: Iterable[ScoredImage]) -> tuple[list[str], list[str]]:
    """Images labeled with a class that their mask lacks, and images whose mask shows a class without a label."""
    kept, lacking, unlabeled = set(classes), [], []
    for one in images:
        if missing := sorted((one.labels - one.drawn) & kept):
            lacking.append(f"{one.image_id} ({', '.join(missing)})")
        if extra := sorted((one.drawn - one.labels) & kept):
            unlabeled.append(f"{one.image_id} ({', '.join(extra)})")
    return lacking, unlabeled


def wrong_order(
    classes: Sequence[str], mask_classes: Sequence[str], images: Sequence[ScoredImage], colors: str | None = None
) -> WrongOrder | None:
    """The right names of the mask values, if another order fits the labels far better; else None.

    `colors`: name of the table of colors, if the masks are colored.
    """
    values = list(dict.fromkeys(mask_classes))
    rows = [name for name in classes if name in values and any(name in one.labels for one in images)]
    if not rows:
        return None
    labeled, drawn = table(rows, images)[0], table(values, images)[1]
    both = labeled.T.astype(int) @ drawn.astype(int)
    differing = labeled.sum(axis=0)[:, None] + drawn.sum(axis=0)[None, :] - 2 * both  # images that contradict
    own = np.array([values.index(name) for name in rows])
    favored = differing - 0.25 * (own[:, None] == np.arange(len(values)))
    fitting = linear_sum_assignment(favored)[1]
    moved = np.flatnonzero((fitting != own) & (both[np.arange(len(rows)), fitting] > 0))
    if not _is_sure(moved, own, fitting, both, differing):
        return None
    evidence = [
        f"{rows[r]}: {labeled[:, r].sum()} images, {both[r, own[r]]} with {rows[r]} in the mask, "
        f"{both[r, fitting[r]]} with {values[fitting[r]]}"
        for r in moved
    ]
    found = {values[fitting[r]]: rows[r] for r in range(len(rows)) if both[r, fitting[r]]}
    return WrongOrder(tuple(evidence), _cure(found, rows, mask_classes, colors))


def _is_sure(moved: np.ndarray, own: np.ndarray, fitting: np.ndarray, both: np.ndarray, differing: np.ndarray) -> bool:
    """Whether exchanged names explain the contradictions: nearly all disappear, and few images support the old names.

    The second condition does not apply if the classes only change places among themselves: classes that are often
    together support both orders.
    """
    if not len(moved):
        return False
    before, after = differing[moved, own[moved]].sum(), differing[moved, fitting[moved]].sum()
    among_themselves = set(own[moved].tolist()) == set(fitting[moved].tolist())
    unlike = all(both[r, own[r]] <= 0.2 * both[r, fitting[r]] for r in moved)
    return bool(before >= CONTRADICTIONS * len(moved) and before >= 4 * after and (among_themselves or unlike))


def _cure(found: dict[str, str], rows: Sequence[str], mask_classes: Sequence[str], colors: str | None) -> str:
    """`found`: the class that the labels give to the mask values of each name."""
    values = list(dict.fromkeys(mask_classes))
    if colors is not None:
        pairs = [f"the color of {name} is {right}" for name, right in found.items() if name != right]
        return f"exchange names in {colors}: {', '.join(pairs[:SHOWN])}"
    shifted = all(values.index(right) == values.index(name) + 1 for name, right in found.items())
    if shifted and values[0] in rows:
        return f"the values begin at 0 ({values[0]}), which is background: add 1 to every value of the masks but void"
    left = [name for name in values if name not in found.values()]
    for name in [name for name in values if name not in found and name in left]:
        found = found | {name: name}
        left.remove(name)
    right = [found[name] if name in found else left.pop(0) for name in values]
    order = dict(zip(values, right, strict=True))
    return f"put data.mask_classes in the order {', '.join(order[name] for name in mask_classes)}"
