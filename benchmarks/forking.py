"""Runs stages in a row, each in a process forked from this one, which has imported what they need.

python -m benchmarks.forking PROJECT

Reads a JSON list a line: a stage and its options. Writes the exit code of each stage as a line. A forked stage starts
in milliseconds instead of seconds. Nothing that was imported here has computed anything yet: torch has no threads.
"""

import atexit
import importlib
import json
import os
import runpy
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks.project import ROOT

SLOW = (  # to import, which stages do in their functions
    *("joblib", "mmengine.runner", "mmseg.models", "dvclive", "timm", "pydensecrf.densecrf"),
    *("sklearn.metrics", "torchvision.transforms.v2", "cpal.segmentation.deeplab", "cpal.method.train_cam"),
)


def import_all() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in (*SLOW, *(f"stages.{path.stem}" for path in sorted((ROOT / "stages").glob("[a-z]*.py")))):
            importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "stages"]:
        del sys.modules[name]  # runpy wants to be the first to import a stage


def exit_code(stage: str, options: Sequence[str]) -> int:
    """What `python -m stages.STAGE OPTIONS` would end with; its output goes to standard error."""
    sys.argv = [stage, *options]
    try:
        runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def forked(stage: str, options: Sequence[str]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.dup2(2, 1)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            code = exit_code(stage, options)
            atexit._run_exitfuncs()  # joblib ends its workers
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    os.chdir(Path(sys.argv[1]))
    import_all()
    for line in sys.stdin:
        stage, *options = json.loads(line)
        print(forked(stage, options), flush=True)


if __name__ == "__main__":
    main()
