"""A killed training goes on from its newest whole checkpoint, and from nothing else."""

import logging
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from simulated_device import simulated

from cpal.errors import UserError
from cpal.files import file_sha256
from cpal.training import checkpoints
from cpal.training.checkpoints import KEPT, State, newest_checkpoint, write_checkpoint
from cpal.training.curves import TrainingLog


def state(step: int) -> State:
    return {"iter": step, "model": {"weight": torch.full((3,), float(step))}, "rate": 0.1}


def steps(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.glob("*.pth"))


def test_the_newest_ones_stay(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "none") is None
    for step in (10, 20, 100):
        write_checkpoint(tmp_path / "c", step, state(step))
    assert steps(tmp_path / "c") == ["step_00000020", "step_00000100"] and KEPT == 2
    found = newest_checkpoint(tmp_path / "c")
    assert found is not None and found["iter"] == 100 and torch.equal(found["model"]["weight"], torch.full((3,), 100.0))
    assert not list(tmp_path.glob(".*")), "no temporary file stays"


@pytest.mark.parametrize("damage", ["cut", "empty", "flip", "zeros"])
def test_a_damaged_one_is_passed_over_with_a_warning(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (10, 20):
        write_checkpoint(tmp_path, step, state(step))
    (newest,) = tmp_path.glob("step_00000020-*")
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[content.index(torch.full((3,), 20.0).numpy().tobytes())] ^= 1  # in a weight: torch itself sees nothing
    damaged = {"cut": content[:100], "empty": b"", "flip": content, "zeros": bytes(len(content))}
    newest.write_bytes(bytes(damaged[damage]))
    with caplog.at_level(logging.WARNING):
        found = newest_checkpoint(tmp_path)
    assert found is not None and found["iter"] == 10
    assert f"{newest}: is not what was written; the training goes on from an older one, or afresh" in caplog.text


def test_both_damaged_it_starts_afresh(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 10, state(10))
    for path in tmp_path.glob("*.pth"):
        path.write_bytes(b"")
    assert newest_checkpoint(tmp_path) is None


@pytest.mark.parametrize(("mine", "other"), [(10, 10), (10, 20), (None, 20), (None, 0)])
def test_processes_go_on_from_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: int | None, other: int
) -> None:
    """Of a folder that the machines do not share, each would go on from its own checkpoint, or afresh."""
    if mine:
        write_checkpoint(tmp_path, mine, state(mine))
    monkeypatch.setattr(checkpoints, "all_gather_object", lambda step: [step, other])
    if (mine or 0) == other:
        assert (newest_checkpoint(tmp_path) is None) == (mine is None)
        return
    with pytest.raises(UserError, match=rf"checkpoints of different steps \[{mine or 0}, {other}\]; set CPAL_CACHE"):
        newest_checkpoint(tmp_path)


def test_a_copied_project_reads_its_own(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", 10, state(10))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_checkpoint(tmp_path / "a", 20, state(20))
    found = newest_checkpoint(tmp_path / "b")
    assert found is not None and found["iter"] == 10


class Code:
    """Pickled, it writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return Path.write_text, (self.path, "ran")


@pytest.mark.parametrize("plain", [False, True])
def test_code_in_a_checkpoint_does_not_run(plain: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Even where its name has the right hash, as whoever writes below the cache can give it."""
    proof, folder = tmp_path / "proof", tmp_path / "c"
    folder.mkdir()
    if plain:
        (folder / "a").write_bytes(pickle.dumps(Code(proof), protocol=2))
    else:
        torch.save({"iter": 30, "model": Code(proof)}, folder / "a")
    (folder / "a").rename(folder / f"step_00000030-{file_sha256(folder / 'a')[:16]}.pth")
    write_checkpoint(folder, 10, state(10))
    found = newest_checkpoint(folder)
    assert found is not None and found["iter"] == 10 and "cannot be loaded" in caplog.text
    assert not proof.exists()


@pytest.mark.parametrize(("begun", "goes_on"), [("cpu", "cuda:0"), ("cuda:0", "cpu"), ("cpu", "cpu")])
def test_a_training_goes_on_on_another_device(tmp_path: Path, begun: str, goes_on: str) -> None:
    with simulated():
        found: State = {}
        for device, log in ((begun, TrainingLog(tmp_path, 9)), (goes_on, TrainingLog(tmp_path, 9))):
            runner: Any = SimpleNamespace(device=torch.device(device))
            log.after_load_checkpoint(runner, found) if found else log.before_save_checkpoint(runner, found)
    assert log.history == [] and ("rng_cuda" in found) == (begun == "cuda:0")
