"""Worker counts follow the CPU quota of a container or a batch job; files as the kernel writes them."""

import math
import os
from pathlib import Path

import pytest

from stages.job import cores


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("own", "files", "granted"),
    [
        ("0::/\n", {}, math.inf),
        ("0::/\n", {"cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),  # docker run --cpus 1.5
        # A batch job: its step has no limit, the job above it has; a neighbour's does not count.
        (
            "0::/slurm/job_7/step_0\n",
            {
                "slurm/job_7/step_0/cpu.max": "max 100000\n",
                "slurm/job_7/cpu.max": "400000 100000\n",
                "slurm/job_8/cpu.max": "100000 100000\n",
            },
            4,
        ),
        # Version 1, whose path is seen from the host: in a container only the top is there.
        (
            "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            2,
        ),
        (
            "3:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n", "memory/cpu.max": "1 1\n"},
            math.inf,
        ),
    ],
)
def test_quota(own: str, files: dict[str, str], granted: float, tmp_path: Path) -> None:
    write(tmp_path / "self", own)
    for name, text in files.items():
        write(tmp_path / "fs" / name, text)
    assert cores.granted(tmp_path / "fs", tmp_path / "self") == granted


def test_without_linux_nothing_is_limited(tmp_path: Path) -> None:
    assert cores.granted(tmp_path, tmp_path / "self") == math.inf


@pytest.mark.parametrize(("quota", "expected"), [("10000", 1), ("110000", 2), ("300000", 3), ("900000", 4)])
def test_available_cores(quota: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a processor counts as one; never more than there are."""
    write(tmp_path / "self", "0::/\n")
    write(tmp_path / "cpu.max", f"{quota} 100000\n")
    monkeypatch.setattr(cores, "CGROUPS", tmp_path)
    monkeypatch.setattr(cores, "OWN_CGROUP", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    assert cores.available_cores() == expected
