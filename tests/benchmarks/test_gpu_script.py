"""The script for a machine with a GPU: tried on the CPU, and without the packages that such a machine lacks."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks import gpu, gpu_checks, gpu_speed
from benchmarks.gpu_checks import Check

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
Maps = list[Tensor]
# An entry of None in sys.modules makes an import fail as if the package were not there.
WITHOUT = """
import sys
for name in {names}:
    sys.modules[name] = None
from benchmarks import gpu
assert not {loaded} & set(sys.modules), "a heavy import is not inside the function that uses it"
print(sorted(gpu.missing()))
"""


def run_without(*names: str) -> str:
    loaded = {"sklearn", "pydantic", "cpal.settings.config"}
    code = WITHOUT.format(names=names, loaded=loaded - set(names))
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, check=True, capture_output=True).stdout


def test_it_imports_and_names_what_is_missing() -> None:
    names = ("mmengine", "mmseg", "mmcv", "timm", "pydensecrf", "pydantic", "ruamel", "joblib", "dvclive", "tqdm")
    assert run_without(*names).strip() == "['pydantic', 'ruamel.yaml']"


def test_nothing_is_missing_here() -> None:
    assert gpu.missing() == {}


def test_a_device_that_computes_the_same_passes() -> None:
    checks = list(gpu_checks.functions(CPU))
    assert len(checks) == 7 and all(check.difference == 0 for check in checks)


def test_a_device_that_computes_something_else_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.device] = []

    def different(call: Callable[[torch.device], Maps], device: torch.device) -> tuple[Maps, Maps]:
        calls.append(device)
        result = call(CPU)
        return [value + 1 for value in result], result

    monkeypatch.setattr(gpu_checks, "on_both", different)
    assert not any(check.passed for check in gpu_checks.functions(CPU))
    assert calls == [CPU]


def test_a_check_without_tolerance_is_only_shown() -> None:
    assert Check("a", 1e9, None).passed and Check("a", 0.1, 0.1).passed and not Check("a", 0.2, 0.1).passed


def test_gap_is_absolute_below_one_and_relative_above() -> None:
    assert gpu_checks.gap(torch.tensor([0.5, 0.25]), torch.tensor([0.5, 0.5])) == 0.25
    assert gpu_checks.gap(torch.tensor([8.0]), torch.tensor([10.0])) == pytest.approx(0.2)


def test_time_that_is_over_leaves_the_rows_out(monkeypatch: pytest.MonkeyPatch) -> None:
    work = gpu_speed.Work("train_cam", "network", 2, lambda: None)
    monkeypatch.setattr(gpu_speed, "classifier_works", lambda *_: [work])
    monkeypatch.setattr(gpu_speed, "segmentation_works", lambda *_: [])
    rows = list(gpu.throughput(CPU, (3,), gpu_speed.TINY, ends=0.0))
    assert len(rows) == 2 and all("left out: time is over" in row for row in rows)
    assert {row.count("|") for row in rows} == {9}


def test_a_work_that_fails_is_told_and_the_others_go_on() -> None:
    def fails() -> None:
        raise RuntimeError("CUDA out of memory\nmore")

    work = gpu_speed.Work("train_cam", "network", 2, fails)
    assert gpu.cell(work, "fp32", CPU, 0.1) == "failed: CUDA out of memory | | |"


def test_seconds_of_a_call_are_those_that_it_takes() -> None:
    calls: list[float] = []

    def call() -> None:
        time.sleep(0.001)
        calls.append(0)

    assert gpu.seconds_of(call, CPU, budget=0.01) >= 0.001
    assert len(calls) >= 2 + gpu.ROUNDS
    calls.clear()
    gpu.seconds_of(call, CPU, budget=0)
    assert len(calls) == 1


def test_lower_precision_is_on_only_in_the_call() -> None:
    call = gpu.with_precision(lambda: torch.is_autocast_enabled("cpu"), "bf16", CPU)
    assert call() and not torch.is_autocast_enabled("cpu")
    assert not gpu.with_precision(lambda: torch.is_autocast_enabled("cpu"), "fp32", CPU)()


@pytest.mark.slow
def test_the_whole_page_with_tiny_sizes(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny", "--out", str(tmp_path / "gpu.md")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    text = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert "failed:" not in text and "**no**" not in text
    for stage in ("train_cam", "fit_prototypes", "make_cams", "train_segmentation", "predict_segmentation"):
        assert f"| {stage}" in text


def test_without_pydantic_the_functions_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "missing", lambda: {"pydantic": gpu.LEFT_OUT["pydantic"]})
    text, passed = gpu.page(CPU, tiny=True, minutes=1)
    assert passed and "without pydantic" in text and "## Speed" not in text and "function: PACAM" in text
