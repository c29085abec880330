"""The ablations' rows and tables; running them is DVC's part."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchmarks import ablations
from cpal.config import parse_config
from cpal.profiles import merged

ROOT = Path(__file__).parent.parent
TABLES = ("table1", "table2", "table3", "figure4")
BASES = ("", "voc-animals", "voc2012")


def settings(profile: str) -> dict[str, Any]:
    """params.yaml, with a profile."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    if profile:
        text, _ = merged(text, (ROOT / f"profiles/{profile}.yaml").read_text(encoding="utf-8"), name=profile)
    return YAML(typ="safe", pure=True).load(text)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_a_valid_setting(table: str, base: str) -> None:
    for row in ablations.rows(table, settings(base)["cpal"]):
        values = settings(base)
        for key, value in row.change.items():
            section, name = key.split(".")
            assert name in values[section], key
            values[section][name] = value
        parse_config(values, name=row.name)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("table", TABLES)
def test_names_of_a_table_differ(table: str, base: str) -> None:
    names = [row.name for row in ablations.rows(table, settings(base)["cpal"])]
    assert len(set(names)) == len(names)


def test_arguments_are_read_back_as_the_values_they_were() -> None:
    """By the parser of DVC's -S."""
    from dvc.utils.hydra import to_hydra_overrides

    change = ablations.preset("sipe") | {"cam.long_side": None}
    _, arguments = ablations.experiment(change, 3)
    parsed = {o.key_or_group: o.value() for o in to_hydra_overrides(arguments[1::2])}
    strings = {key: str(value) if isinstance(change.get(key), str) else value for key, value in parsed.items()}
    present = settings("")
    changed = {key: value for key, value in change.items() if _setting(present, key) != value}
    assert strings == changed | {"seed": 3} and len(changed) > 5


def _setting(values: dict[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return values[section][name]


def test_rows_that_change_nothing_are_one_experiment() -> None:
    present = settings("")
    assert ablations.experiment({"cpal.topk": present["cpal"]["topk"]}, 1) == ablations.experiment({}, 1)


def test_a_name_stands_for_its_settings() -> None:
    name = ablations.experiment({"cpal.topk": 5, "cpal.align": "none"}, 0)[0]
    assert name == ablations.experiment({"cpal.align": "none", "cpal.topk": 5}, 0)[0]
    others = [
        ablations.experiment({"cpal.topk": 5, "cpal.align": "none"}, 1),
        ablations.experiment({"cpal.topk": 5}, 0),
    ]
    assert name not in [other for other, _ in others]
    assert re.fullmatch(r"ablation-[0-9a-f]{10}", name)


STATUS = """\
Task     Name            Created    Status
1111111  ablation-fails  06:25 AM   Failed
2222222  ablation-runs   06:26 AM   Running
3333333  ablation-waits  06:27 AM   Queued
4444444  other           06:28 AM   Running

Worker status: {} active, 0 idle
"""


@pytest.mark.parametrize(("active", "begun_anew"), [(0, ["fails", "runs", "new"]), (1, ["fails", "new"])])
def test_what_a_killed_worker_left_is_begun_anew(
    monkeypatch: pytest.MonkeyPatch, active: int, begun_anew: list[str]
) -> None:
    calls: list[tuple[str, ...]] = []

    def dvc(*arguments: str) -> str:
        calls.append(arguments)
        return STATUS.format(active) if arguments == ("queue", "status") else ""

    monkeypatch.setattr(ablations, "_dvc", dvc)
    monkeypatch.setattr(ablations.subprocess, "run", lambda *_, **__: None)
    for name in ("CPAL_CACHE", "CPAL_FEATURES"):
        monkeypatch.setenv(name, "")  # so that what is set for DVC ends with the test
    ablations.run_missing({f"ablation-{name}": ["-S", "seed=0"] for name in ("fails", "runs", "waits", "new")})
    assert [call[-1] for call in calls if call[:2] == ("queue", "kill")] == ["ablation-runs"] * (not active)
    removed = [call[-1].removeprefix("ablation-") for call in calls if call[:2] == ("queue", "remove")]
    assert removed == begun_anew[:-1]
    queued = [call[4].removeprefix("ablation-") for call in calls if call[:3] == ("exp", "run", "--queue")]
    assert queued == begun_anew


def test_a_table_says_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablations, "RESULTS", tmp_path)
    rows = [ablations.Row("all", {}, 62.5), ablations.Row("some", {}), ablations.Row("none", {}, 50.1)]
    ablations.write("table1", list(zip(rows, [[60.0, 62.0], [58.25], []], strict=True)), [0, 1])
    lines = (tmp_path / "table1.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Table 1: seed mIoU"
    assert lines[-3:] == [
        "| all | 62.5 | 61.0 ± 1.4 |",
        "| some |  | 58.2 (1 of 2 seeds) |",
        "| none | 50.1 | not measured |",
    ]
    assert (tmp_path / "table1.png").stat().st_size > 1000
