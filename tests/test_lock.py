"""dvc.lock is of the code beside it: else a fresh clone looks stale, and every stage runs again."""

import hashlib
import json
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


def content_hash(path: Path) -> str:
    """The hash that DVC gives a file, or a folder less what .dvcignore names."""
    if path.is_file():
        return hashlib.md5(path.read_bytes()).hexdigest()
    files = [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    entries = [{"md5": content_hash(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    text = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return hashlib.md5(text.encode()).hexdigest() + ".dir"


def test_dvc_lock_is_of_this_code() -> None:
    """`make repro` on the committed params.yaml writes a right one."""
    yaml = YAML(typ="safe", pure=True)
    lock = yaml.load((ROOT / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    stages = yaml.load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert set(lock) == set(stages)
    locked = {dep["path"]: dep["md5"] for stage in lock.values() for dep in stage["deps"]}
    code = {path: md5 for path, md5 in locked.items() if path.startswith(("cpal/", "stages/"))}
    assert len(code) > 40
    assert code == {path: content_hash(ROOT / path) for path in code}
