"""Several processes that torchrun starts make the files that one process makes."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cpal.errors import UserError
from cpal.settings.profiles import merged, plain_yaml
from stages.job import device, launch

ROOT = Path(__file__).parents[2]
TORCHRUN = f"{sys.executable} -m torch.distributed.run --nproc-per-node 2 --master-port"
SETTINGS = """
toy: {train_images: 5, val_images: 3, min_side: 64, max_side: 72}
hosts:
  irn: {backbone: test_efficientnet, weights: none, epochs: 1, batch_size: 2, crop_size: 32, resize_long: [32, 48]}
cpal: {refinements: 1, bank_length: 4, num_prototypes: 2, topk: 2}
taught_cam: {crf_rounds: 1}
cam: {scales: [0.5, 1.0], long_side: 48}
crf: {iterations: 1}
affinity: {method: irn, backbone: test_efficientnet, weights: none, epochs: 1, batch_size: 2, crop_size: 32, radius: 3}
walk: {steps: 4, radius: 3}
segmentation:
  {backbone: test_efficientnet, weights: none, iterations: 2, checkpoint_interval: 2, batch_size: 2, crop_size: 32}
final_test: {scales: [1.0]}
"""
TWO = dict(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
STAGES = {  # and what each of them writes
    "fit_prototypes": ["prototypes.safetensors", "metrics/prototypes.json"],
    "teach_cam": ["taught_cam.safetensors"],
    "make_cams": ["cams"],
    "propagate_affinity": ["affinity"],
    "predict_segmentation": ["predictions"],
    "evaluate_labels": ["metrics/classifier.json"],
}
ALL = [
    *("prepare", "first_round", "train_cam", "fit_prototypes", "teach_cam", "evaluate_labels", "make_cams"),
    *("refine_crf", "train_affinity", "propagate_affinity", "write_pseudo_masks"),
    *("train_segmentation", "predict_segmentation"),
]


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_shares_in_a_row_are_the_items(monkeypatch: pytest.MonkeyPatch, processes: int) -> None:
    monkeypatch.setattr(launch, "PROCESSES", processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(launch, "RANK", rank)
        shares.append(launch.share(range(10)))
    assert sum(shares, []) == list(range(10))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_of_several_takes_no_numbered_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "PROCESSES", 2)
    monkeypatch.setattr(device, "_find", torch.device)
    with pytest.raises(UserError, match="--device cuda:1: each process has a GPU of its own; leave the number out"):
        device.joined_device("cuda:1")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mps", "Apple's GPU works for one process only; add --device cpu"),
        ("cuda", r"this machine has 4 GPU\(s\) for more processes; lower --nproc-per-node"),
    ],
)
def test_more_processes_than_gpus(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.setattr(device, "PROCESSES", 8)
    monkeypatch.setattr(device, "_find", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "7")
    with pytest.raises(UserError, match=message):
        device.joined_device(name)


def test_an_unknown_launcher_ends_in_one_message(tmp_path: Path) -> None:
    ended = run(tmp_path, "make_cams", CPAL_LAUNCH="no-such-command -n 2")
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: CPAL_LAUNCH: no-such-command cannot be started")


@pytest.mark.parametrize(
    ("stage", "variables", "message"),
    [
        (
            "make_cams",
            {"RANK": "0", "WORLD_SIZE": "2"},
            "WORLD_SIZE is 2 without LOCAL_RANK; start several processes with",
        ),
        ("make_cams", {"RANK": ""}, "RANK is ''; start several processes with torchrun, or unset RANK, WORLD_SIZE"),
        ("refine_crf", TWO, "refine_crf runs no network, and 2 processes would do the same work; start it without"),
        ("make_cams", TWO, "data/dataset/dataset.json: no such file"),
        ("train_cam", TWO, "segmentation.batch_size 5 cannot be shared by 2 processes; take a multiple"),
    ],
)
def test_processes_that_cannot_work_are_refused(
    tmp_path: Path, stage: str, variables: dict[str, str], message: str
) -> None:
    """Some job systems set a few of torchrun's variables."""
    ended = run(tmp_path, stage, **variables)
    assert ended.returncode == 2 and message in ended.stderr and "Traceback" not in ended.stderr, ended.stderr


def run(project: Path, stage: str, **environment: str) -> subprocess.CompletedProcess[str]:
    for name in ("cpal", "stages", "dvc.yaml", "params.yaml"):
        if not (project / name).exists():
            (project / name).symlink_to(ROOT / name)
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(project), **environment}
    command = [sys.executable, "-m", *f"stages.{stage}".split()]
    return subprocess.run(command, cwd=project, env=variables, capture_output=True, text=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project in which every stage has run in one process."""
    folder = tmp_path_factory.mktemp("project")
    text, _ = merged((ROOT / "params.yaml").read_text(encoding="utf-8"), plain_yaml(SETTINGS), name="small")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    (folder / "data/corrected_masks").mkdir(parents=True)
    for stage in ALL:
        ended = run(folder, stage)
        assert ended.returncode == 0, f"{stage}: {ended.stderr}"
    yield folder


def hashes(project: Path, outs: list[str]) -> dict[str, str]:
    paths = [path for out in outs for path in [project / "data" / out, *(project / "data" / out).glob("*")]]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_write_what_one_does(project: Path, stage: str) -> None:
    alone = hashes(project, STAGES[stage])
    assert alone
    shutil.rmtree(project / ".cache", ignore_errors=True)
    for out in STAGES[stage]:
        path = project / "data" / out
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ended = run(project, stage, CPAL_LAUNCH=f"{TORCHRUN} {29500 + os.getpid() % 1000}")
    assert ended.returncode == 0, ended.stderr
    assert hashes(project, STAGES[stage]) == alone
    assert not list((project / ".cache").rglob("bank_*")) and not list((project / ".cache").rglob("cells_*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "written"),
    [
        ("train_cam", "classifier.safetensors"),
        ("train_affinity", "affinity.safetensors"),
        ("train_segmentation", "segmentation.safetensors"),
    ],
)
def test_a_training_is_shared_and_published_once(project: Path, stage: str, written: str) -> None:
    """What two processes learn is compared with what one learns in tests/method/test_train_cam.py."""
    shutil.rmtree(project / ".cache", ignore_errors=True)
    path = project / "data" / written
    before = path.stat().st_mtime_ns
    ended = run(project, stage, CPAL_LAUNCH=f"{TORCHRUN} {30500 + os.getpid() % 1000}")
    assert ended.returncode == 0, ended.stderr
    assert path.stat().st_mtime_ns > before
