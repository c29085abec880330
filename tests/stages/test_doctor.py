"""What a machine or a checkout lacks is told, with the cure, before anything runs."""

import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest

from cpal.errors import UserError
from cpal.report import provenance
from stages import doctor
from stages.job import findings

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as GitHub's ZIP gives it: no git, no DVC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for folder in ("profiles", "installation/locks"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def test_no_repository_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="^git, DVC: a run would fail"):
        doctor.main(params=Path("params.yaml"))
    lines = capsys.readouterr().out.splitlines()
    (git,) = (n for n, line in enumerate(lines) if line.startswith("MISSING git"))
    assert "-> git init && git add --all && git -c user.name=me" in lines[git + 1]
    assert any(line.startswith("ok      params.yaml") for line in lines)


def test_the_checkout_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    doctor.main(profiles=True, params=Path("params.yaml"))
    text = capsys.readouterr().out
    assert "MISSING" not in text
    for path in (ROOT / "profiles").glob("*.yaml"):
        assert f" {path.stem} " in text
    assert "lacks segmentation.weights data/raw/resnet101_coco.pth" in text, "which nobody may pass on"


def test_networks_are_not_looked_up_without_their_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)  # importing it fails
    installed = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: installed("nothing-like-timm" if name == "timm" else name))
    with pytest.raises(UserError, match="^timm, git, DVC: a run would fail"):
        doctor.main(params=Path("params.yaml"))
    assert "such network" not in capsys.readouterr().out


def test_data_and_packages_that_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    text = Path("params.yaml").read_text().replace("source: toy ", "source: voc ", 1)
    text = re.sub(r"(?ms)(^segmentation:.*?  backbone: tf_efficientnet_lit)e0", r"\g<1>0", text)
    assert "source: voc " in text and "lit0" in text
    Path("params.yaml").write_text(text)
    found = provenance.versions() | {"torch": "not installed", "timm": "0.1"}
    monkeypatch.setattr(findings, "versions", lambda: found)
    with pytest.raises(UserError, match="^torch, git, DVC, params.yaml: a run would fail"):
        doctor.main(params=Path("params.yaml"))
    out = capsys.readouterr().out
    assert (
        "-> lacks data.root data/raw; segmentation.backbone 'tf_efficientnet_lit0': no such network; names like it: tf"
        in out
    )
    assert "0.1, but 1" in out and "is tested" in out
    Path("data/raw").mkdir(parents=True)
    with pytest.raises(UserError):
        doctor.main(params=Path("params.yaml"))
    assert "-> lacks data.images data/raw/JPEGImages; segmentation.backbone" in capsys.readouterr().out
