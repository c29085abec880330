"""The paper's equations as pure tensor functions, one function for each equation, and the support bank.

Shapes: B images, K classes with background first, D feature channels, h w map, L bank entries per class,
P context prototypes (paper N_p), T soft neighbours (paper K). Invalid entries are marked by boolean masks.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Metric = Literal["dot", "cosine", "l1", "l2"]
Contrast = Literal["none", "difference", "ratio", "normalized"]
EPSILON = 1e-5


def prototype_masks(cam: Tensor, *, threshold: float, background_threshold: float, exclusive: bool) -> Tensor:
    """P_n = 1(M_n > tau), the pixels that make a class's instance prototype, Eq. 4.

    cam (B, K, h, w) in [0, 1], background first, zero for absent classes -> (B, K, h, w) of 0/1.
    Paper: one threshold. Ours: another one for background, because with M_b = 1 - max nearly every pixel passes 0.1.
    With `exclusive`, a pixel counts only for its strongest foreground class, so that classes do not share pixels.
    """
    foreground = cam[:, 1:]
    mask = foreground > threshold
    if exclusive:
        mask &= foreground == foreground.amax(dim=1, keepdim=True)
    return torch.cat([cam[:, :1] > background_threshold, mask], dim=1).to(cam.dtype)


def structure_masks(features: Tensor, cam: Tensor, *, background_scale: float = 0.5) -> Tensor:
    """SIPE's structure-aware seed: a pixel belongs to the class whose CAM overlaps most with similar pixels.

    features (B, D, h, w), cam (B, K, h, w) in [0, 1], background first, zero for absent classes -> (B, K, h, w) of
    0/1, one class a pixel. The similarity of two pixels is the ReLU of their cosine. Overlap is the soft IoU of a CAM
    and a pixel's similarities, times `background_scale` for background (SIPE: 0.5). Memory grows with (h w) squared.
    """
    unit = F.normalize(features.flatten(2), dim=1)
    alike = F.relu(torch.einsum("bdp,bdq->bpq", unit, unit))
    flat = cam.flatten(2)
    overlap = torch.einsum("bpq,bkq->bkp", alike, flat)
    union = alike.sum(dim=2)[:, None] + flat.sum(dim=2)[..., None] - overlap
    iou = overlap / union.clamp(min=EPSILON)
    iou[:, 0] *= background_scale
    return F.one_hot(iou.argmax(dim=1), cam.shape[1]).transpose(1, 2).view_as(cam).to(cam.dtype)


def instance_prototypes(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """P^I_n: mean feature under each class's mask, masked average pooling, Eq. 4.

    features (B, D, h, w), mask (B, K, h, w) of 0/1 -> prototypes (B, K, D), present (B, K) bool.
    A class without a mask pixel gets zeros and present = False.
    """
    area = mask.sum(dim=(2, 3))
    total = torch.einsum("bdhw,bkhw->bkd", features, mask)
    return total / area.clamp(min=1)[..., None], area > 0


class SupportBank(nn.Module):
    """C: the latest L instance prototypes of each class, first in first out.

    Its buffers are in checkpoints: entries (K, L, D), and seen (K,), the number of instances stored so far. Instance
    number i of a class is in slot i modulo L.
    """

    entries: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, length: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("entries", torch.zeros(num_classes, length, channels))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, prototypes: Tensor, present: Tensor) -> None:
        """Replace the oldest entries by the present prototypes of (B, K, D), in the order of the batch; present (B, K).

        No size depends on a value, so a GPU never waits. The absent prototypes of a class are placed after its present
        ones, in slots that keep their entries.
        """
        length, classes = self.entries.shape[1], torch.arange(len(self.seen), device=self.seen.device)
        for rows, here in zip(prototypes.to(self.entries).split(length), present.split(length), strict=True):
            count = here.sum(dim=0)
            order = torch.where(here, here.cumsum(dim=0) - 1, count + (~here).cumsum(dim=0) - 1)
            slots = (self.seen + order) % length
            self.entries[classes, slots] = torch.where(here[..., None], rows, self.entries[classes, slots])
            self.seen += count

    @torch.no_grad()
    def extend(self, other: "SupportBank") -> None:
        """Store the instances of another bank of this length, as if this bank had stored each of them itself."""
        for k, last in enumerate((self.seen + other.seen).tolist()):
            kept = other.latest(k)
            self.entries[k, torch.arange(last - len(kept), last, device=self.seen.device) % self.entries.shape[1]] = (
                kept
            )
        self.seen += other.seen

    def latest(self, k: int) -> Tensor:
        """The entries (C, D) of class k, the oldest first."""
        length, seen = self.entries.shape[1], int(self.seen[k])
        slots = torch.arange(max(0, seen - length), seen, device=self.seen.device) % length
        return self.entries[k, slots]

    def clear(self) -> None:
        """Forget all entries."""
        self.seen.zero_()

    def valid(self) -> Tensor:
        """(K, L) bool: which slots are filled."""
        return torch.arange(self.entries.shape[1], device=self.seen.device) < self.seen[:, None]


def context_prototypes(
    bank: Tensor,
    filled: Tensor,
    *,
    num_prototypes: int,
    iterations: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """p_i: means of the groups that k-means finds among each class's bank entries, Eq. 5.

    bank (K, L, D), filled (K, L) bool -> context (K, P, D), valid (K, P) bool. If a class has fewer entries
    than P, each entry is a prototype. Groups are found by angle; each mean is that of the entries as stored (Eq. 5).
    Paper: algorithm unnamed. Ours: k-means++ seeds from `generator` (on the CPU), all classes at once as matrix
    products, at most `iterations` rounds; a group that runs empty keeps its center.
    """
    unit = F.normalize(bank, dim=-1)
    centers, valid = _kmeans_seeds(unit, filled, num_prototypes, generator)
    group = torch.zeros(bank.shape[:2], dtype=torch.long, device=bank.device)
    for _ in range(iterations):
        similarity = torch.einsum("kld,kpd->klp", unit, centers).masked_fill(~valid[:, None], -torch.inf)
        nearest = similarity.argmax(dim=-1)
        mean, size = _group_mean(unit, nearest, filled, num_prototypes)
        centers = torch.where(size[..., None] > 0, F.normalize(mean, dim=-1), centers)
        if torch.equal(nearest, group):
            break
        group = nearest
    mean, size = _group_mean(bank, group, filled, num_prototypes)
    return mean, size > 0


def _kmeans_seeds(
    unit: Tensor, filled: Tensor, num_prototypes: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """k-means++ on unit vectors: (K, L, D) -> centers (K, P, D), valid (K, P)."""
    num_classes, length, channels = unit.shape
    centers = unit.new_zeros(num_classes, num_prototypes, channels)
    count = min(num_prototypes, length)
    draws = torch.rand(count, num_classes, generator=generator).T.to(unit)
    for k in range(num_classes):  # class by class, since the entries of one class fit into the processor's cache
        distance = filled[k].to(unit.dtype)
        for p in range(count):
            weight = distance.cumsum(dim=0)
            choice = torch.searchsorted(weight, draws[k, p : p + 1] * weight[-1:], right=True).clamp(max=length - 1)
            centers[k, p] = unit[k].index_select(0, choice)[0]
            gap = 1 - unit[k] @ centers[k, p]
            # An entry already chosen must not be drawn again, whatever rounding leaves of its distance.
            distance = torch.minimum(distance, gap.clamp(min=0)).index_fill(0, choice, 0.0)
    order = torch.arange(num_prototypes, device=unit.device)
    return centers, order < filled.sum(dim=1, keepdim=True)


def _group_mean(vectors: Tensor, group: Tensor, filled: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Mean of each group's vectors: (K, L, D), group (K, L) -> (K, P, D), size (K, P)."""
    member = F.one_hot(group, num_groups).to(vectors.dtype) * filled[..., None]
    size = member.sum(dim=1)
    return torch.einsum("klp,kld->kpd", member, vectors) / size.clamp(min=1)[..., None], size


class Context(NamedTuple):
    """Context prototypes p_i, and values of them that Eq. 6, 7, 12 and 13 use many times, computed once.

    prototypes (K, P, D), valid (K, P) bool, unit (K, P, D) of length 1, mean (K, D), see `mean_context`.
    """

    prototypes: Tensor
    valid: Tensor
    unit: Tensor
    mean: Tensor

    @classmethod
    def of(cls, prototypes: Tensor, valid: Tensor) -> "Context":
        return cls(prototypes, valid, F.normalize(prototypes, dim=-1), mean_context(prototypes, valid))


def positiveness(anchor: Tensor, context: Context, *, metric: Metric, temperature: float) -> Tensor:
    """w_i: how far each context prototype shares the instance's attributes, Eq. 7 and Table 3.

    anchor (B, K, D), context of K classes -> (B, K, P); rows sum to 1 (to 0 for a class without context).
    Paper: softmax of the dot product with an unstated factor gamma. Ours: a temperature inside the softmax;
    distances enter with a minus sign.
    """
    if metric == "dot":
        score = torch.einsum("bkd,kpd->bkp", anchor, context.prototypes)
    elif metric == "cosine":
        score = torch.einsum("bkd,kpd->bkp", F.normalize(anchor, dim=-1), context.unit)
    else:
        power = {"l1": 1.0, "l2": 2.0}[metric]
        score = -torch.cdist(anchor.transpose(0, 1), context.prototypes, p=power).transpose(0, 1)
    weight = (score / temperature).masked_fill(~context.valid, -torch.inf).softmax(dim=-1)
    return weight.nan_to_num(0.0)


def soft_neighbors(
    anchor: Tensor, context: Context, weight: Tensor, *, topk: int, rank_by: str
) -> tuple[Tensor, Tensor]:
    """The T context prototypes nearest to the anchor, Eq. 6.

    anchor (B, K, D), weight (B, K, P) -> index (B, K, T), weight (B, K, T), zero where a class has fewer than T.
    rank_by: weighted w_i (1 + cos(p_i, P)) | cosine (Eq. 6 literally, where the positive w_i cancels) | weight.
    """
    cosine = torch.einsum("bkd,kpd->bkp", F.normalize(anchor, dim=-1), context.unit)
    # Cosines may be negative: shifted into [0, 2] a larger weight never lowers a rank.
    rank = {"weighted": weight * (1 + cosine), "cosine": 1 + cosine, "weight": weight}[rank_by]
    index = rank.masked_fill(~context.valid, -1.0).topk(min(topk, rank.shape[-1]), dim=-1).indices
    # A softmax may underflow to 0, which is to mark missing neighbors only.
    chosen = weight.gather(-1, index).clamp(min=torch.finfo(weight.dtype).tiny)
    return index, chosen * context.valid.expand_as(weight).gather(-1, index)


def mean_context(context: Tensor, valid: Tensor) -> Tensor:
    """Mean of each class's context prototypes: context (K, P, D), valid (K, P) -> (K, D), zeros without context."""
    groups = valid.to(context.dtype)
    return torch.einsum("kpd,kp->kd", context, groups) / groups.sum(1).clamp(min=1)[:, None]


def alignment_shift(prototypes: Tensor, present: Tensor, context: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """delta_n: mean context prototype minus mean instance prototype of the batch, Eq. 12.

    prototypes (B, K, D), present (B, K), context (K, P, D), valid (K, P) -> shift (K, D), measured (K,) bool.
    A class without instances or without context has no shift: zeros and measured = False.
    """
    instances = present.to(prototypes.dtype)
    mean_instance = torch.einsum("bkd,bk->kd", prototypes, instances) / instances.sum(0).clamp(min=1)[:, None]
    measured = present.any(dim=0) & valid.any(dim=1)
    return (mean_context(context, valid) - mean_instance) * measured[:, None], measured


def prototype_aware_cam(unit: Tensor, context: Context, index: Tensor, weight: Tensor, *, weighting: str) -> Tensor:
    """PACAM: ReLU of the features' cosine with the soft neighbours, aggregated, Eq. 13.

    unit (B, D, h, w), features of length 1; index and weight (B, K, T) -> (B, K, h, w) in [0, 1].
    weighting: mean of the cosines by w_i / sum w (Claim 1) | none, the plain mean over the T chosen, which is Eq. 13
    literally, since the cosine ignores the scale w_i | fuse, the cosine with sum w_i p_i.
    The cosine is linear in the unit feature, so the T weighted unit prototypes are folded into one vector per image
    and class, and the maps are one matrix product instead of T.
    """
    chosen = weight > 0
    share = chosen.to(weight.dtype) if weighting == "none" else weight
    share = share / share.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
    source = context.prototypes if weighting == "fuse" else context.unit
    # Scatter the T shares over the P prototypes: a product with the context then needs no (B, K, T, D) gather.
    spread = share.new_zeros(*share.shape[:2], source.shape[1]).scatter_add(-1, index, share)
    folded = torch.einsum("bkp,kpd->bkd", spread, source)
    if weighting == "fuse":
        folded = F.normalize(folded, dim=-1)
    return F.relu(torch.einsum("bdhw,bkd->bkhw", unit, folded))


def contrast(similarity: Tensor, mode: Contrast) -> Tensor:
    """Make the classes' similarity maps comparable with a background score: (B, K, h, w) -> (B, K, h, w) in [0, 1].

    none: each map over its own maximum (SIPE). difference: ReLU(class - background) over its maximum. ratio:
    class / (class + background), 0.5 where the two are equal. normalized: the ratio of the maps over their maxima, so
    that 0.5 is where SIPE's argmax changes sides. Background itself becomes s / max (none), 1 - max over the classes
    (difference) or 0.5 (ratio, normalized). Ours: the cosines of all classes are high everywhere, so an object stands
    out only where a pixel is nearer to its class than to the background of the same image.
    """
    if mode in ("none", "normalized"):
        similarity = similarity / (similarity.amax(dim=(2, 3), keepdim=True) + EPSILON)
    if mode == "none":
        return similarity
    background, foreground = similarity[:, :1], similarity[:, 1:]
    if mode == "difference":
        foreground = F.relu(foreground - background)
        foreground = foreground / (foreground.amax(dim=(2, 3), keepdim=True) + EPSILON)
        return torch.cat([1 - foreground.amax(dim=1, keepdim=True), foreground], dim=1)
    foreground = foreground / (foreground + background + EPSILON)
    return torch.cat([torch.full_like(background, 0.5), foreground], dim=1)


def self_supervised_loss(cam: Tensor, pacam: Tensor, valid: Tensor) -> Tensor:
    """L_Self = |M - PACAM|_1 / (N + 1), the mean over images, classes and pixels, Eq. 14.

    cam and pacam (B, K, h, w), valid (B, 1, h, w) of 0/1 leaves padding out -> scalar.
    Absent classes must be zero in both; they count in the mean, as in SIPE.
    """
    difference = (cam - pacam).abs() * valid
    return difference.sum() / (valid.sum() * cam.shape[1]).clamp(min=1)


def ocsem(prototypes: Tensor, present: Tensor, context: Tensor, valid: Tensor) -> Tensor:
    """OCSEM: how often an instance is nearer to a context prototype than to all others of its class, Eq. 8.

    Paper: the mean over i and q of [cos(p_i, P_q) > max over h != i]. That is always 1/P, whatever alignment does; only
    the value of the highest cosine can change. Ours: the mean over present instances of the highest cosine with a
    context prototype.
    prototypes (B, K, D) -> scalar.
    """
    cosine = torch.einsum("bkd,kpd->bkp", F.normalize(prototypes, dim=-1), F.normalize(context, dim=-1))
    best = cosine.masked_fill(~valid, -torch.inf).amax(dim=-1)
    counted = present & valid.any(dim=1)
    return best[counted].mean() if counted.any() else best.new_zeros(())
