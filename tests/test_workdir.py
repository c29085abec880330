"""Unfinished work is continued by the same stage with the same settings and inputs, and by no other."""

from pathlib import Path

import pytest

from cpal.errors import UserError
from stages.workdir import KEPT, publish, work_folder

PIPELINE = """\
stages:
  grow:
    cmd: python -m stages.grow
    deps: [code.py, inputs]
  other:
    cmd: python -m stages.other
    deps: [code.py, inputs]
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(PIPELINE)
    Path("code.py").write_text("1")
    Path("inputs").mkdir()
    Path("inputs/a").write_text("a")
    return tmp_path


def test_same_folder_for_the_same_work() -> None:
    folder = work_folder("grow", [1, {"a": None}])
    (folder / "part").write_text("half")
    again = work_folder("grow", [1, {"a": None}])
    assert again == folder and (again / "part").read_text() == "half"


@pytest.mark.parametrize("change", ["settings", "code", "input", "new input", "renamed input", "stage"])
def test_another_folder_for_other_work(change: str) -> None:
    before = work_folder("grow", [1])
    if change == "code":
        Path("code.py").write_text("2")
    elif change == "input":
        Path("inputs/a").write_text("b")
    elif change == "new input":
        Path("inputs/b").write_text("a")
    elif change == "renamed input":
        Path("inputs/a").rename("inputs/b")
    stage = "other" if change == "stage" else "grow"
    assert work_folder(stage, [2] if change == "settings" else [1]) != before


def test_publish_moves_and_drops_the_rest() -> None:
    stale = work_folder("grow", [0])
    folder = work_folder("grow", [1])
    (folder / "maps").mkdir()
    (folder / "maps" / "x").write_text("new")
    (folder / "weights").write_text("new")
    old = Path("data/maps")
    old.mkdir(parents=True)
    (old / "left_over").write_text("old")
    publish(folder, {"maps": old, "weights": Path("data/weights")})
    assert [path.name for path in old.iterdir()] == ["x"]
    assert Path("data/weights").read_text() == "new"
    assert not folder.exists() and not stale.exists()
    assert not list(Path("data").glob(".*"))


def test_kept_work_is_found_again_and_the_oldest_go() -> None:
    folders = []
    for setting in range(KEPT + 2):
        folder = work_folder("grow", [setting])
        (folder / "weights").write_text(str(setting))
        publish(folder, {"weights": Path("data/weights")}, keep=True)
        folders.append(folder)
    assert Path("data/weights").read_text() == str(KEPT + 1)
    assert [folder.exists() for folder in folders] == [False] * 2 + [True] * KEPT
    assert (work_folder("grow", [KEPT]) / "weights").read_text() == str(KEPT)


def test_missing_input_names_the_cure() -> None:
    Path("code.py").unlink()
    with pytest.raises(UserError, match=r"code.py: missing.*dvc repro grow"):
        work_folder("grow", [])


def test_outside_the_project_is_said() -> None:
    Path("dvc.yaml").unlink()
    with pytest.raises(UserError, match="run stages from the project's folder"):
        work_folder("grow", [])
