"""Pickled label dictionaries become labels.csv, and a pickle never runs what it brings along."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpal.errors import UserError
from cpal.sources.label_dict import Background, read_label_dict
from cpal.sources.voc import CLASSES
from stages import import_labels

LABELS: dict[Any, Any] = {
    "2008_000002": np.array([n in (0, 19) for n in range(20)], np.float32),
    2007000032: np.array([n == 7 for n in range(20)], np.float64),
    np.str_("empty"): np.zeros(20, np.uint8),
}
CSV = "image,labels\n2007_000032,cat\n2008_000002,aeroplane;tvmonitor\nempty,\n"


def save(path: Path, content: Any, *, protocol: int = 4, old_numpy: bool = False) -> Path:
    """np.save for any pickle protocol, and with the module names of numpy 1."""
    array = np.empty((), object)
    array[()] = content
    data = pickle.dumps(array, protocol=protocol)
    if old_numpy:
        assert protocol < 4, "later formats store lengths too"
        data = data.replace(b"numpy._core", b"numpy.core")
    with path.open("wb") as stream:
        header = {"descr": "|O", "fortran_order": False, "shape": ()}
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_every_pickle_format(tmp_path: Path, protocol: int) -> None:
    source = save(tmp_path / "labels.npy", LABELS, protocol=protocol)
    import_labels.main(source, tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == CSV


@pytest.mark.parametrize("protocol", range(4))
def test_names_of_numpy_1(tmp_path: Path, protocol: int) -> None:
    source = save(tmp_path / "labels.npy", LABELS, protocol=protocol, old_numpy=True)
    assert b"numpy.core" in source.read_bytes()
    import_labels.main(source, tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == CSV


def test_what_np_save_writes(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array(LABELS, dtype=object))
    import_labels.main(tmp_path / "labels.npy", tmp_path / "labels.csv")
    assert (tmp_path / "labels.csv").read_text() == CSV


def test_other_columns(tmp_path: Path) -> None:
    source = save(tmp_path / "labels.npy", {"a": [0, 1, 1], "b, c": [1, 0, 0]})
    import_labels.main(source, tmp_path / "labels.csv", classes="cat, dog,person")
    assert (tmp_path / "labels.csv").read_text() == 'image,labels\na,dog;person\n"b, c",cat\n'


class Trap:
    """Unpickled by the ordinary means, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_does_not_run(tmp_path: Path, protocol: int) -> None:
    source = save(tmp_path / "labels.npy", LABELS | {"x": Trap(tmp_path / "sprung")}, protocol=protocol)
    with pytest.raises(UserError, match=r"it asks for (posix|nt|os)\.mkdir"):
        import_labels.main(source, tmp_path / "labels.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.npy"]
    np.load(source, allow_pickle=True)
    assert (tmp_path / "sprung").is_dir(), "the trap works where nothing stops it"


@pytest.mark.parametrize("harmless", [{1, 2}, Path("x"), np.float64, np.load, pickle.loads, eval])
def test_whatever_is_not_needed_is_refused(tmp_path: Path, harmless: Any) -> None:
    source = save(tmp_path / "labels.npy", {"x": harmless}, protocol=2)
    with pytest.raises(UserError, match="it asks for .*, which no dictionary of labels needs"):
        import_labels.main(source, tmp_path / "labels.csv")


def test_only_one_text_encoding(tmp_path: Path) -> None:
    class Encoded:
        def __reduce__(self) -> Any:
            import codecs

            return codecs.encode, ("abc", "rot13")

    source = save(tmp_path / "labels.npy", {"x": Encoded()}, protocol=2)
    with pytest.raises(UserError, match="it asks for the encoding rot13"):
        import_labels.main(source, tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": [0, 1]}, "image a: expected 20 values of 0 or 1"),
        ({"a": [0.5] * 20}, "image a: expected 20 values"),
        ({"a": [np.nan] * 20}, "image a: expected 20 values"),
        ({"a": "cat"}, "image a: expected 20 values"),
        ({"a": [10**400] * 20}, "image a: expected 20 values"),
        ({"a": [[0] * 20]}, "image a: expected 20 values"),
        ({9: [0] * 20}, "key 9 is neither text nor a number such as 2007000032"),
        ({2007000032: [0] * 20, "2007_000032": [0] * 20}, "names an image twice"),
        ([1, 2], "not a dictionary of labels"),
        ({}, "holds no image; name the file that the method wrote"),
    ],
)
def test_other_content(tmp_path: Path, content: Any, message: str) -> None:
    source = save(tmp_path / "labels.npy", content)
    with pytest.raises(UserError) as caught:
        import_labels.main(source, tmp_path / "labels.csv")
    assert str(caught.value).startswith(f"{source}: ")
    assert message in str(caught.value)
    assert not (tmp_path / "labels.csv").exists()


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.npy: no such file"):
        import_labels.main(tmp_path / "none.npy", tmp_path / "labels.csv")
    np.save(tmp_path / "array.npy", np.zeros((3, 20), np.float32))
    with pytest.raises(UserError, match="holds a matrix of 3 x 20 and no dictionary of labels; add --ids LIST"):
        import_labels.main(tmp_path / "array.npy", tmp_path / "labels.csv")
    (tmp_path / "text.npy").write_text("2007_000032 cat\n")
    with pytest.raises(UserError, match="text.npy: not a dictionary that np.save wrote"):
        import_labels.main(tmp_path / "text.npy", tmp_path / "labels.csv")
    whole = save(tmp_path / "labels.npy", LABELS).read_bytes()
    for end in range(7, len(whole), 7):
        (tmp_path / "cut.npy").write_bytes(whole[:end])
        with pytest.raises(UserError, match="cut.npy: not a dictionary that np.save wrote"):
            import_labels.main(tmp_path / "cut.npy", tmp_path / "labels.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer .* git lfs pull"),
        (b"<!DOCTYPE html><title>Google Drive</title>", "a web page instead of the file; download the file itself"),
        (pickle.dumps(LABELS), "a plain pickle; save the dictionary in it with np.save"),
        (b"PK\x03\x04rest", "an archive .* save the dictionary in it with np.save"),
    ],
)
def test_files_that_are_taken_for_labels(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "cls_labels.npy").write_bytes(content)
    with pytest.raises(UserError, match=f"cls_labels.npy: {message}"):
        import_labels.main(tmp_path / "cls_labels.npy", tmp_path / "labels.csv")


# Other forms of the file

COCO: dict[Any, Any] = {9: [1, 0], 25: [0, 1], 391895: [1, 1]}  # cls_labels_coco.npy of several repositories
COCO_IDS = ["COCO_train2014_000000000009", "COCO_train2014_000000000025", "COCO_train2014_000000391895"]


def converted(source: Path, **options: Any) -> list[str]:
    target = source.with_suffix(".csv")
    target.unlink(missing_ok=True)
    values: dict[str, Any] = {"classes": "cat,dog"} | options
    import_labels.main(source, target, **values)
    return target.read_text().splitlines()[1:]


def test_integer_keys_and_a_list_of_padded_ids(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, ids = save(tmp_path / "labels.npy", COCO | {77: [0, 0]}), tmp_path / "ids.txt"
    ids.write_text("\n".join(COCO_IDS))
    expected = [f"{COCO_IDS[0]},cat", f"{COCO_IDS[1]},dog", f"{COCO_IDS[2]},cat;dog"]
    assert converted(source, ids=ids) == expected
    assert f"1 image(s) that are not on {ids} are left out" in capsys.readouterr().out
    (tmp_path / "images").mkdir()
    for number in (9, 25, 391895):
        (tmp_path / f"images/{number:012}.jpg").touch()
    assert [line[:12] for line in converted(source, ids=tmp_path / "images")] == [f"{n:012}" for n in (9, 25, 391895)]


def test_integer_keys_that_two_ids_fit(tmp_path: Path) -> None:
    source, ids = save(tmp_path / "labels.npy", COCO), tmp_path / "ids.txt"
    with pytest.raises(UserError, match="if it is an id without its leading zeros, add --ids"):
        converted(source)
    ids.write_text("train_009\nval_0009\n")
    with pytest.raises(UserError, match="key 9 can be train_009 or val_0009 of --ids"):
        converted(source, ids=ids)
    ids.write_text("x\n")
    with pytest.raises(UserError, match="none of its keys, such as 9, is an image id of --ids"):
        converted(source, ids=ids)


def test_rows_of_shape_1_n(tmp_path: Path) -> None:
    source = save(tmp_path / "labels.npy", {"a": np.array([[1.0, 0]]), "b": np.array([[0], [1]])})
    assert converted(source) == ["a,cat", "b,dog"]


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_background_column(tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {"a": [1, 0], "b": [0, 1]}
    content = {key: [1, *row] if place == "first" else [*row, 1] for key, row in rows.items()}
    assert converted(save(tmp_path / "labels.npy", content)) == ["a,cat", "b,dog"]
    assert f"the {place} of 3 columns is background" in capsys.readouterr().out
    content["a"] = [0, 1, 0]  # nothing tells which column it is
    source = save(tmp_path / "labels.npy", content)
    with pytest.raises(UserError, match="3 values for 2 classes: if the first is background, add --background first"):
        converted(source)
    assert converted(source, background=Background(place))[0] == {"first": "a,cat", "last": "a,dog"}[place]


def test_a_bare_matrix(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array([[1, 0], [1, 1], [0, 0]], np.float32))
    ids = tmp_path / "train_aug.txt"
    ids.write_text("".join(f"/JPEGImages/{i}.jpg /SegmentationClassAug/{i}.png\n" for i in ("b", "a", "c")))
    source = tmp_path / "labels.npy"
    assert converted(source, ids=ids) == ["a,cat;dog", "b,cat", "c,"]
    ids.write_text("b\na\n")
    with pytest.raises(UserError, match="holds a matrix of 3 x 2, but .* names 2 images"):
        converted(source, ids=ids)
    with pytest.raises(UserError, match="is a folder, which gives the rows of a matrix no order"):
        converted(source, ids=tmp_path)


def test_damaged_files(tmp_path: Path) -> None:
    """Rows, or one message, whatever bytes are exchanged; of a dictionary and of a matrix."""
    ids, rng, read = tmp_path / "ids.txt", np.random.default_rng(0), 0
    ids.write_text("\n".join(COCO_IDS))
    np.save(tmp_path / "matrix.npy", np.array([[1, 0], [0, 1], [1, 1]], np.float32))
    contents = [save(tmp_path / "dict.npy", COCO).read_bytes(), (tmp_path / "matrix.npy").read_bytes()]
    for n in range(200):
        data = bytearray(contents[n % 2])
        data[int(rng.integers(0, len(data)))] = rng.integers(256)
        (tmp_path / "labels.npy").write_bytes(data[: len(data) - (n % 8 == 0)])
        try:
            read += len(read_label_dict(tmp_path / "labels.npy", ["cat", "dog"], ids=ids).rows) > 0
        except UserError as error:
            assert len(str(error)) > 30
    assert 5 < read < 190


def test_a_matrix_that_is_smaller_than_it_says(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.zeros((3, 2)))
    data = (tmp_path / "labels.npy").read_bytes().replace(b"(3, 2), }         ", b"(3999999999, 2), }", 1)
    assert b"3999999999" in data
    (tmp_path / "labels.npy").write_bytes(data)
    with pytest.raises(UserError, match="labels.npy: is shorter than its header says; copy it anew"):
        converted(tmp_path / "labels.npy")


@pytest.mark.parametrize("classes", ["", "cat,cat", "cat;dog", "cat,"])
def test_classes_are_names(tmp_path: Path, classes: str) -> None:
    with pytest.raises(UserError, match="name each class once"):
        import_labels.main(tmp_path / "labels.npy", tmp_path / "labels.csv", classes=classes)


def test_columns_are_vocs_by_default() -> None:
    assert len(CLASSES) == 20
    assert list(CLASSES) == sorted(CLASSES)


def test_an_existing_file_is_not_replaced(tmp_path: Path) -> None:
    source = save(tmp_path / "labels.npy", {"a": [1, 0], "b": [0, 1]})
    before = source.read_bytes()
    for target in (source, tmp_path / "labels.csv"):
        (tmp_path / "labels.csv").write_text("image,labels\nmine,cat\n")
        with pytest.raises(UserError, match="is there already"):
            import_labels.main(source, target, classes="cat,dog")
    assert source.read_bytes() == before and "mine" in (tmp_path / "labels.csv").read_text()
