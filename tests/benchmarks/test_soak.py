"""The soak: how it looks at processes, compares tenths, and that it runs the stages over all its images."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.soak import Figures, Sample

SAMPLE = Sample(done=1, cpu=0, memory=100, main_memory=40, processes=3, files=9, unit=0.002)
FIGURES = Figures(
    *("refine_crf", 1000, 60.0, (100.0, 104.0), (50.0, 52.0), (300.0, 301.0), (60.0, 60.0), (3.0, 3.0), (20.0, 20.0)),
    written_files=1000,
    megabytes=38.0,
    bytes_per_image=38000.0,
)


def test_figures_within_five_percent_are_flat() -> None:
    assert FIGURES.grown() == []
    assert replace(FIGURES, memory=(300.0, 320.0), files=(20.0, 22.0)).grown() == ["memory", "files"]
    assert replace(FIGURES, cpu_units=(50.0, 53.0)).grown() == ["cpu_units"]
    assert replace(FIGURES, cpu_units=(50.0, 53.0), noise=0.02).grown() == []
    assert replace(FIGURES, memory=(300.0, 100.0), cpu_units=None).grown() == [], "less is no growth"


def test_cost_of_an_image_at_start_and_end() -> None:
    """The start-up takes 5 s; images cost 0.1 s up to the 500th, and 0.3 s after it."""
    samples = [
        replace(SAMPLE, done=n, cpu=5 + 0.1 * min(n, 500) + 0.3 * max(0, n - 500), unit=0.002 if n < 800 else 0.004)
        for n in range(0, 1001, 10)
    ]
    start, end = soak.cost_by_files(samples, 1000) or pytest.fail()
    assert start == pytest.approx((0.1, 0.002))
    assert end == pytest.approx((0.3, 0.004))
    assert soak.cost_by_files(samples[:10], 1000) is None, "too few to compare"


def test_tenths_leave_out_the_start() -> None:
    waiting = [replace(SAMPLE, done=0, memory=10, processes=1) for _ in range(50)]
    working = [replace(SAMPLE, done=n // 10 + 1, memory=100 + n) for n in range(100)]
    for by_files in (True, False):
        parts = soak.tenths([*waiting, *working], by_files=by_files)
        assert [part["memory"] for part in parts] == [104.5 + 10 * n for n in range(10)]
        assert {part["processes"] for part in parts} == {3.0}
    assert soak.tenths(waiting, by_files=True) == []


def test_all_processes_of_a_stage_are_seen(tmp_path: Path) -> None:
    """A process that starts another one, which says that it runs; both end when a file is gone."""
    alive, ready, script = tmp_path / "alive", tmp_path / "ready", tmp_path / "stage.py"
    alive.touch()
    script.write_text(
        "import pathlib, subprocess, sys, time\n"
        "alive, ready = map(pathlib.Path, sys.argv[1:3])\n"
        "child = subprocess.Popen([sys.executable, __file__, *sys.argv[1:3]]) if len(sys.argv) == 4 else None\n"
        "if not child: ready.touch()\n"
        "while alive.exists(): time.sleep(0.01)\n"
        "sys.exit(child.wait() if child else 0)\n"
    )
    process = subprocess.Popen([sys.executable, str(script), str(alive), str(ready), "with a child"])
    looks = [0]

    def count() -> int:
        looks[0] += ready.exists()
        if looks[0] == 4:
            alive.unlink(missing_ok=True)
        return looks[0]

    run = soak.watch(process, count, 0.01)
    assert process.returncode == 0
    seen = [sample for sample in run.samples if sample.done in (2, 3)]  # a look counts the processes first
    assert [sample.processes for sample in seen] == [2, 2]
    assert all(0 < sample.main_memory < sample.memory and sample.files >= 6 for sample in seen)
    assert run.cpu > 0


def test_table_shows_both_tenths() -> None:
    text = soak.table([replace(FIGURES, memory=(300.0, 400.0)), replace(FIGURES, cpu=None, written_files=0)])
    head, line, first, second = text.splitlines()
    assert len({row.count("|") for row in (head, line, first, second)}) == 1
    assert "| refine_crf | 1,000 | 60 | 100.0 → 104.0 | 50.0 → 52.0 | 300 → 400 |" in first
    assert first.endswith("| 38.0 | 38,000 | memory |") and second.endswith("|  |  | no |")


@pytest.mark.slow
def test_soak_runs_all_stages_over_all_images(tmp_path: Path) -> None:
    rows = soak.measure(tmp_path, tmp_path / "results", 12, interval=0.1)
    assert [row.stage for row in rows] == ["prepare", *soak.STAGES]
    written = {row.stage: row.written_files for row in rows if row.written_files}
    assert written == {
        **{"prepare": 12 + soak.VAL, "make_cams": 12, "refine_crf": 12},
        **{"propagate_affinity": 12, "write_pseudo_masks": 12},
    }
    assert all(row.bytes_per_image > 100 for row in rows if row.written_files)
    assert json.loads((tmp_path / "results/soak.json").read_text()) == json.loads(json.dumps([asdict(r) for r in rows]))
    assert (tmp_path / "results/soak.md").read_text() == soak.table(rows)
    project = tmp_path / "project"
    assert json.loads((project / "data/metrics/pseudo_mask.json").read_text())["miou"] >= 0
