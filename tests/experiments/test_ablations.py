"""Rows, experiments and pages of the tables; running them is DVC's part."""

import csv
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from cpal.errors import UserError
from cpal.running.times import Taken, duration, write_taken
from cpal.settings.config import parse_config
from cpal.settings.profiles import load_profile, merged
from experiments import ablations, results, tables

ROOT = Path(__file__).parents[2]
TABLES = ("table1", "table2", "table3", "table4", "figure4", "seeds")
SEED = ("seed",)
SOURCE = dict.fromkeys(("date", "commit", "command", "machine"), "here")
BASES = ("", "voc-animals", "voc2012")


def settings(profile: str) -> dict[str, Any]:
    """params.yaml, with a profile."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    if profile:
        text, _ = merged(text, load_profile(ROOT / f"profiles/{profile}.yaml"), name=profile)
    return YAML(typ="safe", pure=True).load(text)


@pytest.fixture(autouse=True)
def at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_a_valid_setting(table: str, base: str) -> None:
    for row in tables.rows(table, settings(base)):
        values = settings(base)
        for key, value in row.change.items():
            *sections, name = key.split(".")
            place = values
            for section in sections:
                place = place[section]
            assert name in place, key
            place[name] = value
        parse_config(values, name=row.name)
        assert row.score != "taught" or values["taught_cam"]["decay"] > 0, "a row whose map is not made"


@pytest.mark.parametrize("table", ["table1", "table2", "table3", "figure4"])
def test_a_projection_is_refused(table: str) -> None:
    """Rows with self_weight 0 would be invalid settings, found by DVC one after the other."""
    with pytest.raises(UserError, match="cpal.projection: 192: it learns with L_Self"):
        tables.rows(table, settings("sipe"))


@pytest.mark.parametrize("base", [*BASES, "coco2014"])
def test_rows_of_table1_are_different_experiments(base: str) -> None:
    """Without refinements in the settings, the rows "without refinement" would be those above them."""
    present = settings(base)
    found = [(row.score, json.dumps(row.change, sort_keys=True)) for row in tables.rows("table1", present)]
    assert len(set(found)) == len(found)
    unrefined = [row.name for row in tables.rows("table1", present) if "without refinement" in row.name]
    assert len(unrefined) == (3 if present["cpal"]["refinements"] else 0)


def test_the_pages_of_tables_answer_the_same_questions_in_the_docs() -> None:
    for table, question in results.QUESTIONS.items():
        text = (ROOT / f"docs/results/{table}.md").read_text(encoding="utf-8")
        assert f"This page answers: {question}\n" in text


def test_a_huge_range_of_seeds_is_refused() -> None:
    with pytest.raises(UserError, match="more than 1000 seeds"):
        ablations.random_seeds("0-99999999")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("table", TABLES)
def test_names_of_a_table_differ(table: str, base: str) -> None:
    names = [row.name for row in tables.rows(table, settings(base))]
    assert len(set(names)) == len(names)


def test_arguments_are_read_back_as_the_values_they_were() -> None:
    """By the parser of DVC's -S."""
    from dvc.utils.hydra import to_hydra_overrides

    change = tables.preset("sipe") | {"cam.long_side": None}
    _, arguments = ablations.experiment(change, 3, ("seed", "crf"))
    assert arguments[-2:] == ["evaluate_seed", "evaluate_crf"]
    assert set(arguments[:-2:2]) == {"-S"}
    parsed = {o.key_or_group: o.value() for o in to_hydra_overrides(arguments[1:-2:2])}
    strings = {key: str(value) if isinstance(change.get(key), str) else value for key, value in parsed.items()}
    present = settings("")
    changed = {key: value for key, value in change.items() if _setting(present, key) != value}
    assert strings == changed | {"seed": 3} and len(changed) > 5


def _setting(values: dict[str, Any], key: str) -> Any:
    section, name = key.split(".")
    return values[section][name]


def test_rows_that_change_nothing_are_one_experiment() -> None:
    same = {"cpal.topk": settings("")["cpal"]["topk"], "host": "irn"}
    assert ablations.experiment(same, 1, SEED) == ablations.experiment({}, 1, SEED)


def test_a_name_stands_for_its_settings_and_steps() -> None:
    name = ablations.experiment({"cpal.topk": 5, "cpal.align": "none"}, 0, SEED)[0]
    assert name == ablations.experiment({"cpal.align": "none", "cpal.topk": 5}, 0, SEED)[0]
    others = [
        ablations.experiment({"cpal.topk": 5, "cpal.align": "none"}, 1, SEED),
        ablations.experiment({"cpal.topk": 5}, 0, SEED),
        ablations.experiment({"cpal.topk": 5, "cpal.align": "none"}, 0, ("seed", "crf")),
    ]
    assert name not in [other for other, _ in others]
    assert re.fullmatch(r"ablation-[0-9a-f]{10}", name)


def test_a_name_outlives_the_layout_of_params_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def name(text: str) -> str:
        (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
        (tmp_path / "dvc.yaml").write_text("stages: {}\n", encoding="utf-8")
        ablations.settings.cache_clear()
        ablations.project.cache_clear()
        return ablations.experiment({}, 0, SEED)[0]

    monkeypatch.chdir(tmp_path)
    try:
        first = name("seed: 0  # of every generator\nhost: irn\n")
        assert first == name("seed:\n  0\nhost: irn\n")
        assert first != name("seed: 0\nhost: amn\n")
    finally:  # what follows reads the project's own again
        ablations.settings.cache_clear()
        ablations.project.cache_clear()


def test_amn_takes_its_thresholds_for_the_data_they_are_known_for() -> None:
    alone = {"affinity.method": "irn", "cpal.self_weight": 0.0, "seeds.source": "cam", "taught_cam.crf_rounds": 0}
    toy = {row.name: row.change for row in tables.rows("table4", settings(""))}
    assert toy == {
        "irn": alone | {"affinity.sure_background": 0.15, "affinity.sure_foreground": 0.45},
        "irn + CPAL": {"affinity.method": "irn"},
        "amn": {**alone, "host": "amn"},
        "amn + CPAL": {"affinity.method": "irn", "host": "amn"},
    }
    animals = settings("voc-animals")
    animals["data"]["root"] = "/elsewhere"
    changes = {row.name: row.change for row in tables.rows("table4", animals)}
    profile = {"host": "amn", "seeds.cam_threshold": 0.6, "seeds.pacam_threshold": 0.58, "cpal.refinements": 0}
    assert changes["irn"] == alone | {"affinity.sure_background": 0.25, "affinity.sure_foreground": 0.5}
    flat = {"affinity.sure_background": 0.48, "affinity.sure_foreground": 0.68}
    assert changes["amn"].items() >= (alone | profile | flat).items()
    assert changes["amn + CPAL"].items() >= profile.items() and not changes["amn + CPAL"].keys() & {
        "seeds.source",
        *flat,
    }
    animals["data"]["classes"] = ["cat", "dog"]
    assert {row.name: row.change for row in tables.rows("table4", animals)} == toy


def test_table4_does_not_start_from_another_hosts_thresholds() -> None:
    with pytest.raises(UserError, match="host: amn: .*git checkout params.yaml"):
        tables.rows("table4", settings("voc-animals-amn"))


def test_each_table_scores_what_it_shows() -> None:
    assert {table: tables.steps(table) for table in ("table1", "figure4", "table4", "seeds")} == {
        "table1": ("seed",),
        "figure4": ("seed",),
        "table4": ("seed", "crf", "pseudo_mask"),
        "seeds": ("seed", "crf", "pseudo_mask", "segmentation"),
    }


def test_only_metrics_that_the_experiment_made_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [ablations.experiment({}, seed, ("seed", "crf"))[0] for seed in (0, 1)]
    asked = []

    def read(path: str, *, rev: str) -> str:
        asked.append((path, rev))
        return json.dumps(
            {"miou": 1.0}
            if path.endswith(("seed.json", "crf.json"))
            else [{"of": path, "figure": "images", "value": 3}]
        )

    monkeypatch.setattr("dvc.api.read", read)
    found = ablations.measured({}, ("seed", "crf"), [0, 1], {names[1], "other"})
    files = [f"data/metrics/{step}{part}.json" for step in ("seed", "crf") for part in ("", "_details", "_iou")]
    assert asked == [(file, names[1]) for file in files]
    expected: dict[str, Any] = {}
    for step in ("seed", "crf"):
        expected[step] = {"miou": 1.0, f"data/metrics/{step}_details.json": {"images": 3}}
        expected[f"{step}_iou"] = [{"of": f"data/metrics/{step}_iou.json", "figure": "images", "value": 3}]
    assert found == {1: expected}
    assert ablations.measured({}, ("seed",), [0, 1], set(names)) == {}, "of these steps none has ended"


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

    monkeypatch.setattr(ablations, "run_dvc", dvc)
    monkeypatch.setattr("subprocess.run", lambda command: subprocess.CompletedProcess(command, 0))
    for name in ("CPAL_CACHE", "CPAL_FEATURES"):
        monkeypatch.setenv(name, "")  # so that what is set for DVC ends with the test
    ablations.run_missing(
        {f"ablation-{name}": ["-S", "seed=0", "evaluate_seed"] for name in ("fails", "runs", "waits", "new")}
    )
    assert [call[-1] for call in calls if call[:2] == ("queue", "kill")] == ["ablation-runs"] * (not active)
    removed = [call[-1].removeprefix("ablation-") for call in calls if call[:2] == ("queue", "remove")]
    assert removed == begun_anew[:-1]
    queued = [call[4].removeprefix("ablation-") for call in calls if call[:3] == ("exp", "run", "--queue")]
    assert queued == begun_anew


def test_a_table_says_what_was_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [tables.Row("all", {}, 62.5), tables.Row("some", {}), tables.Row("none", {}, 50.1)]
    values = [{0: 60.0, 1: 62.0}, {1: 58.25}, {}]
    found = [
        (row, {seed: {"seed": {"pacam": {"miou_oracle": value}}} for seed, value in by_seed.items()})
        for row, by_seed in zip(rows, values, strict=True)
    ]
    path = results.write("table1", found, [0, 1], settings(""), folder=tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Table 1: seed mIoU" and lines[2].startswith("This page answers: how much does each component")
    assert lines[-5:] == [
        "| all | 62.5 | 61.0 ± 1.4 |",
        "| some |  | 58.2 (1 of 2 seeds) |",
        "| none | 50.1 | not measured |",
        "",
        "![The measured rows, with each seed and the paper's figure](table1.png)",
    ]
    assert (tmp_path / "table1.png").stat().st_size > 1000


def test_each_value_is_kept_with_where_it_comes_from(tmp_path: Path) -> None:
    found: results.Found = [(tables.Row("all", {}, 62.5), {5: {"seed": {"pacam": {"miou_oracle": 60.125}}}})]
    path = results.write("table2", found, [5, 7], settings(""), folder=tmp_path)
    with path.with_suffix(".csv").open(encoding="utf-8") as stream:
        first, second = csv.DictReader(stream)
    assert (first["row"], first["figure"], first["seed"], first["value"]) == ("all", "seed map", "5", "60.125")
    assert (second["seed"], second["value"], second["paper"]) == ("7", "", "62.5")
    head = subprocess.run(["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert first["commit"].startswith(head) and first["command"] == "make table2 SEEDS=5,7"
    assert re.search(r"\d+ cores, \d+ GiB", first["machine"]) and re.fullmatch(r"\d{4}-\d\d-\d\d", first["date"])
    text = path.read_text(encoding="utf-8")
    assert all(first[name] in text for name in ("commit", "command", "machine", "date"))


def test_the_page_is_made_from_the_file_of_values(tmp_path: Path) -> None:
    found: results.Found = [(tables.Row("all", {}, 62.5), {0: {"seed": {"pacam": {"miou_oracle": 60.125}}}})]
    file = results.write("table2", found, [0], settings(""), folder=tmp_path).with_suffix(".csv")
    file.write_text(file.read_text(encoding="utf-8").replace("60.125", "33.333"), encoding="utf-8")
    values, source = results.read_values(file)
    assert "| all | 62.5 | 33.3 |" in results.page("table2", values, settings(""), source)


def test_words_below_the_marker_stay(tmp_path: Path) -> None:
    path = tmp_path / "table2.md"
    path.write_text(f"replaced\n\n{results.BY_HAND}\n\nWhat it means.\n", encoding="utf-8")
    found: results.Found = [(tables.Row("all", {}), {})]
    results.write("table2", found, [0], settings(""), folder=tmp_path)
    results.write("table2", found, [0], settings(""), folder=tmp_path)
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# Table 2") and text.endswith(f"\n\n{results.BY_HAND}\n\nWhat it means.\n")
    assert "replaced" not in text and text.count("What it means.") == 1


@pytest.mark.parametrize("table", TABLES)
def test_a_table_of_nothing_is_written(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[tuple[tables.Row, dict[int, results.Metrics]]] = [(row, {}) for row in tables.rows(table, settings(""))]
    assert (
        results.write(table, found, [0, 1], settings(""), folder=tmp_path)
        .read_text(encoding="utf-8")
        .count("not measured")
        > 3
    )


def test_hosts_are_shown_beside_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the thresholds of the settings, not at the best ones."""

    def metrics(seed: float, crf: float, mask: float) -> results.Metrics:
        swept = {"miou_oracle": 99.0}
        return {
            "seed": {"miou": seed, "cam": swept, "pacam": swept},
            "crf": {"miou": crf},
            "pseudo_mask": {"miou": mask},
        }

    irn, cpal, *amn = tables.rows("table4", settings("voc-animals"))
    done = {0: metrics(40.0, 45.0, 50.0), 1: metrics(42.0, 45.0, 54.0)}
    found = [(irn, done), (cpal, {1: metrics(67.04, 73.0, 76.0)}), *((row, {}) for row in amn)]
    text = results.write("table4", found, [0, 1], settings("voc-animals"), folder=tmp_path).read_text(encoding="utf-8")
    assert text.splitlines()[-8:-2] == [
        "| host | seed, paper | seed, here | CRF, paper | CRF, here | mask, paper | mask, here |",
        "|---|---|---|---|---|---|---|",
        "| irn | 48.8 | 41.0 ± 1.4 | 53.7 | 45.0 ± 0.0 | 66.5 | 52.0 ± 2.8 |",
        "| irn + CPAL | 62.5 | 67.0 (1 of 2 seeds) | 66.2 | 73.0 (1 of 2 seeds) | 72.7 | 76.0 (1 of 2 seeds) |",
        "| amn | 62.1 | not measured | 66.1 | not measured | 72.2 | not measured |",
        "| amn + CPAL | 65.7 | not measured | 68.2 | not measured | 74.1 | not measured |",
    ]
    assert "for amn those of profile voc-animals-amn" in text
    assert (tmp_path / "table4.png").stat().st_size > 1000


def test_every_step_and_class_over_seeds() -> None:
    def metrics(base: float, **classes: float) -> results.Metrics:
        sweep = {"miou": base + 0.5, "threshold": 0.3, "miou_otsu": base - 1, "miou_oracle": base + 2}
        rows = [{"class": name, "iou": iou} for name, iou in classes.items()]
        steps = {
            step: {"miou": base + 10 * i, "scored": {"split": "val" if step == "segmentation" else "train"}}
            for i, step in enumerate(tables.steps("seeds"))
        }
        return (
            steps | {f"{step}_iou": rows for step in steps} | {"seed": steps["seed"] | {"cam": sweep, "pacam": sweep}}
        )

    done = {4: metrics(50.0, background=80.0, cat=20.0), 6: metrics(52.0, background=84.0)}
    values = results.measured_values("seeds", [(tables.Row("params.yaml", {}), done)], [4, 5, 6])
    lines = results.page("seeds", values, settings(""), SOURCE)
    assert "The random seed draws the images as well." in lines
    start = lines.index("| mIoU | images of | seed 4 | seed 5 | seed 6 | mean ± deviation |")
    assert lines[start + 2 :] == [
        "| CAM, fixed threshold 0.3 | train | 50.5 | not measured | 52.5 | 51.5 ± 1.4 (2 of 3 seeds) |",
        "| CAM, Otsu's threshold | train | 49.0 | not measured | 51.0 | 50.0 ± 1.4 (2 of 3 seeds) |",
        "| CAM, oracle | train | 52.0 | not measured | 54.0 | 53.0 ± 1.4 (2 of 3 seeds) |",
        "| PACAM, fixed threshold 0.3 | train | 50.5 | not measured | 52.5 | 51.5 ± 1.4 (2 of 3 seeds) |",
        "| PACAM, Otsu's threshold | train | 49.0 | not measured | 51.0 | 50.0 ± 1.4 (2 of 3 seeds) |",
        "| PACAM, oracle | train | 52.0 | not measured | 54.0 | 53.0 ± 1.4 (2 of 3 seeds) |",
        "| seed map | train | 50.0 | not measured | 52.0 | 51.0 ± 1.4 (2 of 3 seeds) |",
        "| after the CRF | train | 60.0 | not measured | 62.0 | 61.0 ± 1.4 (2 of 3 seeds) |",
        "| pseudo-mask | train | 70.0 | not measured | 72.0 | 71.0 ± 1.4 (2 of 3 seeds) |",
        "| segmentation model | val | 80.0 | not measured | 82.0 | 81.0 ± 1.4 (2 of 3 seeds) |",
        "",
        "| IoU | seed map | after the CRF | pseudo-mask | segmentation model |",
        "|---|---|---|---|---|",
        f"| background |{' 82.0 ± 2.8 (2 of 3 seeds) |' * 4}",
        f"| cat |{' 20.0 (1 of 3 seeds) |' * 4}",
    ]


def test_imported_maps_have_no_pacam() -> None:
    sweep = {"miou": 50.0, "threshold": 0.3, "miou_otsu": 49.0, "miou_oracle": 52.0}
    metrics = {step: {"miou": 50.0, "scored": {"split": "train"}} for step in tables.steps("seeds")}
    metrics["seed"]["cam"] = sweep
    done: dict[int, results.Metrics] = {0: metrics | {f"{step}_iou": [] for step in metrics}}
    values = results.measured_values("seeds", [(tables.Row("params.yaml", {}), done)], [0])
    lines = results.page("seeds", values, settings(""), SOURCE)
    assert not any("PACAM" in line for line in lines)


def test_without_masks_nothing_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    present = settings("")
    present["data"]["masks"] = None
    monkeypatch.setattr(ablations, "settings", lambda: present)
    with pytest.raises(UserError, match="data.masks: null: .*name their folder"):
        ablations.main(["seeds"], "0", run=True)


def test_a_published_page_is_replaced_on_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    present = settings("")
    monkeypatch.setattr(ablations, "settings", lambda: present)
    monkeypatch.setattr(ablations, "ended", set)
    monkeypatch.setattr(ablations, "project", lambda: "")
    monkeypatch.setattr(ablations, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(ablations, "PUBLISHED", tmp_path / "docs/results")
    ablations.main(["table2"], "0", run=False)
    assert sorted(path.parent.name for path in tmp_path.rglob("table2.md")) == ["results"]
    ablations.main(["table2"], "0", run=False, publish=True)
    assert (tmp_path / "docs/results/table2.md").is_file()


def test_rows_and_time_are_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two of the five rows of Table 2 are done; the other three need the seed's stages up to the maps once each."""
    known: set[str] = set()
    told: list[str] = []
    monkeypatch.setattr(ablations, "ended", lambda: known)
    monkeypatch.setattr(ablations, "run_missing", lambda wanted: told.append(capsys.readouterr().out))
    monkeypatch.setattr(ablations, "RESULTS", tmp_path)
    monkeypatch.setattr(ablations, "measured", lambda *_: {})
    monkeypatch.setattr(ablations, "TIMES", tmp_path / "times")
    names = [ablations.experiment(row.change, 0, SEED)[0] for row in tables.rows("table2", settings(""))]
    known |= set(names[:2])
    ablations.main(["table2"], "0")
    lines = told[0].splitlines()
    assert lines[0] == "table2, 5 row(s) and 1 seed(s):"
    assert [line.strip() for line in lines[1:6]] == [row.name for row in tables.rows("table2", settings(""))]
    assert lines[6] == "5 experiments, 3 of them to run"
    assert lines[7].startswith("no estimate of the time: ")
    for stage in ablations.pipeline():
        write_taken(tmp_path / "times", stage, Taken(10.0, 10.0, 1, 1))
    capsys.readouterr()
    ablations.main(["table2"], "0")
    shared = ("prepare",)  # of the three rows; the others read the settings of cpal, or what was made with them
    own = ("first_round", "train_cam", "fit_prototypes", "teach_cam", "make_cams", "evaluate_seed")
    seconds = 10 * (len(shared) + 3 * len(own))
    assert told[1].splitlines()[7] == (
        f"at most {duration(seconds)} by the stages' last times in this folder, for {seconds // 10} runs of stages"
    )


def test_seeds_and_tables_that_do_not_exist() -> None:
    assert ablations.random_seeds("0,1,2") == ablations.random_seeds("0-2") == [0, 1, 2]
    assert ablations.random_seeds("1, 5-6") == [1, 5, 6]
    for text in ("", "a", "0;1", "-1", "2-1", "1,1", "0-"):
        with pytest.raises(UserError, match="--seeds"):
            ablations.random_seeds(text)
    with pytest.raises(UserError, match="table9: no such table; choose table1, table2, table3, table4, figure4, seeds"):
        ablations.main(["table9"])
