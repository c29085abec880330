"""The plug-in: one step against plain loops, what gradients reach, every choice of every setting, two processes."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from cpal.method import prototypes as P
from cpal.method.learner import ContextPrototypeLearner
from cpal.settings.config import Config
from cpal.settings.cpal import CpalSettings, read_preset

Settings = Callable[..., Config]
N, D, H, W = 3, 6, 5, 7
LABELS = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]])  # one class, two, none, two


@pytest.fixture
def cpal(settings: Settings) -> Callable[..., CpalSettings]:
    """The section `cpal` with overrides."""
    return lambda **keys: settings(**{f"cpal.{key}": value for key, value in keys.items()}).cpal


def batch(seed: int = 0, labels: Tensor = LABELS) -> tuple[Tensor, Tensor, Tensor]:
    """Features (B, D, h, w) that tell the classes apart, a CAM (B, N, h, w) of both signs, and image labels."""
    generator = torch.Generator().manual_seed(seed)
    cam = torch.randn(len(labels), N, H, W, generator=generator)
    features = torch.randn(len(labels), D, H, W, generator=generator) + 0.5
    features[:, :N] += 1.5 * cam * labels[:, :, None, None]
    return features, cam, labels


def trained(settings: CpalSettings, *, steps: int = 3) -> ContextPrototypeLearner:
    """A learner with a bank of some steps and context prototypes; the last step follows the clustering."""
    learner = ContextPrototypeLearner(N, [D], settings, seed=0)
    for step in range(steps):
        if step == steps - 1:
            learner.cluster()
        features, cam, labels = batch(step)
        learner([features], cam, labels)
    return learner


Pixels = list[list[Tensor]]  # of one image, by class


def _pixels(z: Tensor, mask: Tensor) -> list[Tensor]:
    return [z[:, y, x] for y, x in itertools.product(range(H), range(W)) if mask[y, x]]


def naive_shift(
    learner: ContextPrototypeLearner, k: int, anchor: Tensor, mean_context: Tensor, batch: list[Pixels]
) -> Tensor:
    """What alignment adds to an instance of class k."""
    s = learner.settings
    if s.align == "none":
        return torch.zeros_like(anchor)
    strength = s.align_strength
    if strength is None:
        strength = 0.5 if s.align == "instance" else 1.0
    if s.align == "instance":
        return strength * (mean_context - anchor)
    if s.align == "batch":
        means = [torch.stack(pixels[k]).mean(0) for pixels in batch if pixels[k]]
        means = [F.normalize(mean, dim=0) if s.normalize_prototypes else mean for mean in means]
        return strength * (mean_context - torch.stack(means).mean(0))
    return strength * learner.shift[k].double()


def naive_similarity(
    learner: ContextPrototypeLearner, z: Tensor, pixels: Pixels, label: Tensor, batch: list[Pixels]
) -> Tensor:
    """Maps of the soft neighbors of one image's instances, the means of each class's pixels; batch has all images'."""
    s, context, valid = learner.settings, learner.context.double(), learner.valid
    similarity = torch.zeros(N + 1, H, W).double()
    for k in range(N + 1):
        if k and not label[k - 1]:
            continue
        candidates = [context[k, p] for p in range(len(valid[k])) if valid[k, p]]
        if pixels[k]:
            anchor = torch.stack(pixels[k]).mean(0)
            anchor = F.normalize(anchor, dim=0) if s.normalize_prototypes else anchor
            anchor = anchor + naive_shift(learner, k, anchor, torch.stack(candidates).mean(0), batch)
            anchor = F.normalize(anchor, dim=0) if s.normalize_prototypes else anchor
        else:
            anchor = torch.stack(candidates).mean(0)
        if s.topk == 0:
            similarity[k] = F.cosine_similarity(z, anchor[:, None, None], dim=0).clamp(min=0)
            continue
        cosines = [float(F.cosine_similarity(anchor, p, dim=0)) for p in candidates]
        score = {
            "dot": [float(anchor @ p) for p in candidates],
            "cosine": cosines,
            "l1": [-float((anchor - p).abs().sum()) for p in candidates],
            "l2": [-float((anchor - p).norm()) for p in candidates],
        }[s.metric]
        weight = torch.tensor(score).double().div(s.temperature).softmax(0).tolist()
        rank = {
            "weighted": [w * (1 + c) for w, c in zip(weight, cosines, strict=True)],
            "cosine": cosines,
            "weight": weight,
        }[s.rank_by]
        top = sorted(range(len(candidates)), key=lambda i: rank[i], reverse=True)[: s.topk]
        maps = torch.stack([F.cosine_similarity(z, candidates[i][:, None, None], dim=0) for i in top])
        share = torch.tensor([weight[i] if s.weighting == "mean" else 1.0 for i in top]).double()
        similarity[k] = torch.einsum("t,thw->hw", share / share.sum(), maps).clamp(min=0)
    return similarity


def naive_step(learner: ContextPrototypeLearner, features: Tensor, cam: Tensor, labels: Tensor) -> tuple[Tensor, float]:
    """PACAM and L_Self by loops over images, classes, neighbors and pixels, from the learner's buffers, in float64."""
    s = learner.settings
    features, cam = features.double(), cam.double()
    pacam, total = torch.zeros(len(cam), N + 1, H, W).double(), 0.0
    first = []
    for b in range(len(cam)):
        z = F.normalize(features[b], dim=0) if s.normalize_features else features[b]
        full = torch.stack([c.clamp(min=0) / (c.clamp(min=0).max() + 1e-5) for c in cam[b]])
        m = full * labels[b, :, None, None]
        background = 1 - (full if s.background_from == "all" else m).amax(0)
        m = torch.cat([background[None], m])
        masks = [
            (m[k] > (s.mask_threshold if k else s.background_threshold))
            & ((m[k] == m[1:].amax(0)) if k and s.mask_exclusive else True)
            for k in range(N + 1)
        ]
        first.append((z, m, [_pixels(z, mask) for mask in masks]))
    batch = [pixels for _, _, pixels in first]  # of refined instances a batch's mean is not tried here
    for b, (z, m, pixels) in enumerate(first):
        for _ in range(s.refinements):
            similarity = naive_similarity(learner, z, pixels, labels[b], batch)
            maps = (similarity[1:] - similarity[:1]).clamp(min=0) * labels[b, :, None, None]
            maps = torch.stack([map_ / (map_.max() + 1e-5) for map_ in maps])
            new = [_pixels(z, 1 - maps.amax(0) > s.refined_background)]
            for k in range(N):
                mask = maps[k] > s.refined_threshold
                new.append(_pixels(z, mask & (maps[k] == maps.amax(0)) if s.mask_exclusive else mask))
            pixels = [n or old for n, old in zip(new, pixels, strict=True)]
        similarity = naive_similarity(learner, z, pixels, labels[b], batch)
        present = torch.cat([torch.ones(1), labels[b]]).double()[:, None, None]
        pacam[b] = P.contrast(similarity[None], s.contrast)[0] * present
        target = P.contrast(similarity[None], s.target_contrast)[0] * present
        total += float((m - target).abs().mean())
    return pacam, total / len(cam)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"metric": "l1", "rank_by": "cosine", "weighting": "none", "contrast": "none", "target_contrast": "none"},
        {"metric": "l2", "normalize_prototypes": False, "align": "bank", "topk": 4},
        {"metric": "dot", "normalize_features": False, "normalize_prototypes": False, "align_strength": 0.5},
        {"align": "ema"},
        {"align": "ema", "align_strength": 0.5, "refinements": 2},
        {"align": "batch", "refinements": 0},
        {"align": "none"},
        {"align": "instance", "align_strength": 0.3, "normalize_prototypes": False, "refinements": 2},
        {"rank_by": "weight", "mask_exclusive": False, "background_from": "all", "contrast": "difference"},
        {"mask_threshold": 0.98, "background_threshold": 0.98, "target_contrast": "ratio"},  # hardly any pixel
        {"refinements": 0},
        {"refinements": 3, "refined_threshold": 0.2, "refined_background": 0.4, "mask_exclusive": False},
        {"refinements": 1, "topk": 0},
    ],
    ids=lambda keys: "-".join(keys) or "default",
)
def test_a_step_equals_loops(cpal: Callable[..., CpalSettings], keys: dict[str, Any]) -> None:
    learner = trained(cpal(**keys)).eval()
    features, cam, labels = batch(9)
    pacam, loss = learner([features], cam, labels)
    expected, expected_loss = naive_step(learner, features, cam, labels)
    torch.testing.assert_close(pacam, expected.float(), atol=1e-5, rtol=1e-4)
    assert loss.item() == pytest.approx(expected_loss, abs=1e-5)


def test_three_lines_plug_it_in(cpal: Callable[..., CpalSettings]) -> None:
    """As the module's docstring shows, beside a network of one's own."""
    num_foreground, channels, settings = N, 8, cpal()
    network, head = torch.nn.Conv2d(3, channels, 3, padding=1), torch.nn.Conv2d(channels, N, 1)
    learner = ContextPrototypeLearner(num_foreground, [channels], settings, seed=0)
    for epoch in range(2):
        learner.cluster()
        features = network(torch.randn(4, 3, H, W))
        cam, image_label = head(features), LABELS
        pacam, self_loss = learner([features], cam, image_label)
        (F.multilabel_soft_margin_loss(cam.mean((2, 3)), image_label) + self_loss).backward()
        assert pacam.shape == (4, N + 1, H, W)
        assert (self_loss > 0) == (epoch == 1)
    assert (pacam >= 0).all() and (pacam <= 1).all()
    assert not pacam[:, 1:][LABELS == 0].any()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for m in (network, head) for p in m.parameters())


class TestPresets:
    @pytest.mark.parametrize(
        ("preset", "matters"), [("literal", False), ("sipe", True), ("default", True), (None, True)]
    )
    def test_positiveness_is_a_no_op_in_the_literal_reading_only(
        self, raw_params: dict[str, Any], preset: str | None, matters: bool
    ) -> None:
        """Eq. 6 and 13 as printed take cosines of w_i p_i, which no positive w_i changes; Table 2 says w_i matters."""
        changes = read_preset(preset) if preset else {}
        maps = []
        for temperature in (0.05, 5.0):
            sizes = {"num_prototypes": 6, "topk": 3, "bank_length": 12, "features": [1], "projection": 0}
            section = CpalSettings.model_validate(raw_params["cpal"] | changes | sizes | {"temperature": temperature})
            learner = trained(section).eval()
            features, cam, labels = batch(9)
            maps.append(learner([features], cam, labels)[0])
        assert ((maps[0] - maps[1]).abs().max() > 1e-3) == matters


class TestRefinement:
    def test_masks_that_hold_much_background_are_cleaned(self, cpal: Callable[..., CpalSettings]) -> None:
        """The object is the left half; the CAM covers a part of it and as much background."""
        generator = torch.Generator().manual_seed(3)
        truth = (torch.arange(W) < W // 2).expand(H, W)
        cosines = {}
        for refinements in (0, 1):
            learner = ContextPrototypeLearner(N, [D], cpal(refinements=refinements, num_prototypes=5), seed=0)
            learner.train()
            for _ in range(3):
                noise = 0.2 * torch.randn(8, D, H, W, generator=generator)
                features = noise + torch.where(truth, torch.eye(D)[0][:, None, None], torch.eye(D)[1][:, None, None])
                cam = torch.full((8, N, H, W), -1.0)
                cam[:, 0, :, 1 : W - 2] = 1
                label = torch.tensor([[1.0, 0, 0]]).repeat(8, 1)
                learner([features], cam, label)
                learner.cluster()
            prototype = learner.eval().instances([features], cam, label).prototypes[:, 1].mean(0)
            cosines[refinements] = float(F.cosine_similarity(prototype, torch.eye(D)[0], dim=0))
        assert cosines[0] < 0.9 and cosines[1] > 0.97

    def test_without_contexts_it_changes_nothing(self, cpal: Callable[..., CpalSettings]) -> None:
        features, cam, labels = batch()
        plain, refined = (ContextPrototypeLearner(N, [D], cpal(refinements=n), seed=0) for n in (0, 1))
        found, expected = (learner.instances([features], cam, labels) for learner in (refined, plain))
        for name in ("features", "unit", "inside", "maps", "mask", "prototypes", "present"):
            assert torch.equal(getattr(found, name), getattr(expected, name)), name

    @pytest.mark.parametrize("topk", [2, 0])
    @pytest.mark.parametrize("unknown", [0, 1])
    def test_a_class_without_context_keeps_its_mask(
        self, cpal: Callable[..., CpalSettings], topk: int, unknown: int
    ) -> None:
        """Without contexts of the background, every class does: nothing tells it apart."""
        learner = trained(cpal(topk=topk)).eval()
        learner.valid[unknown] = False
        features, cam, labels = batch(9)
        plain, refined = (learner.instances([features], cam, labels, refinements=n) for n in (0, 1))
        same = [torch.equal(plain.mask[:, k], refined.mask[:, k]) for k in range(N + 1)]
        assert same == [k == unknown or unknown == 0 for k in range(N + 1)]

    @pytest.mark.parametrize("mask", ["threshold", "structure"])
    @pytest.mark.parametrize("refinements", [0, 1])
    def test_padding_is_in_no_mask(self, cpal: Callable[..., CpalSettings], mask: str, refinements: int) -> None:
        learner = trained(cpal(mask=mask, refinements=refinements)).eval()
        features, cam, labels = batch(4)
        padding = torch.zeros(len(cam), H, W, dtype=torch.bool)
        padding[:, 3:] = True
        found = learner.instances([features], cam, labels, padding=padding).mask
        assert found[:, :, :3].any() and not found[:, :, 3:].any()

    @pytest.mark.parametrize("mask", ["threshold", "structure"])
    def test_padding_changes_no_mask_inside(self, cpal: Callable[..., CpalSettings], mask: str) -> None:
        learner = trained(cpal(mask=mask, refinements=0)).eval()
        for seed in range(20):
            features, cam, labels = batch(seed)
            padding = torch.zeros(len(cam), H, W, dtype=torch.bool)
            padding[:, 3:] = True
            found = learner.instances([features], cam, labels, padding=padding).mask
            alone = learner.instances([features[:, :, :3]], cam[:, :, :3], labels).mask
            assert torch.equal(found[:, :, :3], alone)


class TestBank:
    def test_learns_in_training_mode_only(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = ContextPrototypeLearner(N, [D], cpal(), seed=0)
        features, cam, labels = batch()
        learner.eval()([features], cam, labels)
        assert not learner.bank.seen.any()
        learner.train()([features], cam, labels)
        assert learner.bank.seen.tolist()[1:] == [3, 1, 1] and learner.bank.seen[0] > 0

    def test_holds_the_unshifted_prototypes_without_a_gradient(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(align="ema", align_momentum=0.0, refinements=0))
        features, cam, labels = batch(5)
        features.requires_grad_()
        learner([features], cam, labels)
        step = learner.eval().instances([features], cam, labels)
        assert step.prototypes.requires_grad
        newest = learner.bank.latest(2)[-1]
        assert torch.equal(newest, step.prototypes[1, 2].detach())
        assert not any(buffer.requires_grad for buffer in learner.buffers())
        assert not list(learner.parameters())

    def test_min_probability_keeps_doubtful_classes_out(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = ContextPrototypeLearner(N, [D], cpal(min_probability=0.7), seed=0)
        features, cam, labels = batch()
        cam[:, 0] += 2 - cam[:, 0].mean()  # sigmoid(2) > 0.7, the others are near sigmoid(0)
        cam[3, 0] -= 2
        learner([features], cam, labels, probability=cam.mean(dim=(2, 3)).sigmoid())
        assert learner.bank.seen.tolist()[1:] == [2, 0, 0]

    def test_min_probability_is_of_the_classifier_whatever_the_cam(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = ContextPrototypeLearner(N, [D], cpal(min_probability=0.7), seed=0)
        features, cam, labels = batch()
        step = learner.instances([features], cam, labels)
        probability = torch.full((4, N), 0.69)
        probability[1, 1], probability[2, 2] = 0.7, 0.9
        kept = [int(step.present[:, 0].sum()), 0, int(step.present[1, 2]), int(step.present[2, 3])]
        assert kept[0] == 4 and kept[2] + kept[3] > 0
        learner.enqueue(step, probability)
        assert learner.bank.seen.tolist() == kept

    def test_min_probability_without_probabilities_is_an_error(self, cpal: Callable[..., CpalSettings]) -> None:
        features, cam, labels = batch()
        learner = ContextPrototypeLearner(N, [D], cpal(min_probability=0.1), seed=0)
        with pytest.raises(ValueError, match="min_probability needs `probability`"):
            learner([features], cam, labels)
        assert not learner.bank.seen.any()
        learner.eval()([features], cam, labels)  # which puts nothing into the bank
        ContextPrototypeLearner(N, [D], cpal(min_probability=0.0), seed=0)([features], cam, labels)

    def test_each_clustering_draws_anew_and_a_seed_repeats_it(self, cpal: Callable[..., CpalSettings]) -> None:
        entries = torch.randn(N + 1, 12, D)

        def contexts(seed: int) -> list[Tensor]:
            learner = ContextPrototypeLearner(N, [D], cpal(num_prototypes=6, kmeans_iterations=1), seed=seed)
            learner.bank.enqueue(entries.transpose(0, 1), torch.ones(12, N + 1, dtype=torch.bool))
            return [(learner.cluster(), learner.context.clone())[1] for _ in range(2)]

        first, again, other = contexts(0), contexts(0), contexts(1)
        assert all(torch.equal(one, same) for one, same in zip(first, again, strict=True))
        for one, two in itertools.combinations([*first, *other], 2):
            assert not torch.equal(one, two)

    def test_state_dict_round_trip(self, cpal: Callable[..., CpalSettings]) -> None:
        first = trained(cpal(align="ema"))
        assert first.shift.any()
        second = ContextPrototypeLearner(N, [D], cpal(align="ema"), seed=0)
        second.load_state_dict(first.state_dict())
        for learner in (first, second):
            learner.cluster()
        features, cam, labels = batch(7)
        (pacam, loss), (same_pacam, same_loss) = (learner([features], cam, labels) for learner in (first, second))
        assert torch.equal(pacam, same_pacam) and torch.equal(loss, same_loss)


class TestSelfLoss:
    def test_is_zero_before_clustering_and_for_images_with_a_new_class(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = ContextPrototypeLearner(N, [D], cpal(), seed=0)
        features, cam, _ = batch()
        only_first = torch.tensor([[1.0, 0, 0]]).repeat(4, 1)
        assert learner([features], cam, only_first)[1] == 0
        learner.cluster()
        with_new = only_first.clone()
        with_new[1:, 2] = 1  # class 3 has no context: image 0 alone counts
        loss = learner.eval()([features], cam, with_new)[1]
        assert loss > 0
        torch.testing.assert_close(loss, learner([features[:1]], cam[:1], only_first[:1])[1])

    def test_padding_is_left_out(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal()).eval()
        features, cam, labels = batch(4)
        padding = torch.zeros(len(cam), H, W, dtype=torch.bool)
        padding[:, 3:], padding[1, :, 4:] = True, True
        step = learner.instances([features], cam, labels, padding=padding)
        assert not step.maps[padding[:, None].expand_as(step.maps)].any()
        other = features.clone()
        other[padding[:, None].expand_as(other)] = 7.0
        changed = learner.instances([other], cam, labels, padding=padding)
        assert torch.equal(changed.prototypes, step.prototypes)
        loss = learner([features], cam, labels, padding=padding)[1]
        cells = []
        pacam_target = _target(learner, features, cam, labels, padding)
        for b, y, x in itertools.product(range(len(cam)), range(H), range(W)):
            if not padding[b, y, x]:
                cells.append((step.maps[b, :, y, x] - pacam_target[b, :, y, x]).abs().mean())
        torch.testing.assert_close(loss, torch.stack(cells).mean())

    def test_the_maximum_is_that_of_the_picture(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = ContextPrototypeLearner(N, [D], cpal(), seed=0)
        features, cam, labels = batch(4)
        padding = torch.zeros(len(cam), H, W, dtype=torch.bool)
        padding[..., 4:] = True
        expected = learner.instances([features[..., :4]], cam[..., :4], labels).maps
        cam[..., 4:] += 9
        step = learner.instances([features], cam, labels, padding=padding)
        torch.testing.assert_close(step.maps[..., :4], expected)

    def test_nothing_but_padding(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(detach_target=False))
        before = learner.bank.seen.clone()
        features, cam, labels = batch(4)
        cam.requires_grad_(), features.requires_grad_()
        pacam, loss = learner([features], cam, labels, padding=torch.ones(len(cam), H, W, dtype=torch.bool))
        (loss + 0 * pacam.sum()).backward()
        assert loss == 0 and torch.isfinite(pacam).all()
        assert cam.grad is not None and not cam.grad.any()
        assert torch.equal(before, learner.bank.seen)

    def test_gradient_reaches_the_cam_alone(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(detach_target=True))
        features, cam, labels = batch(4)
        cam.requires_grad_(), features.requires_grad_()
        learner([features], cam, labels)[1].backward()
        assert features.grad is None and cam.grad is not None
        assert cam.grad.any() and torch.isfinite(cam.grad).all()
        assert not cam.grad[labels == 0].any()

    def test_or_the_features_too(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(detach_target=False))
        features, cam, labels = batch(4)
        cam.requires_grad_(), features.requires_grad_()
        learner([features], cam, labels)[1].backward()
        assert features.grad is not None and cam.grad is not None
        assert features.grad.any() and torch.isfinite(features.grad).all() and cam.grad.any()

    def test_a_projection_cuts_the_features_off(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = ContextPrototypeLearner(N, [D, 2], cpal(projection=4, detach_target=False), seed=0)
        features, cam, labels = batch(4)
        coarse = torch.randn(len(cam), 2, 3, 4, requires_grad=True)
        cam.requires_grad_(), features.requires_grad_()
        for _ in range(2):
            learner.cluster()
            _, loss = learner([features, coarse], cam, labels)
        loss.backward()
        assert features.grad is None and coarse.grad is None and cam.grad is not None and cam.grad.any()
        assert all(p.grad is not None and p.grad.any() for p in learner.parameters())
        assert learner.bank.entries.shape[-1] == 8

    @pytest.mark.parametrize("align", ["ema", "batch", "instance", "bank", "none"])
    def test_the_shift_is_a_constant(self, cpal: Callable[..., CpalSettings], align: str) -> None:
        """One process must learn what several do, where the shift comes from a gather without gradient."""
        learner = trained(cpal(align=align, detach_target=False, normalize_prototypes=False)).eval()
        features, cam, labels = batch(4)
        features.requires_grad_()
        step = learner.instances([features], cam, labels)
        (gradient,) = torch.autograd.grad(learner.anchor(step)[0, 1].sum(), step.prototypes)
        assert torch.equal(gradient[0, 1], torch.ones(D)) and gradient.sum() == D


def _target(learner: ContextPrototypeLearner, features: Tensor, cam: Tensor, labels: Tensor, padding: Tensor) -> Tensor:
    """What L_Self compares M with: the PACAM of a learner whose `contrast` is the target's."""
    settings = learner.settings.model_copy(update={"contrast": learner.settings.target_contrast})
    twin = ContextPrototypeLearner(N, [D], settings, seed=0).eval()
    twin.load_state_dict(learner.state_dict())
    return twin([features], cam, labels, padding=padding)[0]


class TestInputs:
    def test_labels_of_any_type(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal()).eval()
        features, cam, labels = batch(4)
        expected = learner([features], cam, labels)
        for kind in (torch.long, torch.bool, torch.uint8):
            for value, same in zip(learner([features], cam, labels.to(kind)), expected, strict=True):
                torch.testing.assert_close(value, same)

    @pytest.mark.parametrize("labels", [torch.zeros(2, N), torch.ones(2, N), torch.eye(N)[:2]])
    def test_any_set_of_classes(self, cpal: Callable[..., CpalSettings], labels: Tensor) -> None:
        learner = trained(cpal(detach_target=False))
        features, cam, _ = batch(4, labels)
        cam.requires_grad_(), features.requires_grad_()
        pacam, loss = learner([features], cam, labels)
        (loss + pacam.sum()).backward()
        for tensor in (pacam, loss, cam.grad, features.grad):
            assert tensor is not None and torch.isfinite(tensor).all()
        assert not pacam[:, 1:][labels == 0].any()

    def test_a_cam_without_any_activation(self, cpal: Callable[..., CpalSettings]) -> None:
        """The class has no pixel: its mean context stands in for the anchor, and nothing is enqueued."""
        learner = trained(cpal(refinements=0))
        before = learner.bank.seen.clone()
        features, _, labels = batch(4)
        cam = torch.full((len(labels), N, H, W), -1.0, requires_grad=True)
        pacam, loss = learner([features], cam, labels)
        loss.backward()
        assert pacam[0, 1].any() and torch.isfinite(pacam).all()
        assert cam.grad is not None and torch.isfinite(cam.grad).all()
        assert torch.equal(before[1:], learner.bank.seen[1:])

    def test_maps_of_other_sizes_are_resized(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = ContextPrototypeLearner(N, [D, 2], cpal(), seed=0)
        features, cam, labels = batch()
        pacam, _ = learner([features, torch.randn(len(cam), 2, 11, 3)], cam, labels)
        assert pacam.shape[2:] == (H, W)
        z = learner.embed([features, torch.randn(len(cam), 2, H, W)], (H, W))
        torch.testing.assert_close(z[:, D:].norm(dim=1), torch.ones(len(cam), H, W))

    def test_a_wrong_number_of_maps_is_named(self, cpal: Callable[..., CpalSettings]) -> None:
        features, cam, labels = batch()
        with pytest.raises(ValueError, match="2 feature maps for a learner of 1"):
            ContextPrototypeLearner(N, [D], cpal(), seed=0)([features, features], cam, labels)


def literals() -> list[str]:
    return [name for name, field in CpalSettings.model_fields.items() if get_origin(field.annotation) is Literal]


def choices(name: str) -> tuple[Any, ...]:
    annotation = CpalSettings.model_fields[name].annotation
    return (True, False) if annotation is bool else get_args(annotation)


@pytest.mark.parametrize(
    "name", [*literals(), *(n for n, f in CpalSettings.model_fields.items() if f.annotation is bool)]
)
def test_every_choice_runs_and_makes_a_difference(cpal: Callable[..., CpalSettings], name: str) -> None:
    results = {}
    for choice in choices(name):
        base: dict[str, object] = {"normalize_prototypes": False, "align_momentum": 0.5}
        base |= {"detach_target": False, "temperature": 0.5}
        if name == "rank_by":  # with few prototypes and the dot product, the three orders are one
            base |= {"metric": "l1", "temperature": 5.0, "num_prototypes": 10}
        learner = trained(cpal(**base | {name: choice}), steps=5)
        features, cam, labels = batch(4)
        cam.requires_grad_(), features.requires_grad_()
        pacam, loss = learner([features], cam, labels)
        loss.backward()
        assert cam.grad is not None
        gradient = torch.zeros_like(features) if features.grad is None else features.grad
        results[choice] = torch.cat([pacam.flatten(), loss[None], gradient.flatten(), cam.grad.flatten()]).detach()
        assert torch.isfinite(results[choice]).all()
    for a, b in itertools.combinations(results, 2):
        assert (results[a] - results[b]).abs().max() > 1e-4, f"{name}: {a} and {b} are the same"


def test_with_unit_prototypes_dot_is_cosine(cpal: Callable[..., CpalSettings]) -> None:
    features, cam, labels = batch(4)
    dot, cosine = (trained(cpal(metric=metric, normalize_prototypes=True)).eval() for metric in ("dot", "cosine"))
    torch.testing.assert_close(dot([features], cam, labels)[0], cosine([features], cam, labels)[0])


def test_the_anchor_of_a_class_without_a_sure_pixel_has_length_one_too(cpal: Callable[..., CpalSettings]) -> None:
    """Else `dot` would be no cosine there: the mean of several prototypes is shorter than they are."""
    learner = trained(cpal(normalize_prototypes=True, align="instance")).eval()
    features, cam, labels = batch(4)
    step = learner.instances([features], cam, labels)
    learner.context[1] = F.normalize(torch.randn(learner.context[1].shape), dim=-1)
    step = step._replace(present=torch.zeros_like(step.present), context=P.Context.of(learner.context, learner.valid))
    assert step.context.mean[1].norm() < 0.9
    torch.testing.assert_close(learner.anchor(step).norm(dim=-1), learner.valid.any(dim=1).float().expand(len(cam), -1))


class TestShift:
    def test_running_shift_by_hand(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(align="ema", align_momentum=0.9))
        before, (features, cam, labels) = learner.shift.clone(), batch(4)
        step = learner.eval().instances([features], cam, labels)
        learner.train()([features], cam, labels)
        for k in range(N + 1):
            present = [step.prototypes[b, k] for b in range(len(labels)) if step.present[b, k]]
            delta = learner.context[k][learner.valid[k]].mean(0) - torch.stack(present).mean(0)
            torch.testing.assert_close(learner.shift[k], 0.9 * before[k] + 0.1 * delta)

    def test_running_shift_stays_outside_a_training(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(align="ema", align_momentum=0.9)).eval()
        before, (features, cam, labels) = learner.shift.clone(), batch(4)
        learner.enqueue(learner.instances([features], cam, labels))
        assert torch.equal(learner.shift, before)

    def test_measured_over_the_bank_by_hand(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(align="bank"))
        learner.measure_shift()
        for k in range(N + 1):
            entries = learner.bank.entries[k, : learner.bank.seen[k]]
            expected = learner.context[k][learner.valid[k]].mean(0) - entries.mean(0)
            torch.testing.assert_close(learner.shift[k], expected)

    def test_an_image_alone_is_its_own_batch(self, cpal: Callable[..., CpalSettings]) -> None:
        """Each image gets what `batch` gives it when nothing else is in the batch, as at inference."""
        instance, alone = (trained(cpal(align=align, align_strength=0.4)).eval() for align in ("instance", "batch"))
        alone.load_state_dict(instance.state_dict())
        features, cam, labels = batch(4)
        pacam, _ = instance([features], cam, labels)
        for b in range(len(labels)):
            expected, _ = alone([features[b : b + 1]], cam[b : b + 1], labels[b : b + 1])
            torch.testing.assert_close(pacam[b : b + 1], expected)

    def test_at_full_strength_an_instance_becomes_its_mean_context(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(align="instance", align_strength=1.0, normalize_prototypes=False)).eval()
        features, cam, labels = batch(4)
        anchor = learner.anchor(learner.instances([features], cam, labels))
        for k in range(N + 1):
            mean = learner.context[k][learner.valid[k]].mean(0)
            torch.testing.assert_close(anchor[:, k], mean.expand_as(anchor[:, k]))

    def test_raises_ocsem_of_a_biased_image(self, cpal: Callable[..., CpalSettings]) -> None:
        learner = trained(cpal(align="batch")).eval()
        features, cam, labels = batch(4)
        features[:, N:] -= 2  # as a batch of unusual pictures
        step = learner.instances([features], cam, labels)
        before = P.ocsem(step.prototypes, step.present, learner.context, learner.valid)
        after = P.ocsem(learner.anchor(step), step.present, learner.context, learner.valid)
        assert after > before + 0.05


def _steps(learner: ContextPrototypeLearner, rank: int | None = None) -> Tensor:
    """Four steps, two of them after a clustering, on every second image of each batch or all; the last PACAM."""
    for step in range(4):
        if step >= 2:
            learner.cluster()
        features, cam, labels = (t if rank is None else t[rank::2] for t in batch(step))
        pacam, _ = learner([features], cam, labels)
    return pacam


def _train_rank(rank: int, folder: Path, settings: dict[str, CpalSettings]) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    for name, section in settings.items():
        learner = ContextPrototypeLearner(N, [D], section, seed=0)
        pacam = _steps(learner, rank)
        torch.save({"pacam": pacam, "state": learner.state_dict()}, folder / f"{name}{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_do_what_one_does(cpal: Callable[..., CpalSettings], tmp_path: Path) -> None:
    settings = {align: cpal(align=align) for align in ("ema", "batch", "instance")}
    spawn(_train_rank, args=(tmp_path, settings), nprocs=2)
    for name, section in settings.items():
        alone = ContextPrototypeLearner(N, [D], section, seed=0)
        expected = _steps(alone)
        ranks = [torch.load(tmp_path / f"{name}{rank}.pt", weights_only=True) for rank in (0, 1)]
        together = torch.stack([rank["pacam"] for rank in ranks], dim=1).flatten(0, 1)
        torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-5)
        for key, value in alone.state_dict().items():
            assert torch.equal(ranks[0]["state"][key], ranks[1]["state"][key]), key
            torch.testing.assert_close(ranks[0]["state"][key], value)
        assert alone.bank.seen.any() and alone.valid.any()
