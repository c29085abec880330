"""What a result depends on besides data and settings: package versions, git commit, hashes in dvc.lock."""

import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from cpal.errors import UserError
from cpal.settings.yaml_files import read_yaml

PACKAGES = ["torch", "torchvision", "timm", "onedl-mmsegmentation", "onedl-mmengine", "onedl-mmcv", "pydensecrf2"]
PACKAGES += ["numpy", "pillow", "dvc", "dvclive"]
NAMED = 8  # files of code that a comparison names
LARGEST = 1_000_000  # bytes of a dvc.lock, fifteen times ours
RESTORE = "restore it with: git checkout dvc.lock, or remove it and run: dvc repro"


def versions() -> dict[str, str]:
    """Python's and the main packages', in a fixed order."""
    return {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def commit(*, results: Iterable[str] = ()) -> str:
    """The commit of the current folder's checkout and the tracked files that differ from it.

    `results` are paths that the pipeline itself writes: a change there does not count.
    """
    try:
        head = _git("rev-parse", "HEAD").strip()
        lines = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in results))
    except (OSError, subprocess.CalledProcessError):
        return "unknown: git names no commit here"
    changed = ", ".join(line[3:] for line in lines.splitlines())
    return f"{head}, dirty: {changed}" if changed else f"{head}, clean"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout


@contextmanager
def locked_stages(path: Path) -> Iterator[Mapping[str, Any]]:
    """The entries of a dvc.lock by stage; none if there is no such file.

    Raises UserError for a file that is damaged, as by an edit or a failed merge, also where the block finds that.
    """
    content: Any = {"stages": {}}
    if path.exists():
        content = read_yaml(path, missing="no such file", cure=RESTORE, largest=LARGEST)
    try:
        yield content["stages"]
    except (TypeError, KeyError, AttributeError):
        raise UserError(f"{path}: damaged; {RESTORE}") from None


def locked_outs(path: Path, *, without: str) -> list[tuple[str, str, str]]:
    """Stage, path and hash of each output in a dvc.lock, but for one stage's. Raises UserError as `locked_stages`."""
    with locked_stages(path) as stages:
        return [
            (str(stage), str(out["path"]), str(out.get(out.get("hash", "md5"), "")))
            for stage, entry in stages.items()
            if stage != without
            for out in entry.get("outs", [])
        ]


def stale_stages(stages: Mapping[str, Any], settings: Mapping[str, Any]) -> set[str]:
    """Stages of a dvc.lock that ran with other settings, or on another input, than the run has now.

    `stages` is the content of the lock. Code is not compared.
    """
    made = {out["path"]: (name, out.get("md5")) for name, stage in stages.items() for out in stage.get("outs", ())}
    stale: set[str] = set()
    for name, stage in stages.items():
        recorded = [pair for values in stage.get("params", {}).values() for pair in values.items()]
        if any(setting(settings, key) != value for key, value in recorded):
            stale.add(name)
        if any(made.get(dep["path"], (name, dep.get("md5")))[1] != dep.get("md5") for dep in stage.get("deps", ())):
            stale.add(name)
    while (
        more := {
            name
            for name, stage in stages.items()
            if any(made.get(dep["path"], ("",))[0] in stale for dep in stage.get("deps", ()))
        }
        - stale
    ):
        stale |= more
    return stale


def setting(settings: Mapping[str, Any], key: str) -> Any:
    found: Any = settings
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def code_changes(commits: Sequence[str], paths: Sequence[str]) -> list[str]:
    """For each commit, which files below `paths` differ from the first commit's, in words; empty text is the workspace.

    Raises UserError if git cannot compare them.
    """
    first, found = commits[0], []
    for commit in commits:
        pair = [name for name in (first, commit) if name]
        if first == commit or not pair:
            found.append("none")
            continue
        try:
            names = _git("diff", "--name-only", *pair, "--", *paths).splitlines()
        except subprocess.CalledProcessError as error:
            raise UserError(f"git cannot compare {' with '.join(pair)}: {error.stderr.strip()}") from None
        found.append(f"{len(names)} files: {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}")
        found[-1] = found[-1] if names else "none"
    return found
