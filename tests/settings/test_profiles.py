"""Merging a profile: what changes, what stays, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from cpal.data.dataset import read_dataset
from cpal.errors import UserError
from cpal.settings.config import load_config
from cpal.settings.profiles import load_profile, merged, plain_yaml
from stages import prepare, profile
from stages.job.job import Job

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and one profile, as the current folder."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (tmp_path / "profiles").mkdir()
    text = "# Wide pictures.\n\ncam:\n  scales:\n  - 0.5\n  - 2.0\ncrf:\n  iterations: 3\n"
    (tmp_path / "profiles" / "wide.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_changes_are_printed_and_nothing_else_changes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = load_config(project / "params.yaml")
    lines = (project / "params.yaml").read_text(encoding="utf-8").splitlines()
    profile.main("wide", project / "params.yaml")
    after = load_config(project / "params.yaml")
    shown = ", ".join(map(str, before.cam.scales))
    assert capsys.readouterr().out.splitlines() == [
        f"cam.scales: [{shown}] -> [0.5, 2.0]",
        f"crf.iterations: {before.crf.iterations} -> 3",
    ]
    assert after.cam.scales == (0.5, 2.0)
    assert after.crf.iterations == 3
    cam = before.cam.model_copy(update={"scales": (0.5, 2.0)})
    crf = before.crf.model_copy(update={"iterations": 3})
    assert after == before.model_copy(update={"cam": cam, "crf": crf})
    new = (project / "params.yaml").read_text(encoding="utf-8").splitlines()
    assert len(new) == len(lines) + 2 - len(before.cam.scales)
    assert [path.name for path in project.iterdir() if path.name.startswith(".")] == []


def test_a_second_merge_changes_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile.main("wide", project / "params.yaml")
    text = (project / "params.yaml").read_bytes()
    capsys.readouterr()
    profile.main("wide", project / "params.yaml")
    assert capsys.readouterr().out == f"{project / 'params.yaml'} has these settings already\n"
    assert (project / "params.yaml").read_bytes() == text


def test_without_a_name_the_profiles_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile.main(None, project / "params.yaml")
    assert capsys.readouterr().out == "wide: Wide pictures.\n"


@pytest.mark.parametrize("name", [None, "wide"])
def test_outside_the_project_is_said(project: Path, monkeypatch: pytest.MonkeyPatch, name: str | None) -> None:
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    with pytest.raises(UserError, match="run from the project's folder"):
        profile.main(name, project / "params.yaml")


def test_an_unknown_name_gets_the_nearest(project: Path) -> None:
    with pytest.raises(UserError, match="profiles/wode.yaml: no such profile .did you mean 'wide'"):
        profile.main("wode", project / "params.yaml")
    with pytest.raises(UserError, match="known are: wide"):
        profile.main("something-else", project / "params.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cam:\n  scale: 1\n", "cam.scale: unknown key .did you mean 'scales'"),
        ("crf:\n  iterations: many\n", "crf.iterations: .*got 'many'"),
        ("cpal: 3\n", "cpal: "),
        ("cam: [\n", "not valid YAML"),
        ("", "holds no settings"),
    ],
)
def test_an_invalid_profile_leaves_params_as_they_are(project: Path, text: str, message: str) -> None:
    (project / "profiles" / "wide.yaml").write_text(text, encoding="utf-8")
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(UserError, match=message):
        profile.main("wide", project / "params.yaml")
    assert (project / "params.yaml").read_bytes() == before


def test_a_profile_lies_over_its_bases(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "profiles/far.yaml").write_text("base: wide\ncrf:\n  iterations: 4\nseed: 5\n", encoding="utf-8")
    (project / "profiles/own.yaml").write_text("base: far\ncam:\n  flip: false\nseed: 6\n", encoding="utf-8")
    profile.main("own", project / "params.yaml")
    settings = load_config(project / "params.yaml")
    assert settings.cam.scales == (0.5, 2.0)
    assert (settings.crf.iterations, settings.cam.flip, settings.seed) == (4, False, 6)
    assert "seed: 0 -> 6" in capsys.readouterr().out.splitlines()  # one change a key, whichever layers name it


def test_a_base_that_is_missing_or_leads_back_is_refused(project: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    (project / "profiles/far.yaml").write_text("base: gone\nseed: 5\n", encoding="utf-8")
    with pytest.raises(UserError, match="profiles/gone.yaml: no such file"):
        profile.main("far", project / "params.yaml")
    (project / "profiles/gone.yaml").write_text("base: far\nseed: 6\n", encoding="utf-8")
    with pytest.raises(UserError, match="profiles/far.yaml: its bases lead back to it: far, gone"):
        profile.main("far", project / "params.yaml")
    assert (project / "params.yaml").read_bytes() == before


def test_long_comments_stay_on_their_line() -> None:
    comment = "# " + "long " * 60
    text, changes = merged((ROOT / "params.yaml").read_text(encoding="utf-8") + comment + "\n", {"seed": 7}, name="x")
    assert comment in text
    assert changes == ["seed: 0 -> 7"]
    assert YAML(typ="safe", pure=True).load(text)["seed"] == 7


@pytest.mark.parametrize("name", ["voc2012", "coco2014"])
def test_the_papers_settings_do_not_depend_on_an_earlier_profile(name: str) -> None:
    found = []
    for names in ([name], ["photographs", name]):
        text = (ROOT / "params.yaml").read_text(encoding="utf-8")
        for each in names:
            text, _ = merged(text, load_profile(ROOT / f"profiles/{each}.yaml"), name=each)
        settings = plain_yaml(text)
        assert settings["seeds"]["source"] == "pacam" and settings["taught_cam"]["decay"] == 0
        del settings["taught_cam"], settings["seeds"]["taught_threshold"]  # not used then
        crf = settings["final_test"]["crf"]
        settings["final_test"]["crf"] = crf if crf["iterations"] else None
        found.append(settings)
    assert found[0] == found[1]


@pytest.mark.parametrize("name", ["literal", "sipe", "voc2012", "coco2014"])
def test_unsure_background_is_for_the_taught_cam(name: str) -> None:
    """On PACAM's scale 0.29 would void half of the background."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    for each in ("voc-animals", name):
        text, _ = merged(text, load_profile(ROOT / f"profiles/{each}.yaml"), name=each)
    assert plain_yaml(text)["pseudo_mask"]["unsure_background"] is None


def test_msrc_needs_its_archive_and_the_table_of_colors_in_the_docs(tmp_path: Path) -> None:
    page = (ROOT / "docs/custom_data.md").read_text(encoding="utf-8")
    table = page.partition("colors.csv`. ")[2].partition("```\n")[2].partition("```")[0]
    for folder in ("Images", "GroundTruth"):
        (tmp_path / folder).mkdir()
    (tmp_path / "colors.csv").write_text(table, encoding="utf-8")
    colors = [line.split(",") for line in table.splitlines()]
    for number, (_, *color) in enumerate(colors * 4):
        mask = np.zeros((20, 30, 3), np.uint8)
        mask[5:] = np.array(color, np.uint8)
        for place in (f"Images/{number}_s.bmp", f"GroundTruth/{number}_s_GT.bmp"):
            Image.fromarray(mask).save(tmp_path / place)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    text, _ = merged(text, load_profile(ROOT / "profiles/msrc.yaml"), name="msrc")
    (tmp_path / "params.yaml").write_text(text.replace("root: ", f"root: {tmp_path} #"), encoding="utf-8")
    prepare.main(Job("prepare", load_config(tmp_path / "params.yaml"), out=tmp_path / "out", workers=1))
    dataset = read_dataset(tmp_path / "out/dataset")
    kept = dataset.classes
    shown = {record.image_id: [kept[n - 1] for n in record.labels] for record in dataset.records}
    assert kept == ("bird", "car", "cow", "person")
    assert shown == {f"{n}_s": [name] if name in kept else [] for n, (name, *_) in enumerate(colors * 4)}
