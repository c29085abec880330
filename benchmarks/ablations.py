"""The paper's ablations, as DVC experiments on what params.yaml now describes.

Queues one experiment a row and seed, runs the queue, and writes docs/results/NAME.md and NAME.png with the paper's
figures beside. Stopped and started again it goes on: an experiment that is done is not run again.
"""

import hashlib
import os
import subprocess
import sys
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
    bank = [max(every, round(cpal["bank_length"] * share)) for share in (0.1, 0.5, 0.8, 1)]
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
                + [(tau, None) for tau in (0.4, 0.5, 0.6, 0.7, 0.8)]
            ),
            *(
                Row(f"bank of {length}", {**frozen, "cpal.bank_length": length}, paper)
                for length, paper in zip(bank, (61.5, 62.0, 62.3, 62.5), strict=True)
            ),
        ],
    }[table]


def preset(name: str) -> Change:
    """A profile as `section.key` to value."""
    settings = YAML(typ="safe", pure=True).load(Path(f"profiles/{name}.yaml"))
    return {f"{section}.{key}": value for section, keys in settings.items() for key, value in keys.items()}


def experiment(change: Change, seed: int) -> tuple[str, list[str]]:
    """Name of an experiment, which tells its settings and code apart, and its -S arguments."""
    arguments = [f"{key}={_hydra(value)}" for key, value in {**change, "seed": seed}.items()]
    code = sorted([*Path("cpal").rglob("*.py"), *Path("stages").glob("*.py")])
    sources = [Path("params.yaml"), Path("dvc.yaml"), *code]
    content = [*sorted(arguments), *(source.read_text(encoding="utf-8") for source in sources)]
    digest = hashlib.sha256("\n".join(content).encode()).hexdigest()[:10]
    return f"ablation-{digest}", [part for argument in arguments for part in ("-S", argument)]


def _hydra(value: Any) -> str:
    """A value as DVC's -S wants it."""
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    if isinstance(value, list):
        return f"[{','.join(map(_hydra, value))}]"
    return str(value)


def scores(name: str) -> dict[str, Any] | None:
    """seed.json of an experiment; None while it has not ended."""
    try:
        text = dvc.api.read(METRICS, rev=name)
    except Exception:  # DVC has many ways to say that there is no such revision
        return None
    return YAML(typ="safe", pure=True).load(text)


def run_missing(wanted: dict[str, list[str]]) -> None:
    """Queue what is neither done nor queued, and run the queue.

    The experiments share the pipeline's folder of unfinished and finished work, so that rows of one training train
    once.
    """
    os.environ["CPAL_CACHE"] = str(Path(".cache").resolve())
    _dvc("queue", "remove", "--failed", quiet=True)
    queued = subprocess.run(["dvc", "queue", "status"], capture_output=True, text=True, check=True).stdout
    missing = {name: arguments for name, arguments in wanted.items() if name not in queued and scores(name) is None}
    for name, arguments in missing.items():
        _dvc("exp", "run", "--queue", "--name", name, *arguments, "evaluate_seed")
    if missing or any(name in queued for name in wanted):
        _dvc("exp", "run", "--run-all", "--jobs", "1")


def _dvc(*arguments: str, quiet: bool = False) -> None:
    subprocess.run(["dvc", *arguments], check=not quiet, stdout=subprocess.DEVNULL if quiet else None)


def measured(row: Row, seeds: list[int]) -> list[float]:
    """The row's mIoU of each seed at the best threshold; those that failed are left out."""
    found = (scores(experiment(row.change, seed)[0]) for seed in seeds)
    return [content[row.score]["miou_oracle"] for content in found if content is not None]


def write(table: str, found: list[tuple[Row, list[float]]], seeds: list[int]) -> None:
    """The table as Markdown, and its bars as PNG."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    settings = YAML(typ="safe", pure=True).load(Path("params.yaml"))
    data = settings["data"]
    where = f"{data['source']}, {data['score_list']}" + (f", {' '.join(data['classes'])}" if data["classes"] else "")
    lines = [
        f"# {table.capitalize().replace('le', 'le ').replace('re', 're ')}: seed mIoU",
        "",
        f"Data: {where}. Backbone {settings['classifier']['backbone']}, {settings['classifier']['epochs']} epochs, "
        f"scales {settings['cam']['scales']}, seeds {seeds}. Each map at its best threshold; mean ± deviation.",
        "Paper: ResNet-50 on VOC 2012, so that only the order of the rows compares.",
        f"Made by `make {table}`.",
        "",
        "| row | paper | here |",
        "|---|---|---|",
    ]
    lines += [f"| {row.name} | {row.paper or ''} | {_shown(values)} |" for row, values in found]
    (RESULTS / f"{table}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    _draw(RESULTS / f"{table}.png", [(row, values) for row, values in found if values])


def _shown(values: list[float]) -> str:
    if not values:
        return "not measured"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


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
    cpal = YAML(typ="safe", pure=True).load(Path("params.yaml"))["cpal"]
    if run:  # seed by seed, so that the trainings that rows share stay at hand
        run_missing(dict(experiment(row.change, s) for s in numbers for t in tables for row in rows(t, cpal)))
    for table in tables:
        found = [(row, measured(row, numbers)) for row in rows(table, cpal)]
        write(table, found, numbers)
        print((RESULTS / f"{table}.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(typer.run(main))
