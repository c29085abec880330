"""Signals by hand, and verdicts on classes whose masks are good or bad in one respect."""

from pathlib import Path

import numpy as np
import pytest

from cpal.evaluation.doubt import (
    FEW,
    SIGNALS,
    UNLEARNED,
    JudgedImage,
    Values,
    class_signals,
    doubt_image,
    judge_classes,
)

GOOD = {key: signal.good for key, signal in SIGNALS.items() if key not in ("stray", "spread")} | {"area": 20.0}


def test_signals_of_a_class_by_hand() -> None:
    """A row of ten pixels; the class is 2, another one is 1."""
    ways = {
        "cam": np.array([[0, 2, 2, 0, 0, 0, 0, 0, 0, 0]], np.uint8),
        "pacam": np.array([[0, 2, 2, 2, 2, 0, 0, 0, 0, 0]], np.uint8),
        "taught": np.array([[0, 2, 2, 2, 0, 0, 0, 0, 0, 0]], np.uint8),
        "seeds": np.array([[0, 2, 2, 2, 0, 0, 0, 0, 0, 0]], np.uint8),
        "crf": np.array([[2, 2, 2, 2, 1, 1, 0, 0, 0, 2]], np.uint8),
        "result": np.array([[255, 2, 2, 2, 1, 1, 0, 0, 0, 2]], np.uint8),
        "prediction": np.array([[2, 2, 2, 0, 0, 1, 1, 0, 0, 0]], np.uint8),
    }
    confidence = np.array([[0, 255, 255, 51, 9, 9, 9, 9, 9, 255]], np.uint8)
    assert class_signals(2, ways, confidence) == pytest.approx(
        {
            "found": 100,
            "area": 40,
            "whole": 75,  # three of four pixels are connected
            "maps": 100 * (2 / 4 + 2 / 3 + 3 / 4) / 3,
            "crf": 60,
            "model": 50,  # void in the mask does not count
            "confidence": 100 * (3 + 0.2) / 4,
        }
    )
    lost = class_signals(3, ways, confidence)
    assert lost == {"found": 0, "area": 0, "maps": 0, "crf": 0, "model": 0}, "a class that all miss is no agreement"
    assert class_signals(2, {"result": ways["result"]}, None).keys() == {"found", "area", "whole"}


def _images(count: int, **changes: float) -> list[JudgedImage]:
    """Images of class 1 with good signals but for the changes, and as many of class 2, all good."""
    first: Values = GOOD | changes
    return [
        *(JudgedImage((1,), {1: first}, np.array([60, 40, 0])) for _ in range(count)),
        *(JudgedImage((2,), {2: GOOD}, np.array([60, 0, 40])) for _ in range(count)),
    ]


def test_a_class_with_good_signals_is_trusted() -> None:
    verdicts = judge_classes(_images(FEW), ["car", "cow"])
    assert [(v.verdict, v.score, v.images, v.reasons) for v in verdicts] == [("trust", 1.0, FEW, [])] * 2
    assert [v.label for v in verdicts] == [1, 2]


@pytest.mark.parametrize("key", [key for key in SIGNALS if key not in ("stray", "spread")])
def test_one_bad_signal_is_enough_for_doubt_though_all_labels_are_found(key: str) -> None:
    car, cow = judge_classes(_images(FEW, **{key: SIGNALS[key].bad}), ["car", "cow"])
    assert (car.verdict, cow.verdict) == ("doubt", "trust")
    ((finding, cure),) = car.reasons
    assert "car" in finding and f"{SIGNALS[key].bad}%" in finding and cure == SIGNALS[key].cure


def test_what_the_model_sees_in_images_without_the_label() -> None:
    """Class 1 gets half of the pixels that it gets in its own images in those of class 2, too."""
    images = [*_images(FEW)[:FEW], *(JudgedImage((2,), {2: GOOD}, np.array([40, 20, 40])) for _ in range(FEW))]
    car, cow = judge_classes(images, ["car", "cow"])
    assert car.values["stray"] == pytest.approx(100 * 20 / (20 + 40)) and cow.values["stray"] == 0
    assert cow.verdict == "trust" and car.score < cow.score
    assert "33% of what the model calls car lies in images without this label." in car.reasons[0][0]


def test_a_class_that_the_model_never_draws() -> None:
    """A low agreement with the model then does not say that the masks contradict each other."""
    images = [JudgedImage((1,), {1: GOOD | {"model": 0.0}}, np.array([100, 0, 0])) for _ in range(FEW)]
    images += _images(FEW)[FEW:]
    car, cow = judge_classes(images, ["car", "cow"])
    assert car.reasons == [("The trained model draws car nowhere: it has not learned the class.", UNLEARNED)]
    assert cow.verdict == "trust"
    unseen = [JudgedImage((1,), {1: {k: v for k, v in GOOD.items() if k != "model"}}, None) for _ in range(FEW)]
    assert judge_classes(unseen, ["car"])[0].verdict == "trust", "nobody asked the model"
    images[0] = JudgedImage((1,), images[0].signals, np.array([99, 1, 0]))  # a single pixel
    assert judge_classes(images, ["car", "cow"])[0].reasons == [
        (SIGNALS["model"].finding.format(name="car", value=0.0), SIGNALS["model"].cure)
    ]


def test_masks_of_very_different_size() -> None:
    """Areas 10 and 90: deviation 40 around 50, as numpy and the hand say."""
    images = [JudgedImage((1,), {1: GOOD | {"area": area}}, None) for area in [10.0, 90.0] * FEW]
    (car,) = judge_classes(images, ["car"])
    assert car.values["spread"] == pytest.approx(80) and "stray" not in car.values


def test_a_doubted_class_has_a_reason_though_no_signal_is_bad() -> None:
    """Three signals a little below good, each of mark 0.6."""
    middling = {
        key: SIGNALS[key].bad + 0.6 * (SIGNALS[key].good - SIGNALS[key].bad) for key in ("maps", "crf", "model")
    }
    car, _ = judge_classes(_images(FEW, **middling), ["car", "cow"])
    assert car.verdict == "doubt" and car.score == pytest.approx(0.6) and len(car.reasons) == 3


@pytest.mark.parametrize(("mark", "verdict"), [(0.71, "trust"), (0.69, "doubt"), (0.36, "doubt"), (0.34, "do not use")])
def test_the_mean_of_the_three_worst_signals_decides(mark: float, verdict: str) -> None:
    worst = {key: SIGNALS[key].bad + mark * (SIGNALS[key].good - SIGNALS[key].bad) for key in ("maps", "crf", "model")}
    car, _ = judge_classes(_images(FEW, **worst), ["car", "cow"])
    assert car.verdict == verdict and car.score == pytest.approx(mark)


def test_a_large_image_counts_as_a_small_one_where_the_class_is_not() -> None:
    """Class 1: half of each of its own images, and a tenth of one other image, which is a hundred times as large."""
    own = [JudgedImage((1,), {1: GOOD}, np.array([50, 50])) for _ in range(FEW)]
    (car,) = judge_classes([*own, JudgedImage((), {}, np.array([9000, 1000]))], ["car"])
    shares = [0.5] * FEW + [0.1]
    assert car.values["stray"] == pytest.approx(100 * shares[-1] / sum(shares))


def test_parts_that_touch_at_a_corner_are_two() -> None:
    result = np.array([[2, 2, 0], [2, 0, 2]], np.uint8)
    assert class_signals(2, {"result": result}, None)["whole"] == 75


def test_few_images_are_doubted_and_none_are_not_to_be_used() -> None:
    few, none = judge_classes(_images(FEW - 1)[: FEW - 1], ["car", "cow"])
    assert few.verdict == "doubt" and few.reasons[0][0] == f"{FEW - 1} training images show car."
    assert none.verdict == "do not use" and none.images == 0 and not none.values


def test_all_signals_bad_is_not_to_be_used() -> None:
    bad = {key: SIGNALS[key].bad for key in GOOD if key != "area"}
    car, _ = judge_classes(_images(FEW, **bad), ["car", "cow"])
    assert car.verdict == "do not use" and len(car.reasons) == 3


def test_images_with_labels_not_found_or_strange_classes_are_doubted() -> None:
    names = ["car", "cow"]
    assert doubt_image({1: GOOD}, np.array([60, 40, 0]), names) == (0, [])
    assert doubt_image({}, np.array([100, 0, 0]), names) == (0, [])
    lost = {key: 0.0 for key in ("found", "area", "maps", "crf", "model")}
    doubt, reasons = doubt_image({1: GOOD, 2: lost}, np.array([60, 40, 0]), names)
    assert doubt > 30 and reasons == ["cow: not found"], "one reason for what follows from it"
    doubt, reasons = doubt_image({1: GOOD}, np.array([60, 10, 30]), names)
    assert 0 < doubt < 50 and reasons == ["cow: the model sees it, but it is no label of this image"]
    assert doubt_image({1: GOOD | {"crf": 0.0}}, None, names)[1] == ["car: agreement of seeds and CRF 0%"]


def test_the_documentation_has_the_values() -> None:
    text = Path(__file__).parents[2].joinpath("docs/report.md").read_text(encoding="utf-8")
    for signal in SIGNALS.values():
        assert f"| {signal.title} | {signal.meaning} | {signal.good} | {signal.bad} |" in text
