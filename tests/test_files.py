"""Whole files or none, and nothing left of a process that is gone."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cpal.files import HOST, put, remove, sweep, temporary_name, whole_file, whole_folder, write_json


def test_a_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path, scratch = tmp_path / "data" / "a.txt", tmp_path / "scratch"
    scratch.mkdir()
    with whole_file(path, scratch) as temporary:
        assert temporary.parent == scratch, "what is not whole lies beside, never among what others read"
        temporary.write_text("old")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), whole_file(path) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert path.read_text() == "old"
    assert [p.name for p in path.parent.iterdir()] == ["a.txt"] and not list(scratch.iterdir())


def test_a_folder_replaces_a_folder_and_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "roomy").mkdir()
    (tmp_path / "roomy" / "old").touch()
    (tmp_path / "link").symlink_to("roomy")
    with whole_folder(tmp_path / "link") as folder:
        (folder / "new").touch()
        assert (tmp_path / "link" / "old").exists()
    assert (tmp_path / "link").is_symlink()
    assert [path.name for path in (tmp_path / "roomy").iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "roomy"]


def test_put_replaces_whatever_is_there(tmp_path: Path) -> None:
    for target in ("file", "folder", "link", "nothing"):
        source, out = tmp_path / "source", tmp_path / target
        source.mkdir()
        (source / "x").touch()
        if target == "file":
            (tmp_path / "source" / "x").replace(tmp_path / "file")
            (source / "x").touch()
            remove(source)
            source.write_text("new")
        elif target == "folder":
            out.mkdir()
            (out / "old").touch()
        elif target == "link":
            out.symlink_to(tmp_path / "folder")
        put(source, out, tmp_path)
        assert not source.exists() and not out.is_symlink()
        assert out.is_file() if target == "file" else [p.name for p in out.iterdir()] == ["x"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "link", "nothing"]


def test_sweep_takes_what_dead_processes_left_and_nothing_else(tmp_path: Path) -> None:
    code = "import cpal.files; print(cpal.files.temporary_name())"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / dead).mkdir()
    (tmp_path / dead / "part").touch()
    mine, other_host, own = temporary_name(), ".elsewhere.1.00000000.tmp", ".notes.tmp"
    init = f".{HOST}.1.00000000.tmp"  # process 1 runs
    for name in (mine, other_host, own, init, "a.npz"):
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([mine, other_host, own, init, "a.npz"])
    sweep(tmp_path / "missing")


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_a_killed_process_has_set_aside_comes_back(tmp_path: Path, there: bool) -> None:
    """Corrected masks are hand work, and no other copy of them exists."""
    code = """
import os, pathlib, cpal.files
rename = pathlib.Path.rename
def killed(path, target):
    if path.name == "new":
        os._exit(9)
    rename(path, target)
pathlib.Path.rename = killed
cpal.files.put(pathlib.Path("new"), pathlib.Path("my.masks"), pathlib.Path("."))
"""
    for name in ("my.masks", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"of_{name}").touch()
    here = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=here).returncode == 9
    assert not (tmp_path / "my.masks").exists()
    if there:
        (tmp_path / "my.masks").mkdir()
    sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["my.masks", "new"]
    assert os.listdir(tmp_path / "my.masks") == ([] if there else ["of_my.masks"])


def test_two_processes_sweep_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import cpal.files; print(cpal.files.temporary_name('masks'))"
    aside = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / aside).mkdir()
    rename = Path.rename

    def after_the_other(path: Path, target: Path) -> None:
        rename(path, target)
        rename(path, target)  # as if another process had been faster

    monkeypatch.setattr(Path, "rename", after_the_other)
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["masks"]


def test_after_an_error_the_old_folder_is_back(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "gone", tmp_path / "old", tmp_path)
    assert os.listdir(tmp_path) == ["old"]


def test_a_full_disk_names_the_file_that_the_user_knows(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, whole_file(tmp_path / "a") as temporary:
        raise OSError(28, "No space left on device", str(temporary))
    assert caught.value.filename == str(tmp_path / "a")
    with pytest.raises(TypeError):
        write_json(tmp_path / "b.json", {1, 2})
    assert not list(tmp_path.iterdir())


def test_a_folder_that_another_process_writes_into_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, rmtree, calls = tmp_path / "folder", shutil.rmtree, 0

    def disturbed(path: Path, **options: Any) -> None:
        nonlocal calls
        calls += 1
        if calls < 3:
            raise OSError(errno.ENOTEMPTY, "another process was there", str(path))
        rmtree(path, **options)

    (folder / "deep").mkdir(parents=True)
    monkeypatch.setattr("cpal.files.shutil.rmtree", disturbed)
    remove(folder)
    assert not folder.exists() and calls == 3


def test_two_processes_remove_one_folder(tmp_path: Path) -> None:
    code = "import sys, pathlib, cpal.files; sys.stdin.read(1); cpal.files.remove(pathlib.Path(sys.argv[1]))"
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3000):
        (folder / str(number)).touch()
    command = [sys.executable, "-c", code, str(folder)]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    assert [process.communicate()[1] for process in running] == ["", ""]
    assert not folder.exists()


def test_a_folder_that_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, **_: Any) -> None:
        raise OSError(errno.EACCES, "denied", str(path))

    monkeypatch.setattr("cpal.files.shutil.rmtree", refused)
    with pytest.raises(OSError, match="denied"):
        remove(tmp_path)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real/params.yaml", tmp_path / "params.yaml"
    target.write_text("old")
    link.symlink_to(target)
    with whole_file(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["params.yaml"]
