"""The fingerprint of a stage's unfinished work, from its settings and the content of its `deps` in dvc.yaml."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpal.errors import UserError
from cpal.files import file_sha256
from cpal.settings.access import check_readable
from stages.job.paths import IMPORTED_CAMS, PIPELINE
from stages.job.pipeline import CURE, read_pipeline


def fingerprint(
    stage: str, settings: Any, values: Mapping[str, str], inputs: Sequence[Path], *, without: Collection[Path] = ()
) -> str:
    """16 hexadecimal digits that change with the settings, and with the content of the stage's deps and of `inputs`.

    The deps `without` do not count. `values` replace ${key} in the deps; a dep with an unknown key is left out. Raises
    UserError if dvc.yaml or an input is missing.
    """
    pipeline = read_pipeline()
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    try:
        deps = [_filled(name, values) for name in pipeline[stage]["deps"]]
    except (TypeError, KeyError):
        raise UserError(f"{PIPELINE}: names no deps of {stage}; {CURE}") from None
    known = (name for name in deps if "${" not in name and Path(name) not in without)
    for dependency in sorted([*known, *map(str, inputs)]):
        digest.update(dependency.encode())
        digest.update(_content(Path(dependency), stage).encode())
    return digest.hexdigest()[:16]


def _filled(name: str, values: Mapping[str, str]) -> str:
    """A dep of dvc.yaml with each ${key} replaced by its value; an unknown key stays."""
    return re.sub(r"\$\{([\w.]+)\}", lambda found: values.get(found[1], found[0]), name)


def _content(path: Path, stage: str) -> str:
    """Hash of a file, or of the names and contents of all files in a folder."""
    if path.is_dir():
        digest = hashlib.sha256()
        members = (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        for member in sorted(members):
            digest.update(str(member.relative_to(path)).encode())
            digest.update(_content(member, stage).encode())
        return digest.hexdigest()
    cure = "python -m stages.import_cams" if path == IMPORTED_CAMS else f"dvc repro {stage}"
    check_readable(path, missing=f"missing, {stage} needs it; make it with: {cure}")
    return file_sha256(path)
