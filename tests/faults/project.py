"""A tiny project that has run once, and what its stages must leave behind. All names of the product stand here."""

import hashlib
import importlib
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.determinism import SETTINGS
from cpal.settings.profiles import merged, plain_yaml
from faults.runner import PARSED, TIMEOUT, Ending, start

ROOT = Path(__file__).parents[2]
STAGES: dict[str, Any] = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
CODE = ("cpal", "stages", "dvc.yaml")  # links in each copy of the project
CACHE = ".cache"
SHARED_CACHE = "CPAL_CACHE"
SENTINELS = ("data/raw/mine/photo.txt", "data/notes.txt", "notes.txt")  # the user's own files, which nobody may touch
WORK = re.compile(r"\.(npz|png|pth)$")  # files in the work folders that cost time to make
RANDOM = re.compile(
    r"\d{8}_\d{6}|(?<![0-9a-z])[0-9a-f]{16,}|(?<=\.)\d+(\.[0-9a-f]{8})?(?=\.tmp)"
)  # in .cache: a time, hash, process
# Of .cache, beside what an undisturbed run leaves there: mmengine's folder of a training that was killed at once.
MAY_STAY: tuple[re.Pattern[str], ...] = (
    re.compile(r"^\.cache/[a-z_]+/\*/(checkpoints|mmengine)/\*$"),
    re.compile(r"^\.cache(/times)?$"),  # on a full disk: without the file that says what the stage took
)
CHEAP = ("write_pseudo_masks",)  # takes seconds for all images and does not go on
ON_PROCESSOR = {"prepare", "refine_crf", "write_pseudo_masks", "report"} | {
    f"evaluate_{name}" for name in ("seed", "crf", "pseudo_mask", "segmentation")
}
OTHER = """
hosts:
  irn: {learning_rate: 0.02, head_learning_rate: 0.2}
  amn: {learning_rate: 0.02, head_learning_rate: 0.2}
cpal: {topk: 1, temperature: 0.5}
crf: {iterations: 3, certainty: 0.6}
affinity: {learning_rate: 0.1}
walk: {steps: 4}
pseudo_mask: {min_confidence: 0.5}
segmentation: {learning_rate: 0.1}
"""


@dataclass(frozen=True)
class Tiny:
    """`folder` has run to its end, without .cache. `seconds`, `outs` and `tree` are of each stage run on its own."""

    folder: Path
    outs: dict[str, dict[str, str]] = field(default_factory=dict)
    tree: dict[str, set[str]] = field(default_factory=dict)
    changes: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def options(stage: str, *, workers: int = 1) -> list[str]:
    common = ["--workers", str(workers)]
    return common if stage in ON_PROCESSOR else [*common, "--device", "cpu", "--loaders", str(workers - 1)]


def outs_of(stage: str) -> list[str]:
    """What DVC removes before it runs the stage."""
    entries = [entry for key in ("outs", "metrics", "plots") for entry in STAGES[stage].get(key, [])]
    kept = [e for e in entries if isinstance(e, dict) and next(iter(e.values())).get("persist")]
    return [e if isinstance(e, str) else next(iter(e)) for e in entries if e not in kept]


def remove_outs(project: Path, stage: str) -> None:
    for name in outs_of(stage):
        remove(project / name)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def files_below(path: Path) -> list[Path]:
    """Without following links to folders, which the code is."""
    return sorted(Path(top, name) for top, _, names in os.walk(path) for name in names)


def content(project: Path, names: Iterable[str]) -> dict[str, str]:
    """Hash of each file of these outputs."""
    found: dict[str, str] = {}
    for name in names:
        path = project / name
        for member in [path] if path.is_file() else files_below(path):
            found[member.relative_to(project).as_posix()] = hashlib.sha256(member.read_bytes()).hexdigest()
    return found


def tree(project: Path) -> set[str]:
    """Names of all files and empty folders; times and hashes in names below .cache become *."""
    names = set()
    for top, folders, files in os.walk(project):
        for name in [*files, *(f for f in folders if not any(Path(top, f).iterdir()))]:
            relative = Path(top, name).relative_to(project).as_posix()
            names.add(RANDOM.sub("*", relative) if relative.startswith(CACHE) else relative)
    return names


def copy(tiny: Tiny, stage: str, where: Path) -> Path:
    """A project in which all but this stage has run; files are hard links, since stages write new ones."""
    shutil.copytree(tiny.folder, where, symlinks=True, copy_function=_link)
    remove_outs(where, stage)
    return where


def _link(source: str, target: str) -> None:
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
    else:
        os.link(source, target)


def own(project: Path, name: str) -> Path:
    """A file of a copy that may be changed: no longer a link to the tiny project's."""
    path = project / name
    path.write_bytes(_unlinked(path))
    return path


def _unlinked(path: Path) -> bytes:
    data = path.read_bytes()
    path.unlink()
    return data


def stage_run(project: Path, stage: str, *, workers: int = 1, timeout: float = TIMEOUT, **settings: Any) -> Ending:
    """The stage forked from here, to its end; settings as of `runner.start`."""
    return start(project, stage, options(stage, workers=workers), **settings).wait(timeout)


@cache
def scratch() -> Path:
    """A folder in memory where there is one."""
    shared = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="cpal_faults_", dir=shared if os.access(shared, os.W_OK) else None))


def settings_text(*changes: str) -> str:
    """params.yaml made tiny, with these changes."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for change in (SETTINGS, *changes):
        text, _ = merged(text, plain_yaml(change), name="tiny")
    return text


def link_code(project: Path) -> None:
    for name in CODE:
        (project / name).symlink_to(ROOT / name)


def build(name: str, *changes: str, alone: bool = True) -> Tiny:
    """Run all stages in the order of dvc.yaml.

    With `alone` each runs a second time, and ends alike, for the time that it takes, its changes to files and names.
    """
    folder = scratch() / name
    folder.mkdir()
    link_code(folder)
    (folder / "data/corrected_masks").mkdir(parents=True)  # in git
    (folder / "params.yaml").write_text(settings_text(*changes), encoding="utf-8")
    lock = {"schema": "2.0", "stages": {name: {"cmd": s["cmd"], "outs": _locked(name)} for name, s in STAGES.items()}}
    (folder / "dvc.lock").write_text(json.dumps(lock, indent=1), encoding="utf-8")  # which is YAML too
    for path in ("dvc.yaml", "dvc.lock", "params.yaml"):
        text = (folder / path).read_text(encoding="utf-8")
        PARSED[text] = pickle.dumps(plain_yaml(text))
    for path in SENTINELS:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("mine\n", encoding="utf-8")
    _preload([f"stages.{stage}" for stage in STAGES])
    tiny = Tiny(folder)
    for stage in STAGES:
        ending = stage_run(folder, stage)
        assert ending.code == 0, f"{stage} fails undisturbed: {ending.output}"
        _preload(ending.modules)
        remove(folder / CACHE)
    for stage in STAGES if alone else ():
        project = copy(tiny, stage, scratch() / f"alone_{stage}")
        ending = stage_run(project, stage, trace=True)
        assert ending.code == 0, f"{stage} fails undisturbed: {ending.output}"
        tiny.outs[stage] = content(folder, outs_of(stage))
        assert tiny.outs[stage] and content(project, outs_of(stage)) == tiny.outs[stage], f"{stage}: two runs differ"
        tiny.tree[stage], tiny.changes[stage] = tree(project), ending.changes
        tiny.seconds[stage] = ending.seconds
        shutil.rmtree(project)
    return tiny


def _locked(stage: str) -> list[dict[str, Any]]:
    return [{"path": name, "hash": "md5", "md5": "0" * 32, "size": 1} for name in outs_of(stage)]


def _preload(modules: Iterable[str]) -> None:
    """Import here what a stage imported, so that its next process begins with it; torch does nothing else here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            try:
                importlib.import_module(name)
            except Exception:  # of a library, which the stage found out for itself
                continue
    for name in [name for name in sys.modules if name.partition(".")[0] == "stages"]:
        del sys.modules[name]  # runpy wants to be the first to import a stage
