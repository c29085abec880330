"""What a result depends on besides data and settings: package versions, git commit, hashes in dvc.lock."""

import platform
import subprocess
from collections.abc import Iterable, Sequence
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


def locked_outs(path: Path, *, without: str) -> list[tuple[str, str, str]]:
    """Stage, path and hash of each output in a dvc.lock, but for one stage's; empty when there is no such file.

    Raises UserError for a file that is damaged, as by an edit or a failed merge.
    """
    return [
        (stage, name, hashed)
        for stage, entry in _locked(path).items()
        if stage != without
        for name, hashed in entry["outs"].items()
    ]


def is_current(path: Path, stage: str) -> bool:
    """Whether a stage has run, by a dvc.lock, on the outputs that other stages have now; also if there is no such file.

    Raises UserError as `locked_outs`.
    """
    locked = _locked(path)
    made = {name: hashed for entry in locked.values() for name, hashed in entry["outs"].items()}
    deps = locked.get(stage, {"deps": {}})["deps"]
    return (stage in locked or not locked) and all(made.get(name, hashed) == hashed for name, hashed in deps.items())


def _locked(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Hash of each dep and each output by its path, under `deps` and `outs` of each stage."""
    if not path.exists():
        return {}
    content: Any = read_yaml(path, missing="no such file", cure=RESTORE, largest=LARGEST)
    try:
        return {
            str(stage): {
                kind: {str(one["path"]): str(one.get(one.get("hash", "md5"), "")) for one in entry.get(kind, [])}
                for kind in ("deps", "outs")
            }
            for stage, entry in content["stages"].items()
        }
    except (TypeError, KeyError, AttributeError):
        raise UserError(f"{path}: damaged; {RESTORE}") from None


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
