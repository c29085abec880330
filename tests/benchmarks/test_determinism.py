"""The comparison of runs: which files count as equal, and that each stage starts from the first run's results."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import determinism
from benchmarks.determinism import Circumstances

OTHERS = (Circumstances("same", "same"), Circumstances("more workers", "more", workers=3))


def test_every_stage_has_a_column() -> None:
    columns = [stage for column in determinism.COLUMNS.values() for stage in column]
    assert sorted(columns) == sorted(determinism.stages())


def test_a_difference_is_found_and_not_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first stage's file depends on the workers; the second one copies it, as a stage reads another's result."""

    def run(self: determinism.Project, stage: str) -> None:
        folder = self.folder / "data" / stage
        folder.mkdir(parents=True)
        (folder / "fixed.txt").write_text("1")
        if stage == "one":
            (folder / "file.txt").write_text(f"{self.how.workers}")
            if self.how.workers > 1:
                (folder / "new.txt").touch()
        else:
            (folder / "file.txt").write_text((self.folder / "data/one/file.txt").read_text())

    monkeypatch.setattr(determinism.Project, "run", run)
    monkeypatch.setattr(determinism, "stages", lambda: {"one": ["data/one"], "two": ["data/two"], "three": ["data/x"]})
    found = dict(determinism.compare(tmp_path, OTHERS, last="two"))
    one = {"data/one/file.txt": True, "data/one/fixed.txt": False, "data/one/new.txt": True}
    two = {"data/two/file.txt": False, "data/two/fixed.txt": False}
    equal = {name: False for name in one if not name.endswith("new.txt")}
    assert found == {"same": {"one": equal, "two": two}, "more workers": {"one": one, "two": two}}


def test_table_counts_equal_files() -> None:
    found: dict[str, Any] = {"threads": {"prepare": {"a": False, "b": False}, "make_cams": {"c": True, "d": False}}}
    row = determinism.table(found).splitlines()[2]
    assert row.split(" | ")[:2] == ["| threads", "2"]
    assert "**1 of 2**" in row


@pytest.mark.slow
def test_the_first_stage_gives_the_same_bytes_in_another_folder(tmp_path: Path) -> None:
    found = dict(determinism.compare(tmp_path, determinism.OTHERS[:1], last="prepare"))
    files = found["nothing, in another folder"]["prepare"]
    assert "data/dataset/dataset.json" in files and not any(files.values())
