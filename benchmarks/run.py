"""Measured time, memory and disk space of the method's parts, each against a reference in the same run.

python -m benchmarks.run            # all rows; also writes docs/results/benchmarks.csv, and from it benchmarks.md
python -m benchmarks.run --quick    # without the slow rows and the largest sizes; prints only
python -m benchmarks.run --only kmeans walk    # rows whose names begin so; prints only
python -m benchmarks.run --only walk --publish # the same, and replaces these rows in docs/results
"""

import argparse
import os
import platform
import sys
import time
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch and NumPy are imported

from benchmarks import cams, clustering, crf, dilation, disk, growth, memory, reading, scoring, training_step, walk
from benchmarks.measure import Comparison, Figure, Result, Target, short
from cpal.files import whole_file
from experiments.origin import origin, read_rows, write_rows

PAGE = Path(__file__).parent.parent / "docs/results/benchmarks.md"
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pydensecrf2", "joblib")
COMMAND = "python -m benchmarks.run"
EXPLANATION = (
    "Both sides of a row run in turns in one process. A row of memory starts a new process for each measurement.",
    "Seconds are medians of all rounds. The value is the median of the rounds' ratios: reference / work where the",
    "target is a lower bound, else work / reference. The column `measured` names the clock: processor time where one",
    "thread does the work, and wall time where processes share the work or wait. Other load on the machine makes wall",
    "time longer, and processor time too, but less.",
)
GROWTH = ("## How the cost grows", "", "Medians of processor seconds. The cost grows as size ^ exponent.", "")
EXPONENT = "exponent"  # unit of the rows of the second table, whose reference is the size that grows
MISSED = {  # why a row does not reach its target
    "step-lite0-6": "the rounds' ratios vary by a tenth: neither this miss nor the 0.90 of 20 classes tells more",
    "step-resnet50-20-memory": "the bank, 21 x 1000 x 3072 numbers, has 258 MB, whatever the batch is",
    "maps-lite0": "instances are computed three times more (`cpal.refinements`), for all classes",
    "maps-resnet50": "as maps-lite0",
    "kmeans-432": "half of the time is matrix products, a third is k-means++, which draws one center at a time",
    "crf-list": "not explained; each process runs the same code as the loop",
    "crf-image": "the time is spent inside pydensecrf, by the same calls",
    "writing": "compression of the file, in the same process as the network",
}
ORIGIN = ("date", "commit", "command", "machine", "load", "versions")


def comparisons() -> list[Comparison | Figure]:
    topics = (training_step, dilation, cams, clustering, crf, walk, scoring, reading, disk, memory)
    return [row for topic in topics for row in topic.rows()]


def kept(result: Result) -> dict[str, str]:
    """A result as a line of the CSV file."""
    row = result._asdict() | {"target": f"{result.target.kind} {result.target.limit:g}" if result.target else ""}
    return {name: str(value) for name, value in row.items()}


def grown(only: list[str], *, quick: bool) -> list[dict[str, str]]:
    """Lines of the second table, for the chosen rows."""
    found = []
    for row in filter(lambda row: chosen(row.name, only), growth.rows()):
        note(row.name)
        seconds, exponent = row.measure(quick=quick)
        sizes = ", ".join(f"{size}: {short(value)}" for size, value in seconds.items())
        result = Result(row.name, row.work, row.variable, sizes, exponent, EXPONENT, None, "processor", "")
        found.append(kept(result))
    return found


def target_of(row: dict[str, str]) -> Target:
    kind, _, limit = row["target"].rpartition(" ")
    return Target("at most" if kind == "at most" else "at least", float(limit))


def table(rows: list[dict[str, str]]) -> list[str]:
    head = [
        "name",
        "work",
        "reference",
        "work / reference",
        "value",
        "target",
        "reached",
        "measured",
        "agreement",
        "run",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    runs = origins(rows)
    for row in rows:
        if row["unit"] == EXPONENT:
            continue
        target, reached = "", ""
        if row["target"]:
            target = f"{row['target']} {row['unit']}"
            reached = "yes" if target_of(row).reached(float(row["value"])) else "**no**"
        value = f"{short(float(row['value']))} {row['unit']}"
        cells = [row["name"], row["work"], row["reference"], row["sides"], value, target, reached, row["how"]]
        lines.append("| " + " | ".join([*cells, row["agreement"], str(runs.index(origin_of(row)) + 1)]) + " |")
    return lines


def missed(rows: list[dict[str, str]]) -> list[str]:
    """The reasons of the rows that do not reach their targets."""
    names = [row["name"] for row in rows if row["target"] and not target_of(row).reached(float(row["value"]))]
    reasons = [f"* `{name}`: {MISSED[name]}" for name in names if name in MISSED]
    return ["Why rows do not reach their targets:", "", *reasons, ""] if reasons else []


def growth_table(rows: list[dict[str, str]]) -> list[str]:
    lines = ["| name | work | grows with | seconds by size | exponent |", "|---|---|---|---|---|"]
    for row in rows:
        if row["unit"] == EXPONENT:
            cells = [row["name"], row["work"], row["reference"], row["sides"], f"{float(row['value']):.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return lines if len(lines) > 2 else []


def origin_of(row: dict[str, str]) -> tuple[str, ...]:
    return tuple(row[name] for name in ORIGIN)


def origins(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """The runs that the rows are of, in the order of the rows."""
    return list(dict.fromkeys(map(origin_of, rows)))


def merged(before: list[dict[str, str]], after: list[dict[str, str]]) -> list[dict[str, str]]:
    """All rows, a new one instead of an old one of its name, in the order in which they are measured."""
    rows = {row["name"]: row for row in (*before, *after)}
    order = [row.name for row in (*comparisons(), *growth.rows())]
    return sorted(rows.values(), key=lambda row: order.index(row["name"]) if row["name"] in order else len(order))


def chosen(name: str, only: list[str]) -> bool:
    return not only or name.startswith(tuple(only))


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def page(rows: list[dict[str, str]]) -> str:
    runs = [f"| {number} | {' | '.join(run)} |" for number, run in enumerate(origins(rows), 1)]
    second = growth_table(rows)
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "This page answers: what do the parts of the method cost, next to a reference that does the same work?",
            "",
            f"`{COMMAND}` writes this page from [benchmarks.csv](benchmarks.csv). `--only NAME --publish` replaces",
            "some rows. Each process has one thread.",
            "",
            *EXPLANATION,
            "",
            *table(rows),
            "",
            *missed(rows),
            *((*GROWTH, *second, "") if second else ()),
            "## Runs",
            "",
            "The load is the number of processes that wanted a core at the start and at the end.",
            "",
            f"| run | {' | '.join(ORIGIN)} |",
            "|---" * (len(ORIGIN) + 1) + "|",
            *runs,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, help="also write the page here, and its CSV file beside it")
    parser.add_argument("--publish", action="store_true", help="replace the measured rows in docs/results")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    rows = []
    for row in comparisons():
        if chosen(row.name, options.only) and not (options.quick and row.slow):
            note(row.name)
            result = row.measure()
            note(f"  {short(result.value)} {result.unit} ({result.sides}) {result.agreement}")
            rows.append(kept(result))
    rows += grown(options.only, quick=options.quick)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    source = origin(" ".join([COMMAND, *sys.argv[1:]])) | {
        "load": f"{before:.1f}, {os.getloadavg()[0]:.1f}",
        "versions": f"Python {platform.python_version()}, {versions}",
    }
    rows = [row | source for row in rows]
    print(page(rows))
    whole = not (options.quick or options.only)
    if whole or options.publish:
        old = read_rows(PAGE.with_suffix(".csv")) if PAGE.with_suffix(".csv").exists() and not whole else []
        write_page(PAGE, merged(old, rows))
    if options.out:
        write_page(options.out, rows)


def write_page(path: Path, rows: list[dict[str, str]]) -> None:
    """Write the CSV file, and the page from it."""
    write_rows(path.with_suffix(".csv"), rows)
    with whole_file(path) as temporary:
        temporary.write_text(page(read_rows(path.with_suffix(".csv"))), encoding="utf-8")


if __name__ == "__main__":
    main()
