"""Unfinished work is continued by the same stage with the same settings and inputs, and by no other."""

import errno
import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cpal.data.dataset import Dataset
from cpal.errors import UserError
from cpal.files import HOST
from cpal.networks.state_dicts import given_files
from cpal.settings.config import Config
from cpal.training.loop import Run
from stages.job.fingerprint import fingerprint
from stages.job.network import NetworkJob
from stages.job.publishing import KEPT, publish
from stages.job.workdir import check_room, work_folder

ROOT = Path(__file__).parents[2]
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


def test_deps_left_out_do_not_count() -> None:
    def found() -> tuple[str, str]:
        return fingerprint("grow", [1], {}, []), fingerprint("grow", [1], {}, [], without=[Path("inputs")])

    before = found()
    Path("inputs/a").write_text("b")
    after = found()
    assert before[0] != after[0] and before[1] == after[1] and before[1] != before[0]
    Path("code.py").write_text("2")
    assert found()[1] != after[1]


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


def test_another_folder_for_other_weights_under_the_same_name() -> None:
    def folder() -> Path:
        return work_folder("grow", ["first.pth"], inputs=given_files("first.pth"))

    missing = folder()
    Path("first.pth").write_text("a")
    before = folder()
    Path("first.pth").write_text("b")
    other = folder()
    Path("first.pth").unlink()
    Path("first.pth").write_text("a")
    assert folder() == before, "the content counts, not the file's time"
    assert len({missing, before, other}) == 3


def test_sources_of_weights_are_no_files() -> None:
    Path("imagenet").mkdir()
    for weights in ("bundled", "imagenet", "none", "openai", "missing.pth", "", "inputs"):
        assert given_files(weights) == []
    assert given_files("inputs/a") == [Path("inputs/a")]


class Started(Exception):
    """Stands for a training: carries the folder that it would resume from."""


@pytest.mark.parametrize(
    ("stage", "key", "changes"),
    [
        ("first_round", "hosts.irn", {"host": "amn"}),
        ("train_cam", "hosts.irn", {"host": "irn"}),
        ("train_cam", "hosts.amn", {"host": "amn"}),
        ("train_cam", "hosts.mctformer", {"host": "mctformer"}),
        ("train_cam", "hosts.clip_es", {"host": "clip_es"}),
        ("train_affinity", "affinity", {"affinity.method": "irn"}),
        ("train_segmentation", "segmentation", {}),
    ],
)
def test_stages_that_train_notice_other_weights(
    stage: str,
    key: str,
    changes: dict[str, str],
    settings: Callable[..., Config],
    tiny_dataset: Dataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module(f"stages.{stage}")

    def train(*arguments: object, **_: object) -> None:
        (run,) = (value for value in arguments if isinstance(value, Run))
        raise Started(run.folder)

    config = settings(**changes, **{f"{key}.weights": "first.pth"})

    def folder() -> Path:
        job = NetworkJob(stage, config, device_name="cpu")
        vars(job)["dataset"] = tiny_dataset  # as if it was read already
        with pytest.raises(Started) as started:
            module.main(job)
        return started.value.args[0]

    Path("dvc.yaml").write_text(f"stages: {{{stage}: {{deps: []}}}}")
    for name in ("method.train_cam.train_classifier", "affinity.network.train_affinity"):
        monkeypatch.setattr(f"cpal.{name}", train)
    monkeypatch.setattr("cpal.segmentation.deeplab.train_segmentation", train)
    monkeypatch.setattr(module, "train_classifier", train, raising=False)  # first_round's
    monkeypatch.setattr(NetworkJob, "each", lambda *_: None)
    Path("first.pth").write_text("a")
    before = folder()
    assert folder() == before
    Path("first.pth").write_text("b")
    assert folder() != before


def test_publish_moves_and_drops_its_work() -> None:
    folder = work_folder("grow", [1])
    (folder / "maps").mkdir()
    (folder / "maps" / "x").write_text("new")
    (folder / "weights").write_text("new")
    old = Path("data/maps")
    old.mkdir(parents=True)
    (old / "left_over").write_text("old")
    publish(folder, {"maps": old, "weights": Path("data/weights")}, scratch=Path("data"))
    assert [path.name for path in old.iterdir()] == ["x"]
    assert Path("data/weights").read_text() == "new"
    assert not folder.exists()
    assert not list(Path("data").glob(".*"))


@pytest.mark.parametrize("keep", [False, True])
def test_work_of_another_experiment_stays_until_it_is_old(keep: bool) -> None:
    """Two experiments can share a cache, and the one that ends first must not take the other's files away."""
    old = [Path(f".cache/grow/{n}") for n in range(KEPT)]
    for n, work in enumerate(old):
        work.mkdir(parents=True)
        os.utime(work, (n, n))
    other = work_folder("grow", ["other"])
    (other / "half").touch()
    folder = work_folder("grow", ["own"])
    (folder / "weights").touch()
    publish(folder, {"weights": Path("data/weights")}, scratch=Path("data"), keep=keep)
    assert (other / "half").exists() and folder.exists() == keep
    assert [work.exists() for work in old] == ([False] * 2 + [True] * 2 if keep else [False] + [True] * 3)


def test_kept_work_is_found_again_and_the_oldest_go() -> None:
    folders = []
    for setting in range(KEPT + 2):
        folder = work_folder("grow", [setting])
        (folder / "weights").write_text(str(setting))
        publish(folder, {"weights": Path("data/weights")}, scratch=Path("data"), keep=True)
        folders.append(folder)
    assert Path("data/weights").read_text() == str(KEPT + 1)
    assert [folder.exists() for folder in folders] == [False] * 2 + [True] * KEPT
    assert (work_folder("grow", [KEPT]) / "weights").read_text() == str(KEPT)


def test_images_are_published_all_or_none_and_nothing_else() -> None:
    folder = work_folder("grow", [1])
    (folder / "maps").mkdir()
    for name in ("a.npz", ".b.npz.tmp", "notes"):
        (folder / "maps" / name).touch()
    out = Path("data/maps")
    with pytest.raises(UserError, match="maps: lacks 1 of 2 files, such as b.npz, which something else has removed"):
        publish(folder, {"maps": out}, scratch=Path("data"), files={"a.npz", "b.npz"})
    assert not out.exists()
    (folder / "maps" / "b.npz").touch()
    publish(folder, {"maps": out}, scratch=Path("data"), files={"a.npz", "b.npz"})
    assert sorted(path.name for path in out.iterdir()) == ["a.npz", "b.npz"]


@pytest.mark.parametrize("keep", [False, True])
def test_published_to_another_disk_it_is_whole(keep: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.replace

    def other_disk(self: Path, target: Path) -> Path:
        if self.is_relative_to(".cache") != Path(target).is_relative_to(".cache"):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", other_disk)
    folder = work_folder("grow", [1])
    (folder / "maps" / "deep").mkdir(parents=True)
    (folder / "maps" / "deep" / "x").write_text("new")
    publish(folder, {"maps": Path("data/maps")}, scratch=Path("data"), keep=keep)
    assert Path("data/maps/deep/x").read_text() == "new"
    assert [path.name for path in Path("data").iterdir()] == ["maps"]
    assert folder.exists() == keep


HOLDS = """
import sys, time
sys.path.insert(0, {root!r})
from stages.job.workdir import work_folder
folder = work_folder("grow", [1])
(folder / "begun").touch()
print(folder, flush=True)
time.sleep({seconds})
(folder / "ended").touch()
"""


def holder(seconds: float) -> subprocess.Popen[str]:
    """Another process that works in the folder of settings [1] for so long, and has begun."""
    code = HOLDS.format(root=str(ROOT), seconds=seconds)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_two_runs_work_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    other = holder(2)
    folder = work_folder("grow", [1])
    assert (folder / "ended").exists(), "the other one had finished before this one got the folder"
    said = capsys.readouterr().err
    assert f"process {other.pid} on {HOST} is at the same work since " in said and "waiting until it ends" in said
    other.communicate()


def test_a_killed_run_holds_nothing_and_its_rubbish_goes(capsys: pytest.CaptureFixture[str]) -> None:
    other = holder(60)
    other.kill()
    other.communicate()
    (folder,) = (path for path in Path(".cache/grow").iterdir() if path.is_dir())
    (folder / f".{HOST}.{other.pid}.01234567.tmp").touch()
    assert work_folder("grow", [1]) == folder
    assert not capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["begun", "holder.json"]


def test_another_number_of_threads_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It changes sums in their last digits, so that a continued run differs from one that was never stopped."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    other = holder(60)
    other.kill()
    other.communicate()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    work_folder("grow", [1])
    assert "begun with 2 threads, continued with 3: results can differ in the last digits; OMP_NUM_THREADS=2" in (
        capsys.readouterr().err
    )


def test_a_disk_without_room_is_told_before_the_work(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(UserError, match=r"GB free, and about 1000000.00 GB needed; free some space, or set CPAL_CACHE"):
        check_room(tmp_path, 1e15)


def test_work_that_another_run_is_at_is_not_dropped() -> None:
    other = holder(60)
    (busy,) = (path for path in Path(".cache/grow").iterdir() if path.is_dir())
    os.utime(busy, (0, 0))  # the oldest of all
    for n in range(KEPT + 2):
        folder = work_folder("grow", ["other", n])
        (folder / "weights").touch()
        publish(folder, {"weights": Path("data/weights")}, scratch=Path("data"), keep=True)
    other.kill()
    other.communicate()
    assert (busy / "begun").exists()
    assert sum(path.is_dir() for path in Path(".cache/grow").iterdir()) == KEPT + 1


def test_missing_input_names_the_cure() -> None:
    Path("code.py").unlink()
    with pytest.raises(UserError, match=r"code.py: missing.*dvc repro grow"):
        work_folder("grow", [])


def test_outside_the_project_is_said() -> None:
    Path("dvc.yaml").unlink()
    with pytest.raises(UserError, match="run this in the project's folder"):
        work_folder("grow", [])
