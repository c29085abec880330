"""CPAL as a plug-in for any network that yields features and a CAM.

from cpal import ContextPrototypeLearner, CpalSettings

learner = ContextPrototypeLearner(num_foreground, [channels], CpalSettings.preset("default"), seed=0)
learner.cluster()                                          # at the start of each epoch
pacam, self_loss = learner([features], cam, image_label)   # in each step; add a share of self_loss to your loss
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from cpal.hosts import Host
from cpal.method import cam as cams
from cpal.method import prototypes as P
from cpal.settings.cpal import CpalSettings


class Instances(NamedTuple):
    """One step's view: features z (B, D, h, w), M and its mask (B, K, h, w), prototypes (B, K, D), present (B, K).

    unit: z of length 1. context: the context prototypes of this step. inside (B, 1, h, w): 0 on padding, 1 elsewhere.
    """

    features: Tensor
    unit: Tensor
    context: P.Context
    inside: Tensor
    maps: Tensor
    mask: Tensor
    prototypes: Tensor
    present: Tensor


class ContextPrototypeLearner(nn.Module):
    """Support bank, context prototypes and alignment shift, in buffers that checkpoints hold.

    `channels` are those of the feature maps handed in, which are joined to z; with settings.projection each passes a
    1x1 convolution first and is detached, as in SIPE, so that L_Self reaches the network through M only. `features`,
    `self_weight` and `self_start_epoch` of the settings are for the pipeline's training: here the caller picks the
    maps, weighs L_Self and decides when it begins.
    """

    context: Tensor
    valid: Tensor
    shift: Tensor
    clusterings: Tensor

    def __init__(
        self,
        num_foreground: int,
        channels: Sequence[int],
        settings: CpalSettings,
        *,
        seed: int,
    ) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        num_classes = num_foreground + 1
        self.projections = nn.ModuleList(
            nn.Conv2d(width, settings.projection, 1, bias=False) if settings.projection else nn.Identity()
            for width in channels
        )
        size = len(channels) * settings.projection if settings.projection else sum(channels)
        self.bank = P.SupportBank(num_classes, settings.bank_length, size)
        self.register_buffer("context", torch.zeros(num_classes, settings.num_prototypes, size))
        self.register_buffer("valid", torch.zeros(num_classes, settings.num_prototypes, dtype=torch.bool))
        self.register_buffer("shift", torch.zeros(num_classes, size))
        self.register_buffer("clusterings", torch.zeros((), dtype=torch.long))

    def forward(
        self,
        features: Sequence[Tensor],
        cam: Tensor,
        image_label: Tensor,
        *,
        padding: Tensor | None = None,
        probability: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """PACAM (B, K, h, w) in [0, 1] and L_Self, a scalar; in training mode the bank learns the instances.

        features: maps (B, D, h', w'); cam (B, N, h, w) before the ReLU; image_label (B, N) of 0/1; padding
        (B, h, w) bool marks cells outside the picture; probability (B, N), what the network's classifier gives each
        class, is needed with settings.min_probability. L_Self leaves out images with a class that has no context yet.
        """
        step = self.instances(features, cam, image_label, padding=padding)
        if self.training:
            self.enqueue(step, probability)
        labels = self._with_background(image_label)
        similarity = self.similarity(step, image_label)
        pacam = P.contrast(similarity, self.settings.contrast)
        target = P.contrast(similarity, self.settings.target_contrast)
        if self.settings.detach_target:
            target = target.detach()
        ready = (self.valid.any(dim=1) | (labels == 0)).all(dim=1)
        return pacam, P.self_supervised_loss(step.maps, target, step.inside * ready[:, None, None, None])

    def instances(
        self,
        features: Sequence[Tensor],
        cam: Tensor,
        image_label: Tensor,
        *,
        padding: Tensor | None = None,
        refinements: int | None = None,
    ) -> Instances:
        """z, M and the instance prototypes of a batch (Eq. 3 and 4); padding belongs to no class.

        `refinements` overrules the setting: 0 gives the instances of the CAM's masks.
        """
        settings = self.settings
        if len(features) != len(self.projections):
            raise ValueError(f"{len(features)} feature maps for a learner of {len(self.projections)}")
        z = self.embed(features, cam.shape[2:])
        inside = torch.ones_like(cam[:, :1]) if padding is None else (~padding[:, None]).to(cam.dtype)
        cam = cam * inside  # a map's maximum, by which it is divided, may lie on padding
        normalized = cams.normalize(cam, image_label)
        everything = cams.normalize(cam, torch.ones_like(image_label)) if settings.background_from == "all" else None
        maps = cams.with_background(normalized, everything) * inside
        if settings.mask == "structure":
            mask = P.structure_masks(z.detach() * inside, maps.detach())
        else:
            mask = P.prototype_masks(
                maps.detach(),
                threshold=settings.mask_threshold,
                background_threshold=settings.background_threshold,
                exclusive=settings.mask_exclusive,
            )
        mask = mask * inside
        context = P.Context.of(self.context, self.valid)
        step = Instances(z, F.normalize(z, dim=1), context, inside, maps, mask, *self._masked_means(z, mask))
        rounds = settings.refinements if refinements is None else refinements
        for _ in range(rounds if rounds and self.valid.any() else 0):  # without contexts, nothing would change
            step = self._refined(step, image_label)
        return step

    def _masked_means(self, z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        prototypes, present = P.instance_prototypes(z, mask)
        if self.settings.normalize_prototypes:
            prototypes = F.normalize(prototypes, dim=-1)
        return prototypes, present

    def _refined(self, step: Instances, image_label: Tensor) -> Instances:
        """Compute the instances again, with masks from their own PACAM (ours); unchanged where there is no context yet.

        A CAM's masks hold much background: on photographs about half of their pixels. The contexts, means over many
        images, tell object from background better than any single mask.
        """
        with torch.no_grad():
            mask = P.prototype_masks(
                self.difference(step, image_label),
                threshold=self.settings.refined_threshold,
                background_threshold=self.settings.refined_background,
                exclusive=self.settings.mask_exclusive,
            )
            mask = mask * step.inside
        prototypes, present = self._masked_means(step.features, mask)
        known = self.valid.any(dim=1)
        better = present & known & known[0]
        return step._replace(
            mask=torch.where(better[..., None, None], mask, step.mask),
            prototypes=torch.where(better[..., None], prototypes, step.prototypes),
            present=step.present | better,
        )

    def difference(self, step: Instances, image_label: Tensor) -> Tensor:
        """PACAM as relu(s - b) / max, whatever `contrast` is: over its maximum it means the same for any features."""
        return P.contrast(self.similarity(step, image_label), "difference")

    def embed(self, features: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """z = v(f): maps (B, D, h', w') -> (B, sum of D, h, w)."""
        blocks = []
        for projection, block in zip(self.projections, features, strict=True):
            block = projection(block.detach() if self.settings.projection else block)
            if self.settings.normalize_features:
                block = F.normalize(block, dim=1)
            if block.shape[2:] != tuple(size):
                block = F.interpolate(block, size=tuple(size), mode="bilinear", align_corners=False)
            blocks.append(block)
        return torch.cat(blocks, dim=1)

    @torch.no_grad()
    def enqueue(self, step: Instances, probability: Tensor | None = None) -> None:
        """Store the batch's instances, unshifted.

        In training mode these are the instances of all ranks, and with `align: ema` the running shift (Eq. 12) is
        updated. In evaluation mode the shift stays, so that no result depends on the order of the images. With
        settings.min_probability the classes that `probability` (B, N) gives less are left out. Raises ValueError when
        that setting needs probabilities and there are none.
        """
        present = step.present
        if self.settings.min_probability:
            if probability is None:
                raise ValueError(
                    "min_probability needs `probability`, what the classifier gives each class; hand it in"
                )
            present = present & self._with_background(probability >= self.settings.min_probability).bool()
        prototypes, present = self._gathered(step.prototypes.detach()), self._gathered(present)
        self.bank.enqueue(prototypes, present)
        if self.settings.align == "ema" and self.training:
            shift, measured = P.alignment_shift(prototypes, present, self.context, self.valid)
            rate = (1 - self.settings.align_momentum) * measured[:, None]
            self.shift += rate * (shift - self.shift)

    @torch.no_grad()
    def cluster(self) -> None:
        """Renew the context prototypes from the bank (Eq. 5); the paper does it at the beginning of each epoch."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + int(self.clusterings))
        context, valid = P.context_prototypes(
            self.bank.entries,
            self.bank.valid(),
            num_prototypes=self.settings.num_prototypes,
            iterations=self.settings.kmeans_iterations,
            generator=generator,
        )
        self.context.copy_(F.normalize(context, dim=-1) if self.settings.normalize_prototypes else context)
        self.valid.copy_(valid)
        self.clusterings += 1
        if self.settings.align == "bank":
            self.measure_shift()

    @torch.no_grad()
    def measure_shift(self) -> None:
        """delta of Eq. 12 over everything in the bank instead of a batch: what inference on one image can use."""
        shift, _ = P.alignment_shift(
            self.bank.entries.transpose(0, 1),
            self.bank.valid().T,
            self.context,
            self.valid,
        )
        self.shift.copy_(shift)

    @torch.no_grad()
    def scaled_shift(self, step: Instances) -> Tensor:
        """The shift of Eq. 12 times its strength, for each image's instances (B, K, D) or for all alike (1, K, D).

        `batch` computes the shift from the instances of the batch, as printed; `instance` from those of each image
        (ours), as inference does, whose batch is one image. At a strength of 1 the shift moves the anchor onto the mean
        of the class's contexts; at less, to a point on the line between them.
        """
        settings = self.settings
        match settings.align:
            case "ema" | "bank":
                shift = self.shift[None]
            case "batch":
                prototypes, present = self._gathered(step.prototypes), self._gathered(step.present)
                shift = P.alignment_shift(prototypes, present, self.context, self.valid)[0][None]
            case "instance":
                measured = step.present & self.valid.any(dim=1)
                shift = (step.context.mean - step.prototypes) * measured[..., None]
            case "none":
                shift = torch.zeros_like(self.shift)[None]
        strength = settings.align_strength
        if strength is None:
            strength = 0.5 if settings.align == "instance" else 1.0
        return strength * shift

    def anchor(self, step: Instances) -> Tensor:
        """Instance prototypes moved by the shift; where no pixel of a class is sure, its mean context (ours)."""
        anchor = torch.where(step.present[..., None], step.prototypes + self.scaled_shift(step), step.context.mean)
        return F.normalize(anchor, dim=-1) if self.settings.normalize_prototypes else anchor

    def neighbors(self, step: Instances, anchor: Tensor) -> tuple[Tensor, Tensor]:
        """Index and weight (B, K, T) of each anchor's soft neighbours (Eq. 6 and 7)."""
        settings = self.settings
        weight = P.positiveness(anchor, step.context, metric=settings.metric, temperature=settings.temperature)
        return P.soft_neighbors(anchor, step.context, weight, topk=settings.topk, rank_by=settings.rank_by)

    def similarity(self, step: Instances, image_label: Tensor) -> Tensor:
        """Maps of the anchors' soft neighbours (Eq. 13), (B, K, h, w), zero for absent classes and padding.

        Padding must be zero before the maps are divided by their maximum.
        """
        anchor = self.anchor(step)
        counted = step.inside * self._with_background(image_label)[:, :, None, None]
        if self.settings.topk == 0:
            return F.relu(torch.einsum("bdhw,bkd->bkhw", step.unit, F.normalize(anchor, dim=-1))) * counted
        index, weight = self.neighbors(step, anchor)
        maps = P.prototype_aware_cam(step.unit, step.context, index, weight, weighting=self.settings.weighting)
        return maps * counted

    @torch.no_grad()
    def _gathered(self, batch: Tensor) -> Tensor:
        """In a training, the batch of all ranks in the order of one process, so that every rank keeps the same bank.

        The sampler deals the images to the ranks in turn.
        """
        if not (self.training and torch.distributed.is_available() and torch.distributed.is_initialized()):
            return batch
        parts = [torch.empty_like(batch) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, batch.contiguous())
        return torch.stack(parts, dim=1).flatten(0, 1)

    @staticmethod
    def _with_background(image_label: Tensor) -> Tensor:
        """(B, N) -> (B, K): background is present in every image."""
        return torch.cat([torch.ones_like(image_label[:, :1]), image_label], dim=1)


def select(features: list[Tensor], settings: CpalSettings) -> list[Tensor]:
    """The stages' maps that make z."""
    return [features[stage - 1] for stage in settings.features]


def build_learner(host: Host, num_foreground: int, settings: CpalSettings, *, seed: int) -> ContextPrototypeLearner:
    """A learner of the host's stages that `cpal.features` names."""
    channels = [host.channels[stage - 1] for stage in settings.features]
    return ContextPrototypeLearner(num_foreground, channels, settings, seed=seed)
