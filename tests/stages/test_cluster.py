"""CPU stages on a cluster: a real Dask scheduler with two workers, as processes of this machine."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from joblib import delayed

from cpal.data.dataset import read_dataset
from cpal.errors import UserError
from cpal.maps.cams import CamFile, map_size, write_cam
from cpal.running.cluster import AHEAD, Engine, Task, in_order
from cpal.running.parallel import processes
from cpal.settings.profiles import merged, plain_yaml

ROOT = Path(__file__).parents[2]
IMAGES = 24
SMALL = f"""
toy: {{train_images: {IMAGES}, val_images: 2, min_side: 64, max_side: 72}}
crf: {{iterations: 40}}
"""
MODULES = {"tcp": "distributed", "ray": "ray"}


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without a cluster, with a code path of the project's folder."""
    kept = {name: value for name, value in os.environ.items() if name not in ("CPAL_CLUSTER", "CPAL_CACHE")}
    return kept | {"OMP_NUM_THREADS": "1"} | more


# Messages


@pytest.mark.parametrize("address", ["10.0.0.1:8786", "http://10.0.0.1:8786", "tcp:/10.0.0.1"])
def test_an_unknown_address_names_the_known_ones(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPAL_CLUSTER", address)
    with pytest.raises(UserError, match=rf"{re.escape(address)}: unknown; give tcp://HOST:8786 .* or ray://HOST:10001"):
        list(processes(2)(delayed(abs)(n) for n in (-1, -2)))


@pytest.mark.parametrize("scheme", MODULES)
def test_an_engine_that_is_not_installed_is_named(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPAL_CLUSTER", f"{scheme}://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, MODULES[scheme], None)
    with pytest.raises(UserError, match=r"needs (Dask|Ray): pip install '(dask\[distributed\]|ray\[client\])'"):
        list(processes(2)(delayed(abs)(n) for n in (-1, -2)))


def test_without_workers_no_cluster_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CPAL_CLUSTER", "tcp://127.0.0.1:1")
    assert list(processes(0)(delayed(abs)(n) for n in (-1, -2))) == [1, 2]


@pytest.mark.parametrize("error", [None, ValueError("a task's own")])
def test_results_come_in_order_and_few_tasks_are_out(error: Exception | None) -> None:
    out: list[int] = []
    most = 0

    def submit(task: Task) -> int:
        nonlocal most
        out.append(task[1][0])
        most = max(most, len(out))
        return task[1][0]

    def result(number: int) -> int:
        out.remove(number)
        if error is not None and number == 30:
            raise error
        return -number

    results = in_order(Engine(2, submit, result), (delayed(abs)(n) for n in range(50)))
    if error is None:
        assert list(results) == [-n for n in range(50)]
    else:
        with pytest.raises(ValueError, match="a task's own"):
            list(results)
    assert most == 2 * AHEAD


# A real cluster


@dataclass(frozen=True)
class Running:
    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def cluster(folder: Path, *, workers: int = 2) -> Iterator[Running]:
    """A scheduler, and workers in this folder; each in a process group of its own, with the process that watches it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    log = (folder / "cluster.log").open("ab")
    begun: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        begun.append(
            subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True)
        )
        return begun[-1]

    try:
        scheduler = start("scheduler", "--port", str(port))
        members = [start("worker", address, "--nthreads", "1") for _ in range(workers)]
        yield Running(address, scheduler, members)
    finally:
        log.close()
        for process in begun:
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with maps, and what refine_crf makes of them in one process."""
    folder = tmp_path_factory.mktemp("whole")
    for name in ("cpal", "stages", "dvc.yaml"):
        (folder / name).symlink_to(ROOT / name)
    text, _ = merged((ROOT / "params.yaml").read_text(encoding="utf-8"), plain_yaml(SMALL), name="params.yaml")
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    assert run(folder, "prepare", "--workers", "1")[0] == 0
    rng = np.random.default_rng(0)
    for record in read_dataset(folder / "data/dataset").split("train"):
        shape = (len(record.labels), *map_size(record.size))
        content = CamFile(np.array(record.labels, np.int64), {"cam": rng.random(shape, np.float32)}, record.size)
        content.maps["taught"] = content.maps["cam"]
        (folder / "data/cams").mkdir(exist_ok=True)
        write_cam(folder / f"data/cams/{record.image_id}.npz", content)
    assert run(folder, "refine_crf", "--workers", "1")[0] == 0
    return folder


@pytest.fixture
def project(whole: Path, tmp_path: Path) -> Path:
    """A copy in which refine_crf has not run."""
    shutil.copytree(whole, tmp_path / "project", symlinks=True, ignore=shutil.ignore_patterns("crf", ".cache"))
    return tmp_path / "project"


def begin(folder: Path, stage: str, *options: str, address: str = "") -> subprocess.Popen[str]:
    more = {"CPAL_CLUSTER": address} if address else {}
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}", *options],
        cwd=folder,
        env=environment(**more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(folder: Path, stage: str, *options: str, address: str = "") -> tuple[int, str]:
    """Exit code and output."""
    process = begin(folder, stage, *options, address=address)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def crf(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "data/crf").iterdir())}


def wait_for_files(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until refine_crf has this many files in its unfinished work."""
    while len(list(folder.glob(".cache/refine_crf/*/crf/*.npz"))) < count:
        assert process.poll() is None, f"it ended before: {process.communicate()[0]}"
        time.sleep(0.01)


@pytest.mark.slow
def test_a_cluster_makes_the_bytes_of_one_process_and_a_killed_worker_loses_nothing(whole: Path, project: Path) -> None:
    with cluster(project) as running:
        process = begin(project, "refine_crf", address=running.address)
        wait_for_files(project, 3, process)
        kill(running.workers[0])
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert len(crf(whole)) == IMAGES and crf(project) == crf(whole)
        assert not list(project.glob(".*.tmp*")), "the file that workers are asked for is gone"
        scores = {}
        for address in ("", running.address):
            code, output = run(project, "evaluate_crf", address=address)
            assert code == 0, output
            scores[address] = {path.name: path.read_bytes() for path in (project / "data/metrics").iterdir()}
        assert scores[""] == scores[running.address], "results that come back by the network"


@pytest.mark.slow
def test_a_lost_scheduler_ends_in_one_message_and_the_work_goes_on_elsewhere(whole: Path, project: Path) -> None:
    with cluster(project) as running:
        process = begin(project, "refine_crf", address=running.address)
        wait_for_files(project, 3, process)
        kill(running.scheduler)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2, output
    message = f"error: CPAL_CLUSTER={running.address}: connection lost; finished work is kept: start the cluster"
    told = [line for line in output.splitlines() if line and not line.startswith("stage ") and "refine CRF" not in line]
    assert told == [f"{message}, then the same command"]
    assert run(project, "refine_crf", "--workers", "1")[0] == 0
    assert crf(project) == crf(whole)


@pytest.mark.slow
def test_a_worker_elsewhere_is_refused_before_any_work(project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(project, elsewhere, symlinks=True)
    with cluster(elsewhere, workers=1) as running:
        code, output = run(project, "refine_crf", address=running.address)
    assert code == 2
    assert f"runs in {elsewhere}, which is not the folder of this project" in output
    assert f"cd {project} && python -m dask worker {running.address}" in output
    assert not list(project.glob(".cache/refine_crf/*/crf/*"))


@pytest.mark.slow
def test_a_worker_with_older_code_is_refused(project: Path) -> None:
    (project / "cpal").unlink()
    shutil.copytree(ROOT / "cpal", project / "cpal")
    with cluster(project, workers=1) as running:
        code, output = run(project, "refine_crf", "--limit", "2", "--out", "try", address=running.address)
        assert code == 0, output
        (project / "cpal/maps/crf.py").touch()
        code, output = run(project, "refine_crf", "--limit", "3", "--out", "try", address=running.address)
    assert code == 2 and "cpal/maps/crf.py was changed" in output, output


@pytest.mark.slow
def test_no_scheduler_ends_in_one_message(project: Path) -> None:
    code, output = run(project, "refine_crf", address="tcp://127.0.0.1:1")
    assert code == 2
    assert "error: CPAL_CLUSTER=tcp://127.0.0.1:1: no scheduler answers; start one there with: " in output
    assert "Traceback" not in output
