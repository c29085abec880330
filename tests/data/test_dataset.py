"""dataset.json of a stranger: what `prepare` would not write is refused, before a path of it is opened."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cpal.data.dataset import Dataset, Record, id_problem, read_dataset, twins, write_dataset
from cpal.errors import UserError

CURE = "run the prepare stage again: dvc repro -f -s prepare"


def refusal(folder: Path, dataset: Dataset, **changes: Any) -> str:
    """The message for the tiny data set with changes: to keys of the file, and as `record` to its second record."""
    content = json.loads((dataset.mask_root / "dataset.json").read_text(encoding="utf-8"))
    content["records"][1] |= changes.pop("record", {})
    (folder / "dataset.json").write_text(json.dumps(content | changes), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_dataset(folder)
    message = str(error.value)
    assert message.startswith(f"{folder / 'dataset.json'}: ") and message.endswith(f"; {CURE}") and "\n" not in message
    assert len(message) < len(str(folder)) + 500
    return message


@pytest.mark.parametrize(
    "image_id",
    ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0b", "a\nb", ".hidden", "x" * 231, "é" * 116, "x" * 10**6],
)
def test_ids_that_are_no_plain_names(tmp_path: Path, tiny_dataset: Dataset, image_id: str) -> None:
    message = refusal(tmp_path, tiny_dataset, record={"image_id": image_id})
    assert f"record 1 ({image_id[:100]!r}): the id " in message


@pytest.mark.parametrize(
    "image_id", ["a", "2007_000032", "a.b", "sub__a", "x" * 230, "é" * 115, "日本", "with space", "a..b"]
)
def test_ids_of_the_sources_are_kept(tmp_path: Path, tiny_dataset: Dataset, image_id: str) -> None:
    assert id_problem(image_id) is None
    records = [Record(**asdict(tiny_dataset.records[0]) | {"image_id": image_id})]
    write_dataset(tmp_path, records, classes=("a", "b"), splits=tiny_dataset.splits, image_root="/any/where")
    assert read_dataset(tmp_path).records[0].image_id == image_id


@pytest.mark.parametrize(("other", "same"), [("a", True), ("A", True), ("aa", False)])
def test_ids_that_are_one_file_somewhere(tmp_path: Path, tiny_dataset: Dataset, other: str, same: bool) -> None:
    assert list(twins(["a", other])) == ([("a", other)] if same else [])
    if same:
        assert f"the ids 'a' and {other!r} name the same file" in refusal(
            tmp_path, tiny_dataset, record={"image_id": other}
        )


def test_letters_of_two_characters_are_twins_of_those_of_one() -> None:
    assert list(twins(["caf\u00e9", "cafe\u0301", "cafe"])) == [("caf\u00e9", "cafe\u0301")]


@pytest.mark.parametrize("key", ["image", "mask"])
@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x.png", "a/../../x.png", "a\\..\\x.png", "C:\\x.png", "a\0.png"]
)
def test_paths_that_may_lead_elsewhere(tmp_path: Path, tiny_dataset: Dataset, key: str, path: str) -> None:
    message = refusal(tmp_path, tiny_dataset, record={key: path})
    assert f"record 1 ('b'): {key} {path!r} is no path below " in message


@pytest.mark.parametrize(("width", "height"), [(2**31, 1), (1, 2**40), (20_000, 20_000), (0, 5), (5, -1)])
def test_sizes_that_no_image_has(tmp_path: Path, tiny_dataset: Dataset, width: int, height: int) -> None:
    message = refusal(tmp_path, tiny_dataset, record={"width": width, "height": height})
    assert f"record 1 ('b'): {width} x {height} pixels, not 1 to 178956970" in message


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"classes": ["a", "a", "b"]}, "a class has no name, or two have the same"),
        ({"classes": ["a", "", "b"]}, "a class has no name"),
        ({"classes": ["a", " ", "b"]}, "a class has no name"),
        ({"classes": [f"c{n}" for n in range(255)]}, "255 classes; masks of 8 bits hold 254"),
        ({"splits": {"train": "t"}}, "does not name the lists of its splits train, score and val"),
        ({"image_root": "a\0b"}, "image_root is no path"),
    ],
)
def test_what_all_records_share(tmp_path: Path, tiny_dataset: Dataset, changes: dict[str, Any], text: str) -> None:
    assert text in refusal(tmp_path, tiny_dataset, **changes)


def test_the_images_may_lie_anywhere(tmp_path: Path, tiny_dataset: Dataset) -> None:
    """data.root is the user's, absolute or not."""
    for root in ("/mnt/photos", "../photos"):
        write_dataset(tmp_path, tiny_dataset.records, classes="abc", splits=tiny_dataset.splits, image_root=root)
        assert read_dataset(tmp_path).image_root == Path(root)


def test_a_hundred_thousand_records_are_checked_quickly(tmp_path: Path, tiny_dataset: Dataset) -> None:
    records = [
        Record(f"{n:09}", "train", True, f"JPEGImages/{n:09}.jpg", 500, 375, (1, 2), f"masks/{n:09}.png", "0" * 64)
        for n in range(100_000)
    ]
    write_dataset(tmp_path, records, classes=("a", "b"), splits=tiny_dataset.splits, image_root="/any/where")
    start = time.process_time()
    assert len(read_dataset(tmp_path).records) == 100_000
    assert time.process_time() - start < 10  # about one second; the bound is for slow machines


def test_a_sample_of_the_predicted_images_is_drawn_by_seed(tiny_dataset: Dataset) -> None:
    everything = tiny_dataset.predicted()
    assert everything == tiny_dataset.split("train") == tiny_dataset.predicted(images=5)
    found = [tiny_dataset.predicted(images=3, seed=seed) for seed in range(20)]
    assert all(len(records) == 3 and records == [r for r in everything if r in records] for records in found)
    assert {record.image_id for records in found for record in records} == {record.image_id for record in everything}
    assert found[0] == tiny_dataset.predicted(images=3, seed=0) and len({str(records) for records in found}) > 1
    assert tiny_dataset.predicted(2, images=3, seed=0) == found[0][:2]


def test_images_with_a_score_are_predicted_if_there_are_any(tiny_dataset: Dataset) -> None:
    def ids(*scored: str) -> list[str]:
        records = tuple(replace(record, scored=record.image_id in scored) for record in tiny_dataset.records)
        return [record.image_id for record in replace(tiny_dataset, records=records).predicted(3)]

    assert ids("b", "d", "e") == ["b", "d"] and ids("e", "f") == ["a", "b", "c"]
    assert [record.image_id for record in tiny_dataset.scored("train", 2)] == ["a", "b"]
