"""Mask values in another order than the class list, read off the labels; and single contradictions."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from cpal.sources.labels_and_masks import ScoredImage, class_counts, contradictions, wrong_order

KINDS = ("cat", "cow", "dog", "sheep")


def images(labels: Sequence[Sequence[str]], names: dict[str, str]) -> list[ScoredImage]:
    """Scored images whose masks call each class by another name."""
    return [
        ScoredImage(f"i{n}", frozenset(shown), frozenset(names[name] for name in shown if name in names))
        for n, shown in enumerate(labels)
    ]


def named_by(drawn_in: Sequence[str], listed: Sequence[str]) -> dict[str, str]:
    """What a mask drawn with ids in one order shows when they are named in another."""
    return dict(zip(drawn_in, listed, strict=True))


def test_the_order_of_the_tool_is_found() -> None:
    order = ("dog", "sheep", "cat", "cow")
    found = wrong_order(KINDS, KINDS, images([[kind] for kind in KINDS for _ in range(13)], named_by(order, KINDS)))
    assert found is not None and found.problem() == (
        "masks show other classes than the labels: cat: 13 images, 0 with cat in the mask, 13 with dog; "
        "cow: 13 images, 0 with cow in the mask, 13 with sheep; dog: 13 images, 0 with dog in the mask, 13 with cat; "
        "sheep: 13 images, 0 with sheep in the mask, 13 with cow: "
        "put data.mask_classes in the order dog, sheep, cat, cow"
    )


@pytest.mark.parametrize("seed", range(3))
def test_every_order_of_several_labels_an_image_with_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = (0.5, 0.4, 0.3, 0.2)
    labels = [[k for k, share in zip(KINDS, shares, strict=True) if rng.random() < share] for _ in range(60)]
    for order in itertools.permutations(KINDS):
        drawn = images(labels, named_by(order, KINDS))
        noisy = [
            ScoredImage(one.image_id, one.labels, one.drawn ^ ({KINDS[n % 4]} if n % 20 == 0 else set()))
            for n, one in enumerate(drawn)
        ]
        found = wrong_order(KINDS, KINDS, noisy)
        assert (found is None) == (order == KINDS)
        assert found is None or found.cure == f"put data.mask_classes in the order {', '.join(order)}"


def test_values_that_begin_at_zero() -> None:
    labels = [[kind] for kind in KINDS for _ in range(5)]
    found = wrong_order(KINDS, KINDS, images(labels, {"cow": "cat", "dog": "cow", "sheep": "dog"}))
    assert found is not None and found.cure == (
        "the values begin at 0 (cat), which is background: add 1 to every value of the masks but void"
    )


def test_names_that_no_label_has_and_values_of_one_class() -> None:
    """20 mask classes, two of them exchanged; a class of two values keeps both."""
    values = (*KINDS, "cat", "car", "bus")
    labels = [["cat"], ["dog"], ["cow", "dog"]] * 4
    names = {"cat": "dog", "dog": "cat", "cow": "cow"}
    found = wrong_order(("cat", "cow", "dog"), values, images(labels, names))
    assert found is not None
    assert found.cure == "put data.mask_classes in the order dog, cow, cat, sheep, dog, car, bus"


def test_a_table_of_colors() -> None:
    labels = [["cat"], ["cow"]] * 4
    found = wrong_order(KINDS, KINDS, images(labels, {"cat": "cow", "cow": "cat"}), "labelmap.txt")
    assert found is not None
    assert found.cure == "exchange names in labelmap.txt: the color of cow is cat, the color of cat is cow"


def test_what_is_no_other_order() -> None:
    same = dict(zip(KINDS, KINDS, strict=True))
    assert wrong_order(KINDS, KINDS, []) is None
    two = [ScoredImage("a", frozenset({"cat"}), frozenset({"dog"})), ScoredImage("b", frozenset({"dog"}), frozenset())]
    assert wrong_order(KINDS, KINDS, two) is None, "two images are no evidence"
    helmets = images([["cat"]] * 20, same)
    helmets = [
        ScoredImage(one.image_id, one.labels, (one.drawn if n > 3 else frozenset()) | {"sheep"})
        for n, one in enumerate(helmets)
    ]
    assert wrong_order(("cat",), KINDS, helmets) is None, "sheep is only always there as well"
    assert wrong_order(KINDS, KINDS, images([["cat", "dog"]] * 20, same)) is None, "nothing tells them apart"


def test_single_contradictions() -> None:
    same = dict(zip(KINDS, KINDS, strict=True))
    seen = [*images([["cat"], ["cow"], ["dog"]] * 5, same), ScoredImage("x", frozenset({"cat"}), frozenset({"dog"}))]
    assert wrong_order(KINDS, KINDS, seen) is None
    assert contradictions(KINDS, seen) == (["x (cat)"], ["x (dog)"])
    assert class_counts(KINDS, seen) == [(6, 5, 5), (5, 5, 5), (5, 6, 5), (0, 0, 0)]
