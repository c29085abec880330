"""Pickled label dictionaries become labels.csv, and a pickle never runs what it brings along."""

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpal.errors import UserError
from cpal.sources.voc import CLASSES
from stages import import_labels
from stages.job.options import run

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
    import_labels.main(source, tmp_path / "labels.csv", allow_pickle=True)
    assert (tmp_path / "labels.csv").read_text() == CSV


@pytest.mark.parametrize("protocol", range(4))
def test_names_of_numpy_1(tmp_path: Path, protocol: int) -> None:
    source = save(tmp_path / "labels.npy", LABELS, protocol=protocol, old_numpy=True)
    assert b"numpy.core" in source.read_bytes()
    import_labels.main(source, tmp_path / "labels.csv", allow_pickle=True)
    assert (tmp_path / "labels.csv").read_text() == CSV


def test_what_np_save_writes(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", np.array(LABELS, dtype=object))
    import_labels.main(tmp_path / "labels.npy", tmp_path / "labels.csv", allow_pickle=True)
    assert (tmp_path / "labels.csv").read_text() == CSV


def test_other_columns(tmp_path: Path) -> None:
    source = save(tmp_path / "labels.npy", {"a": [0, 1, 1], "b, c": [1, 0, 0]})
    import_labels.main(source, tmp_path / "labels.csv", classes="cat, dog,person", allow_pickle=True)
    assert (tmp_path / "labels.csv").read_text() == 'image,labels\na,dog;person\n"b, c",cat\n'


def test_refused_without_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = save(tmp_path / "labels.npy", Trap(tmp_path / "sprung"))
    monkeypatch.setattr(sys, "argv", ["import_labels", str(source), str(tmp_path / "labels.csv")])
    with pytest.raises(SystemExit, match="^2$"):
        run(import_labels.main)
    message = capsys.readouterr().err
    assert message.startswith(f"error: {source}: holds a pickle, and reading a pickle can run code")
    assert "add --allow-pickle" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.npy"]


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
        import_labels.main(source, tmp_path / "labels.csv", allow_pickle=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.npy"]
    np.load(source, allow_pickle=True)
    assert (tmp_path / "sprung").is_dir(), "the trap works where nothing stops it"


@pytest.mark.parametrize("harmless", [{1, 2}, Path("x"), np.float64, np.load, pickle.loads, eval])
def test_whatever_is_not_needed_is_refused(tmp_path: Path, harmless: Any) -> None:
    source = save(tmp_path / "labels.npy", {"x": harmless}, protocol=2)
    with pytest.raises(UserError, match="it asks for .*, which no dictionary of labels needs"):
        import_labels.main(source, tmp_path / "labels.csv", allow_pickle=True)


def test_only_one_text_encoding(tmp_path: Path) -> None:
    class Encoded:
        def __reduce__(self) -> Any:
            import codecs

            return codecs.encode, ("abc", "rot13")

    source = save(tmp_path / "labels.npy", {"x": Encoded()}, protocol=2)
    with pytest.raises(UserError, match="it asks for the encoding rot13"):
        import_labels.main(source, tmp_path / "labels.csv", allow_pickle=True)


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
    ],
)
def test_other_content(tmp_path: Path, content: Any, message: str) -> None:
    source = save(tmp_path / "labels.npy", content)
    with pytest.raises(UserError) as caught:
        import_labels.main(source, tmp_path / "labels.csv", allow_pickle=True)
    assert str(caught.value).startswith(f"{source}: ")
    assert message in str(caught.value)
    assert not (tmp_path / "labels.csv").exists()


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none.npy: no such file"):
        import_labels.main(tmp_path / "none.npy", tmp_path / "labels.csv", allow_pickle=True)
    np.save(tmp_path / "array.npy", np.zeros((3, 20), np.float32))
    with pytest.raises(UserError, match="holds an array of float32, not a dictionary of labels"):
        import_labels.main(tmp_path / "array.npy", tmp_path / "labels.csv", allow_pickle=False)
    (tmp_path / "text.npy").write_text("2007_000032 cat\n")
    with pytest.raises(UserError, match="text.npy: not a dictionary that np.save wrote"):
        import_labels.main(tmp_path / "text.npy", tmp_path / "labels.csv", allow_pickle=True)
    whole = save(tmp_path / "labels.npy", LABELS).read_bytes()
    for end in range(0, len(whole), 7):
        (tmp_path / "cut.npy").write_bytes(whole[:end])
        with pytest.raises(UserError, match="cut.npy: not a dictionary that np.save wrote"):
            import_labels.main(tmp_path / "cut.npy", tmp_path / "labels.csv", allow_pickle=True)


@pytest.mark.parametrize("classes", ["", "cat,cat", "cat;dog", "cat,"])
def test_classes_are_names(tmp_path: Path, classes: str) -> None:
    with pytest.raises(UserError, match="name each class once"):
        import_labels.main(tmp_path / "labels.npy", tmp_path / "labels.csv", classes=classes)


def test_columns_are_vocs_by_default() -> None:
    assert len(CLASSES) == 20
    assert list(CLASSES) == sorted(CLASSES)
