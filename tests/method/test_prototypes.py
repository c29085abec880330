"""Each equation against plain Python loops over pixels and entries, in float64."""

import itertools
import math
from collections import deque

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cpal.method import prototypes as P

B, K, D, H, W, PROTOS = 3, 4, 5, 6, 7, 6


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def random_context(count: tuple[int, ...] = (6, 4, 1, 0)) -> tuple[Tensor, Tensor]:
    """Context prototypes of K classes, of which the last has none."""
    valid = torch.arange(PROTOS) < torch.tensor(count)[:, None]
    return torch.randn(K, PROTOS, D, dtype=torch.float64) * valid[..., None], valid


class TestMasks:
    @pytest.mark.parametrize("exclusive", [True, False])
    def test_equals_a_loop(self, exclusive: bool) -> None:
        cam = torch.rand(B, K, H, W)
        cam[:, 2] = 0
        mask = P.prototype_masks(cam, threshold=0.4, background_threshold=0.7, exclusive=exclusive)
        for b, k, y, x in itertools.product(range(B), range(K), range(H), range(W)):
            value = cam[b, k, y, x]
            expected = value > 0.7 if k == 0 else value > 0.4
            if exclusive and k > 0:
                expected = expected and value == max(cam[b, n, y, x] for n in range(1, K))
            assert mask[b, k, y, x] == float(expected)

    def test_an_absent_class_has_no_pixel_even_at_threshold_zero(self) -> None:
        assert (
            P.prototype_masks(torch.zeros(1, 3, 2, 2), threshold=0.0, background_threshold=0.0, exclusive=True).sum()
            == 0
        )


class TestStructureMasks:
    def test_equals_a_loop(self) -> None:
        features, cam = torch.randn(B, D, H, W).double(), torch.rand(B, K, H, W).double()
        cam[0, 2] = 0  # absent
        masks = P.structure_masks(features, cam)
        for b, y, x in itertools.product(range(B), range(H), range(W)):
            overlap = []
            for k in range(K):
                alike, inter, total = 0.0, 0.0, float(cam[b, k].sum())
                for v, u in itertools.product(range(H), range(W)):
                    like = max(0.0, cosine(features[b, :, y, x], features[b, :, v, u]))
                    alike, inter = alike + like, inter + like * float(cam[b, k, v, u])
                overlap.append(inter / (alike + total - inter) * (1.0 if k else 0.5))
            assert masks[b, :, y, x].tolist() == [float(k == overlap.index(max(overlap))) for k in range(K)]
        assert not masks[0, 2].any()


class TestInstancePrototypes:
    def test_equals_a_loop(self) -> None:
        features, mask = torch.randn(B, D, H, W).double(), (torch.rand(B, K, H, W) > 0.6).double()
        mask[0, 1] = 0
        prototypes, present = P.instance_prototypes(features, mask)
        for b, k in itertools.product(range(B), range(K)):
            pixels = [features[b, :, y, x] for y in range(H) for x in range(W) if mask[b, k, y, x]]
            assert bool(present[b, k]) == bool(pixels)
            expected = torch.stack(pixels).mean(0) if pixels else torch.zeros(D).double()
            torch.testing.assert_close(prototypes[b, k], expected)

    def test_one_pixel_is_its_feature(self) -> None:
        features, mask = torch.randn(1, D, H, W), torch.zeros(1, 1, H, W)
        mask[0, 0, 2, 3] = 1
        prototypes, present = P.instance_prototypes(features, mask)
        torch.testing.assert_close(prototypes[0, 0], features[0, :, 2, 3])
        assert present.all()

    def test_gradient_is_finite_without_a_pixel(self) -> None:
        features = torch.randn(1, D, H, W, requires_grad=True)
        P.instance_prototypes(features, torch.zeros(1, K, H, W))[0].sum().backward()
        assert features.grad is not None and torch.equal(features.grad, torch.zeros_like(features))


class TestSupportBank:
    LENGTH = 7

    def test_is_a_deque_for_each_class(self) -> None:
        bank, queues = P.SupportBank(K, self.LENGTH, D), [deque[list[float]](maxlen=self.LENGTH) for _ in range(K)]
        for batch in [1, 3, 0, 2, 20, 4, 1, 7, 8]:  # 20 and 8 are more than the bank is long
            prototypes, present = torch.randn(batch, K, D), torch.rand(batch, K) < 0.6
            present[:, 3] = False
            if batch == 20:
                present[:, 0] = True
            bank.enqueue(prototypes, present)
            for b, k in itertools.product(range(batch), range(K)):
                if present[b, k]:
                    queues[k].append(prototypes[b, k].tolist())
            for k in range(K):
                assert bank.latest(k).tolist() == list(queues[k])
        assert bank.valid().sum(1).tolist() == [len(queue) for queue in queues]
        assert len(queues[0]) == self.LENGTH and not queues[3]

    def test_cleared_it_is_as_new(self) -> None:
        bank, other = P.SupportBank(K, 3, D), P.SupportBank(K, 3, D)
        bank.enqueue(torch.rand(4, K, D), torch.ones(4, K, dtype=torch.bool))
        bank.clear()
        assert not bank.valid().any()
        prototypes, present = torch.rand(2, K, D), torch.ones(2, K, dtype=torch.bool)
        for each in (bank, other):
            each.enqueue(prototypes, present)
        assert torch.equal(bank.entries[bank.valid()], other.entries[other.valid()])

    def test_state_dict_round_trip_goes_on_where_it_stood(self) -> None:
        first, second = P.SupportBank(K, self.LENGTH, D), P.SupportBank(K, self.LENGTH, D)
        first.enqueue(torch.randn(5, K, D), torch.ones(5, K, dtype=torch.bool))
        second.load_state_dict(first.state_dict())
        more, present = torch.randn(4, K, D), torch.rand(4, K) < 0.5
        for bank in (first, second):
            bank.enqueue(more, present)
        assert all(
            torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
        )

    @pytest.mark.parametrize("images", [1, 4, 9, 40])
    def test_joined_parts_are_the_bank_of_one_process(self, images: int) -> None:
        """Slot by slot, since the draws of k-means++ depend on the order; with less and with more than a bank holds."""
        prototypes, present = torch.randn(images, K, D), torch.rand(images, K) < 0.6
        alone, joined = P.SupportBank(K, self.LENGTH, D), P.SupportBank(K, self.LENGTH, D)
        for image in range(images):
            alone.enqueue(prototypes[image : image + 1], present[image : image + 1])
        parts = [P.SupportBank(K, self.LENGTH, D) for _ in range(3)]
        for part, chosen in zip(parts, torch.arange(images).tensor_split(3), strict=True):
            for image in chosen.tolist():
                part.enqueue(prototypes[image : image + 1], present[image : image + 1])
        for part in parts:
            joined.extend(part)
        assert torch.equal(joined.seen, alone.seen)
        assert torch.equal(joined.entries[joined.valid()], alone.entries[alone.valid()])

    def test_keeps_no_gradient(self) -> None:
        bank = P.SupportBank(1, 3, D)
        bank.enqueue(torch.randn(2, 1, D, requires_grad=True), torch.ones(2, 1, dtype=torch.bool))
        assert not bank.entries.requires_grad and not list(bank.parameters())


def cluster(
    bank: Tensor, filled: Tensor | None = None, *, count: int, iterations: int = 50, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """context_prototypes of one class."""
    filled = torch.ones(len(bank), dtype=torch.bool) if filled is None else filled
    generator = torch.Generator().manual_seed(seed)
    context, valid = P.context_prototypes(
        bank[None], filled[None], num_prototypes=count, iterations=iterations, generator=generator
    )
    return context[0], valid[0]


def spread(bank: Tensor, centers: Tensor) -> float:
    """Spherical k-means' objective: how much of each entry its nearest center leaves out."""
    return float((1 - (F.normalize(bank, dim=1) @ F.normalize(centers, dim=1).T).amax(1)).sum())


def naive_groups(bank: Tensor, count: int, iterations: int, draws: list[float]) -> list[Tensor]:
    """Means of the groups that are not empty, by k-means on unit vectors, whose seeds these draws choose."""
    unit = F.normalize(bank, dim=1)
    distance, centers = [1.0] * len(bank), list[Tensor]()
    for draw in draws:
        sums = list(itertools.accumulate(distance))
        chosen = next((i for i, value in enumerate(sums) if value > draw * sums[-1]), len(bank) - 1)
        centers.append(unit[chosen])
        distance = [min(d, 1 - float(x @ unit[chosen])) for d, x in zip(distance, unit, strict=True)]
        distance = [0.0 if torch.equal(x, unit[chosen]) else d for d, x in zip(distance, unit, strict=True)]
    for _ in range(iterations):
        group = [max(range(count), key=lambda p: float(x @ centers[p])) for x in unit]
        for p in set(group):
            centers[p] = F.normalize(
                torch.stack([x for x, g in zip(unit, group, strict=True) if g == p]).mean(0), dim=0
            )
    return [torch.stack([x for x, g in zip(bank, group, strict=True) if g == p]).mean(0) for p in sorted(set(group))]


class TestContextPrototypes:
    @pytest.mark.parametrize("iterations", [1, 2, 3, 20])
    def test_equals_a_loop(self, iterations: int) -> None:
        """With entries that occur twice, so that some groups run empty and keep their center."""
        for seed in range(12):
            bank = torch.randn(14, 3, dtype=torch.float64)
            bank[9:] = bank[4:9]
            draws = torch.rand(6, 1, generator=torch.Generator().manual_seed(seed))[:, 0].tolist()
            context, valid = cluster(bank, count=6, iterations=iterations, seed=seed)
            torch.testing.assert_close(context[valid], torch.stack(naive_groups(bank, 6, iterations, draws)))

    def test_finds_the_best_of_all_groupings(self) -> None:
        axes = torch.eye(3).repeat_interleave(2, dim=0)
        bank = axes + 0.1 * torch.randn(6, 3)
        best = min(
            (
                torch.stack([bank[torch.tensor(groups) == g].mean(0) for g in range(3)])
                for groups in itertools.product(range(3), repeat=6)
                if len(set(groups)) == 3
            ),
            key=lambda centers: spread(bank, centers),
        )
        for seed in range(5):
            context, valid = cluster(bank, count=3, seed=seed)
            assert valid.all()
            torch.testing.assert_close(context.sort(dim=0).values, best.sort(dim=0).values)

    @pytest.mark.parametrize("seed", range(4))
    def test_more_rounds_never_widen_the_groups(self, seed: int) -> None:
        bank = F.normalize(torch.randn(60, D), dim=1)
        spreads = [
            spread(bank, context[valid])
            for context, valid in (cluster(bank, count=6, iterations=i, seed=seed) for i in range(1, 25))
        ]
        assert all(later <= earlier + 1e-4 for earlier, later in itertools.pairwise(spreads))
        assert spreads[-1] < spreads[0]

    def test_converged_prototypes_are_the_means_of_their_groups(self) -> None:
        bank = F.normalize(torch.randn(80, D), dim=1)
        context, valid = cluster(bank, count=5, iterations=100)
        group = (bank @ F.normalize(context, dim=1).T).argmax(1)
        assert valid.all()
        torch.testing.assert_close(context, torch.stack([bank[group == g].mean(0) for g in range(5)]))

    def test_groups_go_by_angle_and_means_by_the_entries_as_they_are(self) -> None:
        bank = torch.tensor(
            [[9.0, 0.1], [1.0, 0.1], [0.1, 5.0], [0.0, 1.0]]
        )  # by distance, the short two are one group
        context, _ = cluster(bank, count=2)
        torch.testing.assert_close(context[context[:, 1].argsort()], torch.tensor([[5.0, 0.1], [0.05, 3.0]]))

    def test_fewer_entries_than_prototypes(self) -> None:
        bank = torch.cat([torch.randn(3, D), torch.zeros(4, D)])
        context, valid = cluster(bank, torch.arange(7) < 3, count=5)
        assert valid.tolist() == [True] * 3 + [False] * 2
        found = {tuple(row) for row in context[valid].tolist()}
        assert found == {tuple(row) for row in bank[:3].tolist()}

    def test_a_class_without_entries_has_none_and_disturbs_no_other(self) -> None:
        bank, filled = torch.randn(3, 9, D), torch.ones(3, 9, dtype=torch.bool)
        filled[1], bank[1] = False, 0
        context, valid = P.context_prototypes(
            bank, filled, num_prototypes=4, iterations=9, generator=torch.Generator().manual_seed(0)
        )
        assert valid.any(1).tolist() == [True, False, True]
        assert torch.isfinite(context).all() and not context[1].any()

    def test_duplicates_share_a_group(self) -> None:
        values = F.normalize(torch.randn(2, D), dim=1)
        context, valid = cluster(values.repeat(5, 1), count=4)
        assert valid.sum() == 2  # the two groups that found no other value have run empty
        torch.testing.assert_close(context[valid].sort(dim=0).values, values.sort(dim=0).values)
        filled = torch.arange(8) < 5
        context, valid = cluster(values[:1].repeat(8, 1) * filled[:, None], filled, count=3)
        assert valid.sum() == 1
        torch.testing.assert_close(context[valid], values[:1])

    def test_seed_decides_and_repeats(self) -> None:
        bank = torch.randn(40, D)
        first, again, other = (cluster(bank, count=6, iterations=1, seed=seed)[0] for seed in (0, 0, 1))
        assert torch.equal(first, again) and not torch.equal(first, other)


def naive_positiveness(anchor: Tensor, context: Tensor, valid: Tensor, metric: str, temperature: float) -> list[float]:
    """One (image, class) row of Eq. 7."""
    score = []
    for p in context:
        if metric == "dot":
            value = float(anchor @ p)
        elif metric == "cosine":
            value = cosine(anchor, p) if p.any() else 0.0
        elif metric == "l1":
            value = -sum(abs(float(a - b)) for a, b in zip(anchor, p, strict=True))
        else:
            value = -math.sqrt(sum(float(a - b) ** 2 for a, b in zip(anchor, p, strict=True)))
        score.append(math.exp(value / temperature))
    total = sum(s for s, v in zip(score, valid, strict=True) if v)
    return [s / total if v else 0.0 for s, v in zip(score, valid, strict=True)]


METRICS: list[P.Metric] = ["dot", "cosine", "l1", "l2"]


class TestPositiveness:
    @pytest.mark.parametrize("metric", METRICS)
    def test_equals_a_loop(self, metric: P.Metric) -> None:
        anchor, (context, valid) = torch.randn(B, K, D).double(), random_context()
        weight = P.positiveness(anchor, P.Context.of(context, valid), metric=metric, temperature=0.7)
        for b, k in itertools.product(range(B), range(K)):
            row = naive_positiveness(anchor[b, k], context[k], valid[k], metric, 0.7)
            torch.testing.assert_close(weight[b, k], torch.tensor(row).double())
        torch.testing.assert_close(weight.sum(-1), torch.tensor([1.0, 1, 1, 0]).double().expand(B, K))

    def test_lower_temperature_is_sharper_and_tiny_ones_stay_finite(self) -> None:
        anchor, (context, valid) = torch.randn(B, K, D).double(), random_context()
        rows = [
            P.positiveness(anchor, P.Context.of(context, valid), metric="dot", temperature=t) for t in (1e6, 1.0, 1e-6)
        ]
        assert (rows[0][:, 0].amax(-1) < rows[1][:, 0].amax(-1)).all()
        torch.testing.assert_close(rows[0][:, 0], torch.full((B, PROTOS), 1 / PROTOS).double(), atol=1e-4, rtol=0)
        torch.testing.assert_close(rows[2][:, 0].amax(-1), torch.ones(B).double())
        assert torch.isfinite(rows[2]).all()

    @pytest.mark.parametrize("temperature", [1e-3, 0.5])
    @pytest.mark.parametrize("metric", METRICS)
    def test_gradients_hold_no_nan(self, metric: P.Metric, temperature: float) -> None:
        context = P.Context.of(*random_context())
        anchor = torch.randn(B, K, D).double()
        anchor[0, 0], anchor[1, 0] = 0, context.prototypes[0, 1]  # no length; no distance
        anchor.requires_grad_()
        weight = P.positiveness(anchor, context, metric=metric, temperature=temperature)
        index, chosen = P.soft_neighbors(anchor, context, weight, topk=3, rank_by="weighted")
        unit = F.normalize(torch.randn(B, D, H, W).double(), dim=1)
        P.prototype_aware_cam(unit, context, index, chosen, weighting="mean").sum().backward()
        assert anchor.grad is not None and torch.isfinite(anchor.grad).all() and anchor.grad.any()


class TestSoftNeighbors:
    @pytest.mark.parametrize("rank_by", ["weighted", "cosine", "weight"])
    def test_equals_sorting(self, rank_by: str) -> None:
        anchor, (context, valid) = torch.randn(B, K, D).double(), random_context()
        weight = P.positiveness(anchor, P.Context.of(context, valid), metric="dot", temperature=1.0)
        index, chosen = P.soft_neighbors(anchor, P.Context.of(context, valid), weight, topk=3, rank_by=rank_by)
        assert index.shape == chosen.shape == (B, K, 3)
        for b, k in itertools.product(range(B), range(K)):
            candidates = [p for p in range(PROTOS) if valid[k, p]]
            key = {
                "weighted": lambda p, b=b, k=k: float(weight[b, k, p]) * (1 + cosine(anchor[b, k], context[k, p])),
                "cosine": lambda p, b=b, k=k: cosine(anchor[b, k], context[k, p]),
                "weight": lambda p, b=b, k=k: float(weight[b, k, p]),
            }[rank_by]
            expected = sorted(candidates, key=key, reverse=True)[:3]
            assert index[b, k, : len(expected)].tolist() == expected
            torch.testing.assert_close(chosen[b, k, : len(expected)], weight[b, k, expected])
            assert not chosen[b, k, len(expected) :].any()

    def test_more_neighbors_than_prototypes(self) -> None:
        anchor, (context, valid) = torch.randn(B, K, D).double(), random_context()
        weight = P.positiveness(anchor, P.Context.of(context, valid), metric="dot", temperature=1.0)
        index, chosen = P.soft_neighbors(anchor, P.Context.of(context, valid), weight, topk=50, rank_by="cosine")
        assert index.shape == (B, K, PROTOS)
        assert ((chosen > 0).sum(-1) == valid.sum(-1)).all()

    @pytest.mark.parametrize("rank_by", ["weighted", "cosine", "weight"])
    def test_a_far_neighbor_is_still_a_neighbor(self, rank_by: str) -> None:
        """The only candidate points the other way, and its weight beside a near one underflows to nothing."""
        anchor = torch.tensor([[[0.6, 0.8]]])
        both = torch.stack([anchor[0], -anchor[0]], dim=1)
        context = P.Context.of(both, torch.tensor([[False, True]]))
        index, chosen = P.soft_neighbors(anchor, context, torch.tensor([[[0.0, 1.0]]]), topk=1, rank_by=rank_by)
        assert (index.item(), chosen.item()) == (1, 1.0)
        context = P.Context.of(both, torch.ones(1, 2).bool())
        weight = P.positiveness(anchor, context, metric="dot", temperature=1e-3)
        assert weight[0, 0, 1] == 0
        index, chosen = P.soft_neighbors(anchor, context, weight, topk=2, rank_by=rank_by)
        assert (chosen > 0).all()


class TestAlignmentShift:
    def test_equals_a_loop(self) -> None:
        prototypes, present = torch.randn(B, K, D).double(), torch.rand(B, K) < 0.5
        present[:, 0], present[:, 1] = True, False
        context, valid = random_context()
        shift, measured = P.alignment_shift(prototypes, present, context, valid)
        for k in range(K):
            instances = [prototypes[b, k] for b in range(B) if present[b, k]]
            candidates = [context[k, p] for p in range(PROTOS) if valid[k, p]]
            assert bool(measured[k]) == bool(instances and candidates)
            pairs = [p - q for p in candidates for q in instances]
            torch.testing.assert_close(shift[k], sum(pairs) / len(pairs) if pairs else torch.zeros(D).double())

    def test_one_instance_is_moved_onto_the_mean(self) -> None:
        context, valid = torch.tensor([[[1.0, 3.0], [5.0, 1.0]]]), torch.ones(1, 2, dtype=torch.bool)
        prototype = torch.tensor([[[2.0, 0.0]]])
        shift, _ = P.alignment_shift(prototype, torch.ones(1, 1, dtype=torch.bool), context, valid)
        assert shift.tolist() == [[1.0, 2.0]]
        assert (prototype + shift).tolist() == [[[3.0, 2.0]]]


def naive_pacam(features: Tensor, chosen: list[tuple[Tensor, float]], weighting: str) -> Tensor:
    """Eq. 13 of one image and class: a map for each neighbor, aggregated pixel by pixel. features (D, h, w)."""
    height, width = features.shape[1:]
    out = torch.zeros(height, width, dtype=features.dtype)
    if not chosen:
        return out
    total = sum(w for _, w in chosen)
    for y, x in itertools.product(range(height), range(width)):
        f = features[:, y, x]
        if weighting == "mean":
            value = sum(w * cosine(f, p) for p, w in chosen) / total
        elif weighting == "none":
            value = sum(cosine(f, w * p) for p, w in chosen) / len(chosen)  # w scales the prototype, as printed
        else:
            value = cosine(f, torch.stack([w * p for p, w in chosen]).sum(0))
        out[y, x] = max(0.0, value)
    return out


class TestPrototypeAwareCam:
    @pytest.mark.parametrize("weighting", ["mean", "none", "fuse"])
    def test_folding_equals_one_map_for_each_neighbor(self, weighting: str) -> None:
        features, anchor, (context, valid) = torch.randn(B, D, H, W), torch.randn(B, K, D), random_context()
        context = context.float()
        weight = P.positiveness(anchor, P.Context.of(context, valid), metric="cosine", temperature=0.5)
        index, chosen = P.soft_neighbors(anchor, P.Context.of(context, valid), weight, topk=3, rank_by="cosine")
        pacam = P.prototype_aware_cam(
            F.normalize(features, dim=1), P.Context.of(context, valid), index, chosen, weighting=weighting
        )
        for b, k in itertools.product(range(B), range(K)):
            neighbors = [
                (context[k, i], float(w)) for i, w in zip(index[b, k], chosen[b, k], strict=True) if valid[k, i]
            ]
            expected = naive_pacam(features[b], neighbors, weighting)
            torch.testing.assert_close(pacam[b, k], expected, atol=1e-6, rtol=0)
        assert not pacam[:, 3].any()

    def literal(self, metric: P.Metric, temperature: float, weighting: str) -> Tensor:
        torch.manual_seed(3)
        features, anchor = torch.randn(B, D, H, W), torch.randn(B, K, D)
        context, valid = random_context()
        context = context.float()
        weight = P.positiveness(anchor, P.Context.of(context, valid), metric=metric, temperature=temperature)
        index, chosen = P.soft_neighbors(anchor, P.Context.of(context, valid), weight, topk=3, rank_by="cosine")
        return P.prototype_aware_cam(
            F.normalize(features, dim=1), P.Context.of(context, valid), index, chosen, weighting=weighting
        )

    def test_read_literally_positiveness_does_nothing(self) -> None:
        """Eq. 6 and 13 as printed: cosines ignore the scale w_i, whatever metric and temperature made it."""
        expected = self.literal("dot", 1.0, "none")
        for metric, temperature in itertools.product(METRICS, (1e-3, 0.1, 10.0)):
            torch.testing.assert_close(self.literal(metric, temperature, "none"), expected, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("weighting", ["mean", "fuse"])
    def test_otherwise_it_matters(self, weighting: str) -> None:
        expected = self.literal("dot", 1.0, weighting)
        others: list[tuple[P.Metric, float]] = [("dot", 0.1), ("cosine", 1.0), ("l1", 1.0), ("l2", 1.0)]
        for metric, temperature in others:
            assert (self.literal(metric, temperature, weighting) - expected).abs().max() > 1e-3

    def test_neighbors_with_vanishing_weights_still_make_a_map(self) -> None:
        """Unnormalised dot products: the top-1 by weight is the longest prototype, not the nearest by angle."""
        anchor = torch.tensor([[[1.0, 0.0]]])
        prototypes = torch.tensor([[[100.0, 100.0], [0.1, 0.0]]])
        context = P.Context.of(prototypes, torch.ones(1, 2, dtype=torch.bool))
        weight = P.positiveness(anchor, context, metric="dot", temperature=0.3)
        index, chosen = P.soft_neighbors(anchor, context, weight, topk=1, rank_by="cosine")
        pacam = P.prototype_aware_cam(anchor[:, 0, :, None, None], context, index, chosen, weighting="mean")
        torch.testing.assert_close(pacam, torch.ones(1, 1, 1, 1))

    def test_zero_features_give_zero(self) -> None:
        pacam = P.prototype_aware_cam(
            torch.zeros(1, D, 2, 2),
            P.Context.of(torch.ones(1, 1, D), torch.ones(1, 1, dtype=torch.bool)),
            torch.zeros(1, 1, 1).long(),
            torch.ones(1, 1, 1),
            weighting="mean",
        )
        assert not pacam.any()


class TestContrast:
    SIMILARITY = torch.tensor([[[[0.4, 0.2]], [[0.6, 0.1]], [[0.0, 0.0]]]])  # background, a class, an absent class

    def test_none_by_hand(self) -> None:
        expected = torch.tensor([[[[1.0, 0.5]], [[1.0, 1 / 6]], [[0, 0]]]])
        torch.testing.assert_close(P.contrast(self.SIMILARITY, "none"), expected, atol=1e-4, rtol=0)

    def test_difference_by_hand(self) -> None:
        expected = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]], [[0, 0]]]])
        torch.testing.assert_close(P.contrast(self.SIMILARITY, "difference"), expected, atol=1e-4, rtol=0)

    def test_ratio_by_hand(self) -> None:
        expected = torch.tensor([[[[0.5, 0.5]], [[0.6, 1 / 3]], [[0, 0]]]])
        torch.testing.assert_close(P.contrast(self.SIMILARITY, "ratio"), expected, atol=1e-4, rtol=0)

    def test_normalized_changes_sides_where_the_argmax_of_the_normalized_maps_does(self) -> None:
        similarity = torch.rand(B, K, H, W) + 0.1
        argmax_is_foreground = P.contrast(similarity, "none").argmax(dim=1) > 0
        assert torch.equal(P.contrast(similarity, "normalized")[:, 1:].amax(dim=1) > 0.5, argmax_is_foreground)

    @pytest.mark.parametrize("mode", ["none", "normalized", "difference", "ratio"])
    def test_range_and_finite_gradients_even_where_nothing_is_similar(self, mode: P.Contrast) -> None:
        similarity = torch.rand(B, K, H, W)
        similarity[0] = 0
        similarity.requires_grad_()
        maps = P.contrast(similarity, mode)
        assert maps.shape == similarity.shape and (maps >= 0).all() and (maps <= 1).all()
        maps.sum().backward()
        assert similarity.grad is not None and torch.isfinite(similarity.grad).all()


class TestSelfLoss:
    def test_equals_a_loop(self) -> None:
        cam, pacam = torch.rand(B, K, H, W).double(), torch.rand(B, K, H, W).double()
        valid = (torch.rand(B, 1, H, W) > 0.3).double()
        total, cells = 0.0, 0
        for b, y, x in itertools.product(range(B), range(H), range(W)):
            if valid[b, 0, y, x]:
                total += sum(abs(float(cam[b, k, y, x] - pacam[b, k, y, x])) for k in range(K)) / K
                cells += 1
        assert P.self_supervised_loss(cam, pacam, valid).item() == pytest.approx(total / cells)

    def test_only_padding_costs_nothing(self) -> None:
        cam = torch.rand(1, K, 2, 2, requires_grad=True)
        loss = P.self_supervised_loss(cam, torch.rand(1, K, 2, 2), torch.zeros(1, 1, 2, 2))
        loss.backward()
        assert loss == 0 and cam.grad is not None and not cam.grad.any()


class TestOcsem:
    def test_equals_a_loop(self) -> None:
        prototypes, present, (context, valid) = torch.randn(B, K, D).double(), torch.rand(B, K) < 0.7, random_context()
        present[:, 3] = True  # without context: not counted
        best = [
            max(cosine(prototypes[b, k], context[k, p]) for p in range(PROTOS) if valid[k, p])
            for b, k in itertools.product(range(B), range(K))
            if present[b, k] and valid[k].any()
        ]
        assert P.ocsem(prototypes, present, context, valid).item() == pytest.approx(np.mean(best))

    def test_as_printed_it_cannot_rise(self) -> None:
        """Eq. 8 counts, for each instance, the prototypes nearer than all others: exactly one of P."""
        context, instances = torch.randn(PROTOS, D), torch.randn(9, D)
        hits = sum(
            cosine(context[i], q) > max(cosine(context[h], q) for h in range(PROTOS) if h != i)
            for i in range(PROTOS)
            for q in instances
        )
        assert hits / (PROTOS * 9) == pytest.approx(1 / PROTOS)

    def test_rises_when_instances_are_shifted_towards_the_contexts(self) -> None:
        context = F.normalize(torch.randn(1, PROTOS, D) + 3, dim=-1)
        valid, present = torch.ones(1, PROTOS, dtype=torch.bool), torch.ones(20, 1, dtype=torch.bool)
        prototypes = F.normalize(torch.randn(20, 1, D) + torch.tensor([3.0, 3, 3, -3, -3]), dim=-1)
        shift, _ = P.alignment_shift(prototypes, present, context, valid)
        values = [P.ocsem(prototypes + s * shift, present, context, valid).item() for s in (0.0, 0.3, 0.6, 1.0)]
        assert values == sorted(values) and values[-1] > values[0] + 0.1

    def test_nobody_present(self) -> None:
        context, valid = random_context()
        assert P.ocsem(torch.randn(B, K, D).double(), torch.zeros(B, K, dtype=torch.bool), context, valid) == 0
