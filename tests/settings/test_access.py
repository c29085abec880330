"""A file that is there but cannot be read: every reader of files that a user names tells the true cause, and a cure."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cpal.data.images import read_image
from cpal.data.masks import read_mask
from cpal.errors import UserError
from cpal.settings.config import load_config
from cpal.settings.profiles import read_settings
from cpal.sources.instances_json import read_instances
from cpal.sources.pickled import read_pickled
from cpal.sources.tables.read import read_table
from cpal.sources.tables.rows import Reading


def csv_problem(path: Path) -> None:
    problems: list[str] = []
    assert read_table(path, Reading(), bool, problems) is None
    raise UserError(*problems)


READERS: dict[str, Callable[[Path], Any]] = {
    "image": read_image,
    "mask": read_mask,
    "params.yaml": load_config,
    "profile": read_settings,
    "instances JSON": lambda path: read_instances(path, outlines=False),
    "pickle": lambda path: read_pickled(path, what="labels"),
    "table of labels": csv_problem,
}


@pytest.fixture(params=READERS.values(), ids=list(READERS))
def told(request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """The message of each reader for a path, less the path."""

    def read(path: Path) -> str:
        with pytest.raises(UserError) as error:
            request.param(path)
        message = str(error.value)
        assert message.startswith(f"{path}: ") and "; " in message, "what is wrong, where, and the cure"
        return message.removeprefix(f"{path}: ")

    return read


def test_missing(told: Callable[[Path], str], tmp_path: Path) -> None:
    assert told(tmp_path / "gone").startswith("no such ")
    (tmp_path / "file").touch()
    assert told(tmp_path / "file" / "below").startswith("no such ")


def test_a_folder(told: Callable[[Path], str], tmp_path: Path) -> None:
    assert told(tmp_path) == "is a folder and no file; name a file in it"


def test_a_pipe_is_not_waited_for(told: Callable[[Path], str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert told(tmp_path / "pipe") == "is a pipe or a device and no file; copy its content into a file"
    assert told(Path("/dev/zero")) == "is a pipe or a device and no file; copy its content into a file"


def test_a_dead_link(told: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("gone.png")
    assert told(tmp_path / "link") == "is a link to gone.png, which is missing; link it anew"


def test_a_loop_of_links_and_impossible_names(told: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "loop", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        assert told(path).startswith("cannot be a file here (") and told(path).endswith("; name another one")


def test_permission_denied(told: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything: what the system says to others is played."""
    path = tmp_path / "my file"
    path.touch(mode=0)
    monkeypatch.setattr(os, "access", lambda *arguments, **named: False)
    assert told(path) == f"permission denied; allow it with: chmod u+r '{path}'"


def test_permission_denied_by_a_folder(
    told: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Any, **named: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", closed)
        message = told(tmp_path / "a.png")
    assert message == f"permission denied by a folder on the way to it; allow it with: chmod u+x {tmp_path}"
