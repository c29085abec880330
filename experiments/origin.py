"""CSV files of figures, and where a figure comes from: date, commit, command and machine, beside each value."""

import csv
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cpal.errors import UserError
from cpal.files import whole_file
from cpal.report.provenance import commit
from stages.job.cores import available_cores

UP_TO_DATE = "Data and pipelines are up to date."  # of dvc status
# What changes no measurement: results of the pipeline itself, pages and tests.
BESIDE_THE_CODE = ("data", "dvc.lock", "params.yaml", "docs", "tests", "*.md", "mkdocs.yml")


def origin(command: str) -> dict[str, str]:
    """The columns `date`, `commit`, `command` and `machine`; a commit with changed code says which files differ."""
    date = f"{datetime.now(UTC):%Y-%m-%d}"
    return {"date": date, "commit": commit(results=BESIDE_THE_CODE), "command": command, "machine": machine()}


def machine() -> str:
    """Processor, cores that this process may use, memory and system."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {available_cores()} cores, {memory:.0f} GiB, {platform.system()}"


def changed_since_run(*targets: str) -> str:
    """What `dvc status` says of the targets, or of all stages, and of what they need; empty if all is up to date."""
    said = run_dvc("status", *(["--with-deps", *targets] if targets else [])).strip()
    return "" if said == UP_TO_DATE else said


def run_dvc(*arguments: str) -> str:
    """What DVC prints. Raises UserError with its own message if it fails."""
    ended = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise UserError(f"dvc {' '.join(arguments)}: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write at least one row as a CSV file with a header; the keys of all rows are equal, and None is an empty cell."""
    rows = list(rows)
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows, all values as text."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
