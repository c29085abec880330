"""A project in a folder of its own: params.yaml with a few changes, beside links to this checkout's code."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpal.settings.profiles import merged, plain_yaml

ROOT = Path(__file__).parent.parent
CODE = ("cpal", "stages", "dvc.yaml")


def new_project(folder: Path, settings: str) -> None:
    """`settings` is YAML that changes params.yaml."""
    (folder / "data/corrected_masks").mkdir(parents=True)  # which git keeps
    for name in CODE:
        (folder / name).symlink_to(ROOT / name)
    text, _ = merged((ROOT / "params.yaml").read_text(encoding="utf-8"), plain_yaml(settings), name="settings")
    (folder / "params.yaml").write_text(text, encoding="utf-8")


def start_stage(
    project: Path, stage: str, options: Sequence[str], *, env: Mapping[str, str] | None = None
) -> subprocess.Popen[Any]:
    """`python -m stages.STAGE OPTIONS` in the project's folder; its output goes to STAGE.log there.

    Networks compute with one thread, so that results and times do not depend on what else runs on the machine.
    """
    with (project / f"{stage}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}", *options],
            cwd=project,
            env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def finished(project: Path, stage: str, process: subprocess.Popen[Any]) -> None:
    """Wait for a stage; raises RuntimeError with the end of its output when it fails."""
    if process.wait():
        output = (project / f"{stage}.log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"{stage} ended with exit code {process.returncode}:\n{output[-3000:]}")
