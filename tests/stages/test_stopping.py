"""A stage that is stopped ends at once, says how to go on, and does not outlive DVC."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGE = """
import sys, time
sys.path.insert(0, {root!r})
from stages.job.run import run

def main() -> None:
    "A stage that works for a minute."
    print("begun", flush=True)
    time.sleep(60)

run(main)
"""


def begun(folder: Path, **environment: str) -> subprocess.Popen[str]:
    (folder / "stage.py").write_text(STAGE.format(root=str(ROOT)))
    process = subprocess.Popen(
        [sys.executable, str(folder / "stage.py")],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores Ctrl-C
    )
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


def stopped_by(number: signal.Signals, process: subprocess.Popen[str], *, within: float = 10) -> tuple[int, str]:
    """The code of a process that this signal reaches, and what it writes to stderr."""
    process.send_signal(number)
    try:
        _, error = process.communicate(timeout=within)
    finally:
        process.kill()
    return process.returncode, error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_stage_says_how_to_go_on(number: signal.Signals, tmp_path: Path) -> None:
    text = "stopped: run the same command again; it starts from the beginning\n"
    assert stopped_by(number, begun(tmp_path)) == (130, text)


STAGES = Path(__file__).parents[2] / "stages/__init__.py"


def command(folder: Path, module: str) -> subprocess.Popen[str]:
    """`python -m stages.late` of a package that begins as ours; its first line has been printed."""
    (folder / "stages").mkdir()
    (folder / "stages/__init__.py").write_text(STAGES.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "stages/late.py").write_text(module, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.late"],
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_still_imports_says_so(number: signal.Signals, tmp_path: Path) -> None:
    process = command(tmp_path, "import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    assert stopped_by(number, process) == (130, "stopped: nothing has begun; run the same command again\n")


ENDING = f"""
import atexit, sys, time
sys.path.append({str(ROOT)!r})
import stages
stages.__path__.append({str(ROOT / "stages")!r})
from stages.job.run import run

def main() -> None:
    "A stage that takes a moment to end."
    atexit.register(lambda: (print("here", flush=True), time.sleep(1)))

run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stage_that_has_done_its_work_is_not_stopped(number: signal.Signals, tmp_path: Path) -> None:
    assert stopped_by(number, command(tmp_path, ENDING), within=30) == (0, "")


DVC = """
import os, subprocess, sys
subprocess.Popen(["sh", "-c", f"{sys.executable} {sys.argv[1]}; true"], env=os.environ | {"DVC_STAGE": "grow"}).wait()
"""


def test_a_stage_ends_when_dvc_is_killed(tmp_path: Path) -> None:
    """Between the two stands a shell, which stays alive."""
    (tmp_path / "stage.py").write_text(STAGE.format(root=str(ROOT)))
    dvc = subprocess.Popen(
        [sys.executable, "-c", DVC, str(tmp_path / "stage.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert dvc.stdout is not None and dvc.stderr is not None and dvc.stdout.readline() == "begun\n"
    time.sleep(1)
    dvc.kill()
    assert dvc.stderr.read() == "DVC has ended\nstopped: run the same command again; it starts from the beginning\n"
    dvc.communicate()


def test_a_stage_of_no_dvc_outlives_its_shell(tmp_path: Path) -> None:
    """As one that was started with nohup, or from a terminal that is closed after `disown`."""
    (tmp_path / "stage.py").write_text(STAGE.format(root=str(ROOT)).replace("sleep(60)", "sleep(4)"))
    end = tmp_path / "ended"
    command = f"{sys.executable} {tmp_path / 'stage.py'} > {tmp_path / 'out'} && touch {end} & sleep 60"
    shell = subprocess.Popen(["sh", "-c", command], env={k: v for k, v in os.environ.items() if k != "DVC_STAGE"})
    while not (tmp_path / "out").exists() or not (tmp_path / "out").read_text():
        time.sleep(0.1)
    shell.kill()
    shell.wait()
    deadline = time.monotonic() + 30
    while not end.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert end.exists()
