"""What a stage took, against the counters of the operating system and memory of known size."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cpal.errors import UserError
from cpal.running.times import Taken, duration, read_taken, write_taken

ROOT = Path(__file__).parents[2]
MB = 1_000_000
STAGE = """
import json, os, subprocess, sys, time
from dataclasses import asdict
from cpal.running.times import taken
begun = time.monotonic()
own = bytearray(b"1") * {own}
del own
subprocess.run([sys.executable, "-c", "x = bytearray(b'1') * {child}; sum(range(3_000_000))"], check=True)
code = "x = bytearray(b'1') * {alive}; print(1, flush=True); input()"
alive = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
alive.stdout.readline()
found = asdict(taken(begun, 1))
alive.communicate(b"1")
print(json.dumps([found, sum(os.times()[:4])]))
"""


def stage(own: int, child: int, alive: int) -> tuple[dict[str, Any], float]:
    command = [sys.executable, "-c", STAGE.format(own=own, child=child, alive=alive)]
    output = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True, stdout=subprocess.PIPE
    ).stdout
    found, counted = json.loads(output)
    return found, counted


@pytest.mark.parametrize("large", range(3), ids=["itself", "a child that has ended", "a child that runs"])
def test_peak_memory_is_that_of_the_largest_process(large: int) -> None:
    found, counted = stage(*(400 * MB if place == large else MB for place in range(3)))
    assert 400 * MB < found["peak_memory"] < 650 * MB
    assert found["processor_seconds"] == pytest.approx(counted, abs=1) and found["seconds"] >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's own peak")
def test_memory_of_the_process_that_starts_a_stage_does_not_count() -> None:
    large = bytearray(b"1") * (600 * MB)
    found, _ = stage(MB, MB, MB)
    assert len(large) == 600 * MB and found["peak_memory"] < 400 * MB


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    took = Taken(12.5, 20.0, 300 * MB, 2)
    write_taken(tmp_path / "times", "make_cams", took)
    assert read_taken(tmp_path / "times", ["prepare", "make_cams"]) == {"make_cams": took}
    assert [path.name for path in (tmp_path / "times").iterdir()] == ["make_cams.json"]
    assert read_taken(tmp_path / "nowhere", ["prepare"]) == {}


def test_a_damaged_file_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "prepare.json").write_text('{"seconds": "long"}')
    with pytest.raises(UserError, match="prepare.json: damaged; remove it"):
        read_taken(tmp_path, ["prepare"])


def test_durations_in_words() -> None:
    times = {
        0.04: "0.0 s",
        8.25: "8.2 s",
        99.9: "99.9 s",
        100.0: "1.7 min",
        596.0: "9.9 min",
        598.0: "10 min",
        5950.0: "99 min",
        6000.0: "1.7 h",
    }
    assert {seconds: duration(seconds) for seconds in times} == times
