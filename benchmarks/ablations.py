"""The paper's ablations, as DVC experiments on what params.yaml now describes.

Queues one experiment a row and seed, runs the queue, and writes docs/results/NAME.md and NAME.png with the paper's
figures beside. Stopped and started again it goes on: an experiment that is done is not run again. What else waits in
DVC's queue is run as well; DVC runs all of it or nothing.
"""

import hashlib
import json
import os
import subprocess
from functools import cache, reduce
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any, NamedTuple

import dvc.api
import matplotlib.pyplot as plt
import typer
from ruamel.yaml import YAML

RESULTS = Path("docs/results")
METRICS = "data/metrics/seed.json"
Change = dict[str, Any]


class Row(NamedTuple):
    """One line of a table: the settings it changes, and which map's score it is."""

    name: str
    change: Change
    paper: float | None = None
    score: str = "pacam"


def rows(table: str, cpal: dict[str, Any]) -> list[Row]:
    """The rows of a table around the present settings `cpal`."""
    every, few = cpal["num_prototypes"], cpal["topk"]
    frozen: Change = {"cpal.self_weight": 0.0}  # maps of one plain training, which all these rows share
    plain = {**frozen, "cpal.align": "none"}
    raw = {**frozen, "cpal.normalize_prototypes": False}
    vanilla = {"cpal.topk": every, "cpal.weighting": "none"}
    paper_banks = {100: 61.5, 500: 62.0, 800: 62.3, 1000: 62.5}
    return {
        "table1": [
            Row("I. classifier alone: CAM", frozen, 50.1, "cam"),
            Row("II. + vanilla context prototypes", {**plain, **vanilla}, 51.2),
            Row("III. + prototype-aware (K, positiveness)", plain, 54.5),
            Row("IV. + feature alignment", frozen, 56.8),
            Row("V. + L_self", {}, 62.5),
            Row("CAM of V", {}, None, "cam"),
            Row("IV without refinement (ours)", {**frozen, "cpal.refinements": 0}),
            Row("III without refinement", {**plain, "cpal.refinements": 0}),
            Row("II without refinement", {**plain, **vanilla, "cpal.refinements": 0}),
            Row("IV with the instance alone, no context", {**frozen, "cpal.topk": 0}),
            Row("preset sipe", preset("sipe")),
            Row("preset literal", preset("literal")),
        ],
        "table2": [
            Row(f"neighbours, positiveness, K = {few}", frozen, 62.5),
            Row(f"mean of all {every}", {**frozen, **vanilla}, 59.2),
            Row(f"neighbours alone, K = {few}", {**frozen, "cpal.weighting": "none", "cpal.rank_by": "cosine"}, 60.3),
            Row(f"K = {few // 2}", {**frozen, "cpal.topk": few // 2}, 61.3),
            Row(f"K = {every}", {**frozen, "cpal.topk": every}, 60.1),
        ],
        "table3": [
            Row("L1", {**raw, "cpal.metric": "l1"}, 59.6),
            Row("L2", {**raw, "cpal.metric": "l2"}, 58.7),
            Row("cosine", {**raw, "cpal.metric": "cosine"}, 61.9),
            Row("dot product", {**raw, "cpal.metric": "dot"}, 62.5),
        ],
        "figure4": [
            *(
                Row(f"tau = {tau}", {**frozen, "cpal.mask_threshold": tau}, paper)
                for tau, paper in [(0.05, 62.0), (0.1, 62.5), (0.15, 61.7), (0.2, 61.4)]
                + [(tau, None) for tau in (0.4, 0.6, 0.8)]
            ),
            *(  # small data sets never fill the paper's banks
                Row(f"bank of {length}", {**frozen, "cpal.bank_length": length}, paper_banks.get(length))
                for length in sorted({every, 2 * every, 4 * every, *paper_banks})
                if length >= every
            ),
        ],
    }[table]


def preset(name: str) -> Change:
    """A profile as `section.key` to value."""
    content = YAML(typ="safe", pure=True).load(Path(f"profiles/{name}.yaml"))
    return {f"{section}.{key}": value for section, keys in content.items() for key, value in keys.items()}


def experiment(change: Change, seed: int) -> tuple[str, list[str]]:
    """Name of an experiment, which tells its settings and code apart, and its -S arguments.

    What params.yaml says already is left out, so that rows of the same settings are one experiment.
    """
    present = settings()
    changed = {
        key: value for key, value in change.items() if reduce(dict.__getitem__, key.split("."), present) != value
    }
    arguments = [f"{key}={json.dumps(value)}" for key, value in {**changed, "seed": seed}.items()]
    digest = hashlib.sha256("\n".join([project(), *sorted(arguments)]).encode()).hexdigest()[:10]
    return f"ablation-{digest}", [part for argument in arguments for part in ("-S", argument)]


@cache
def settings() -> dict[str, Any]:
    """What params.yaml describes."""
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    return content


@cache
def project() -> str:
    """All that decides what an experiment gives, beside its change: settings, pipeline and code."""
    code = sorted([*Path("cpal").rglob("*.py"), *Path("stages").glob("*.py")])
    return "\n".join(path.read_text(encoding="utf-8") for path in [Path("params.yaml"), Path("dvc.yaml"), *code])


def ended() -> set[str]:
    """Names of the experiments that DVC holds."""
    return set(_dvc("exp", "list", "--name-only", "--all-commits").split())


def waiting() -> dict[str, str]:
    """Name and state of the tasks in DVC's queue; Dead is one that a killed worker has left Running."""
    status = _dvc("queue", "status")
    rows = [line.split() for line in status.splitlines()]
    dead = {"Running": "Dead"} if "Worker status: 0 active" in status else {}
    return {row[1]: dead.get(row[-1], row[-1]) for row in rows if len(row) > 2}


def run_missing(wanted: dict[str, list[str]]) -> None:
    """Queue what is neither done nor queued, and run the queue; a failed or killed one is tried again.

    The experiments share the pipeline's folder of unfinished and finished work, so that rows of one training train
    once, and its network sees each image once.
    """
    os.environ["CPAL_CACHE"] = str(Path(".cache").resolve())
    os.environ["CPAL_FEATURES"] = str(Path(".cache/features").resolve())
    known, tasks = ended(), waiting()
    missing = {name: arguments for name, arguments in wanted.items() if name not in known}
    for name, arguments in missing.items():
        if tasks.get(name) == "Dead":  # DVC would wait for it for ever; to kill it makes it a failed one
            _dvc("queue", "kill", name)
        if tasks.get(name) in ("Failed", "Dead"):
            _dvc("queue", "remove", name)
        if tasks.get(name) not in ("Queued", "Running"):
            _dvc("exp", "run", "--queue", "--name", name, *arguments, "evaluate_seed")
    if missing:
        subprocess.run(["dvc", "exp", "run", "--run-all", "--jobs", "1"], check=True)


def _dvc(*arguments: str) -> str:
    return subprocess.run(["dvc", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def measured(row: Row, seeds: list[int], known: set[str]) -> list[float]:
    """The row's mIoU at the best threshold, of each seed whose experiment has ended."""
    names = [name for name, _ in (experiment(row.change, seed) for seed in seeds) if name in known]
    return [json.loads(dvc.api.read(METRICS, rev=name))[row.score]["miou_oracle"] for name in names]


def write(table: str, found: list[tuple[Row, list[float]]], seeds: list[int]) -> None:
    """The table as Markdown, and its bars as PNG."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    present = settings()
    data = present["data"]
    where = f"{data['source']}, {data['score_list']}" + (f", {' '.join(data['classes'])}" if data["classes"] else "")
    lines = [
        f"# {table[:-1].capitalize()} {table[-1]}: seed mIoU",
        "",
        f"Data: {where}. Backbone {present['classifier']['backbone']}, {present['classifier']['epochs']} epochs, "
        f"scales {present['cam']['scales']}, seeds {seeds}. Each map at its best threshold; mean ± deviation.",
        "Paper: ResNet-50 on VOC 2012, so that only the order of the rows compares.",
        f"Made by `make {table}`.",
        "",
        "| row | paper | here |",
        "|---|---|---|",
    ]
    lines += [f"| {row.name} | {row.paper or ''} | {_shown(values, len(seeds))} |" for row, values in found]
    (RESULTS / f"{table}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _draw(RESULTS / f"{table}.png", [(row, values) for row, values in found if values])


def _shown(values: list[float], expected: int) -> str:
    if not values:
        return "not measured"
    deviation = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{deviation}" + (
        f" ({len(values)} of {expected} seeds)" if len(values) < expected else ""
    )


def _draw(path: Path, found: list[tuple[Row, list[float]]]) -> None:
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.42 * len(found)), layout="constrained")
    places = range(len(found))
    axes.barh(places, [mean(values) for _, values in found], height=0.6, color="#86abd2", label="here, mean")
    for y, (_, values) in zip(places, found, strict=True):
        label = None if y else "here, each seed"
        axes.plot(values, [y] * len(values), "o", color="#2563a8", markersize=4, label=label)
    paper = [(row.paper, y) for y, (row, _) in zip(places, found, strict=True) if row.paper]
    axes.plot(*zip(*paper, strict=True), "D", color="#c0392b", markersize=5, label="paper, VOC 2012")
    axes.set_yticks(list(places), [row.name for row, _ in found])
    axes.invert_yaxis()
    lowest = min([*(v for _, values in found for v in values), *(x for x, _ in paper)])
    axes.set_xlim(max(0, lowest - 5), None)
    axes.set_xlabel("mIoU of the seeds, %")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(
    tables: Annotated[list[str], typer.Argument(help="table1, table2, table3, figure4.")],
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between.")] = "0,1,2",
    run: Annotated[bool, typer.Option(help="Run what is missing; else only write what there is.")] = True,
) -> None:
    numbers = [int(seed) for seed in seeds.split(",")]
    cpal = settings()["cpal"]
    if run:  # seed by seed, so that the trainings that rows share stay at hand
        run_missing(dict(experiment(row.change, s) for s in numbers for t in tables for row in rows(t, cpal)))
    known = ended()
    for table in tables:
        found = [(row, measured(row, numbers, known)) for row in rows(table, cpal)]
        write(table, found, numbers)
        print((RESULTS / f"{table}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    typer.run(main)
