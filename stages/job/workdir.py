"""Where a long stage keeps unfinished work, so that a killed run continues and a changed setting starts afresh.

DVC removes a stage's outputs before it runs. Work therefore grows in .cache/<stage>/<fingerprint>/ and moves to the
output when done. The fingerprint covers the stage's settings and the content of its `deps` in dvc.yaml, which are its
code and its inputs, and of files that only a setting names, such as first weights.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cpal.errors import UserError
from cpal.files import file_sha256
from stages.job.paths import CACHE, IMPORTED_CAMS, PIPELINE

KEPT = 4  # works of a stage that stay, newest first: finished ones where it keeps them, and unfinished ones


def work_folder(
    stage: str, settings: Any, *, values: Mapping[str, str] | None = None, inputs: Sequence[Path] = ()
) -> Path:
    """The folder of this stage with these settings and the present inputs; it may hold work to continue.

    `values` are those of the settings that its deps in dvc.yaml name, as ${seeds.maps}; a dep whose setting has none is
    passed over. `inputs` count as deps do.
    """
    folder = CACHE / stage / _fingerprint(stage, settings, values or {}, inputs)
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder)
    return folder


def publish(folder: Path, outs: dict[str, Path], *, keep: bool = False) -> None:
    """Move folder/<name> to each output and drop the folder, and the oldest of the stage's other works.

    With `keep` the outputs are copies: a later run with the same fingerprint finds the work done. Another experiment
    that shares the cache may be filling one of the newer works.
    """
    for name, out in outs.items():
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = out.with_name(f".{out.name}.new")
        _remove(staged)
        if keep and (folder / name).is_dir():
            shutil.copytree(folder / name, staged)
        elif keep:
            shutil.copy2(folder / name, staged)
        else:
            shutil.move(folder / name, staged)
        _remove(out)
        staged.rename(out)
    if not keep:
        _remove(folder)
    with suppress(FileNotFoundError):  # which another experiment drops at the same time
        works = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for work in works[KEPT:]:
            _remove(work)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fingerprint(stage: str, settings: Any, values: Mapping[str, str], inputs: Sequence[Path]) -> str:
    try:
        pipeline = YAML(typ="safe", pure=True).load(PIPELINE)
    except FileNotFoundError:
        raise UserError(f"{PIPELINE}: no such file; run stages from the project's folder") from None
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    deps = [_filled(name, values) for name in pipeline["stages"][stage]["deps"]]
    for dependency in sorted([*(name for name in deps if "${" not in name), *map(str, inputs)]):
        digest.update(dependency.encode())
        digest.update(_content(Path(dependency), stage).encode())
    return digest.hexdigest()[:16]


def _filled(name: str, values: Mapping[str, str]) -> str:
    """A dep of dvc.yaml with ${key} replaced by its value; a key that has none stays."""
    return re.sub(r"\$\{([\w.]+)\}", lambda found: values.get(found[1], found[0]), name)


def _content(path: Path, stage: str) -> str:
    """Hash of a file, or of a folder's names and files."""
    if path.is_dir():
        digest = hashlib.sha256()
        members = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        for member in sorted(members):
            digest.update(str(member.relative_to(path)).encode())
            digest.update(_content(member, stage).encode())
        return digest.hexdigest()
    try:
        return file_sha256(path)
    except FileNotFoundError:
        cure = "python -m stages.import_cams" if path == IMPORTED_CAMS else f"dvc repro {stage}"
        raise UserError(f"{path}: missing, {stage} needs it; make it with: {cure}") from None
