"""The groups behind the context prototypes: against plain loops, from a run's file, and what stops the reading."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from cpal.errors import UserError
from cpal.method.groups import check_images, find_groups, read_groups

CLASSES, IMAGES = ("red", "green", "blue"), {"a", "b", "c", "d", "empty"}
FILE = Path("data/prototypes.safetensors")


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_groups_against_plain_loops() -> None:
    rng = np.random.default_rng(0)
    entries, context = rng.normal(size=(11, 5)), rng.normal(size=(4, 5))
    valid = np.array([True, True, False, True])
    images = [f"i{entry}" for entry in range(11)]
    groups = find_groups(entries, context, valid, images, nearest=3)
    assert [group.prototype for group in groups] == [0, 1, 3]
    own = [max((0, 1, 3), key=lambda p: cosine(entry, context[p])) for entry in entries]
    for group in groups:
        assert group.members == own.count(group.prototype)
        near = sorted(range(11), key=lambda entry: -cosine(entries[entry], context[group.prototype]))[:3]
        assert [like.image_id for like in group.nearest] == [f"i{entry}" for entry in near]
        expected = [cosine(entries[entry], context[group.prototype]) for entry in near]
        assert [like.cosine for like in group.nearest] == pytest.approx(expected)


def test_a_class_without_an_instance_has_no_group() -> None:
    assert find_groups(np.zeros((0, 5)), np.zeros((4, 5)), np.zeros(4, bool), [], nearest=3) == []
    (group,) = find_groups(np.ones((1, 5)), np.ones((1, 5)), np.ones(1, bool), ["a"], nearest=3)
    assert group.members == 1 and [like.image_id for like in group.nearest] == ["a"]


def test_a_runs_file_is_read_without_its_network(finished_run: Path) -> None:
    groups = read_groups(finished_run / FILE, CLASSES, IMAGES, nearest=2)
    with safe_open(finished_run / FILE, framework="np") as stored:
        seen = stored.get_tensor("learner.bank.seen").clip(max=4)  # cpal.bank_length
        origins = json.loads(stored.metadata()["cpal"])["meta"]["origins"]
        total, entries = (stored.get_tensor(f"learner.bank.{name}") for name in ("seen", "entries"))
        context = stored.get_tensor("learner.context")
    assert total[0] == 5, "the first instance of the background is no longer in the bank"
    assert len(groups) == 4 and [sum(g.members for g in of_class) for of_class in groups] == seen.tolist()
    for of_class, ids in zip(groups, origins, strict=True):
        assert {like.image_id for group in of_class for like in group.nearest} <= set(ids)
        assert all(len(group.nearest) == min(2, len(ids)) for group in of_class)
    for k, of_class in enumerate(groups):  # instance number i of a class is in slot i modulo the length
        slots = {name: number % 4 for number, name in enumerate(origins[k], start=int(total[k]) - len(origins[k]))}
        for group in of_class:
            expected = [cosine(entries[k, slots[x.image_id]], context[k, group.prototype]) for x in group.nearest]
            assert [like.cosine for like in group.nearest] == pytest.approx(expected, abs=1e-5)


def test_what_stops_the_reading(finished_run: Path, tmp_path: Path) -> None:
    path = finished_run / FILE
    with pytest.raises(UserError, match="no such file; run the fit_prototypes stage first"):
        read_groups(tmp_path / "none", CLASSES, IMAGES, nearest=1)
    with pytest.raises(UserError, match="other settings .classes.*dvc repro fit_prototypes$"):
        read_groups(path, CLASSES[:2], IMAGES, nearest=1)
    with pytest.raises(UserError, match="made of other images, such as d; .*dvc repro fit_prototypes$"):
        read_groups(path, CLASSES, IMAGES - {"d"}, nearest=1)
    damaged = tmp_path / "damaged"
    damaged.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged.*dvc repro -f -s fit_prototypes$"):
        read_groups(damaged, CLASSES, IMAGES, nearest=1)
    check_images(path, [["a"], []], {"a"})
