"""Measured time, memory and disk space of the method's parts, each against a reference in the same run.

python -m benchmarks.run            # all rows; also writes docs/results/benchmarks.md
python -m benchmarks.run --quick    # without the slow rows and the largest sizes; prints only
python -m benchmarks.run --only kmeans walk    # rows whose names begin so; prints only
"""

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch and NumPy are imported

from benchmarks import cams, clustering, crf, disk, growth, memory, reading, scoring, training_step, walk
from benchmarks.measure import Comparison, Figure, Result, short

PAGE = Path(__file__).parent.parent / "docs/results/benchmarks.md"
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "pydensecrf2", "joblib")
COMMAND = "python -m benchmarks.run"
EXPLANATION = (
    "Both sides of a row run in turns in one process. Seconds are medians of all rounds. The value is the median of",
    "the rounds' ratios: work / reference where the target is an upper bound, else reference / work. The column",
    "`measured` names the clock: processor time where one thread does the work, and wall time where processes share",
    "the work or wait. Other load on the machine makes wall time longer, and processor time too, but less.",
)
GROWTH = ("", "## How the cost grows", "", "Medians of processor seconds. The cost grows as size ^ exponent.", "")


def comparisons() -> list[Comparison | Figure]:
    topics = (training_step, cams, clustering, crf, walk, scoring, reading, disk, memory)
    return [row for topic in topics for row in topic.rows()]


def machine() -> str:
    """Processor, cores that this process may use, memory, system, and the load of the last minute."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def table(results: list[Result]) -> list[str]:
    head = ["name", "work", "reference", "work / reference", "value", "target", "reached", "measured", "agreement"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for found in results:
        target = f"{found.target.kind} {found.target.limit:g} {found.unit}" if found.target else ""
        reached = "" if found.target is None else "yes" if found.target.reached(found.value) else "**no**"
        value = f"{short(found.value)} {found.unit}"
        cells = [found.name, found.work, found.reference, found.sides, value, target, reached, found.how]
        lines.append("| " + " | ".join([*cells, found.agreement]) + " |")
    return lines


def growth_table(only: list[str], *, quick: bool) -> list[str]:
    """The second table; empty where no row of it is chosen."""
    lines = ["| name | work | grows with | seconds by size | exponent |", "|---|---|---|---|---|"]
    for row in growth.rows():
        if chosen(row.name, only):
            note(row.name)
            seconds, exponent = row.measure(quick=quick)
            sizes = ", ".join(f"{size}: {short(value)}" for size, value in seconds.items())
            lines.append(f"| {row.name} | {row.work} | {row.variable} | {sizes} | {exponent:.2f} |")
    return lines if len(lines) > 2 else []


def chosen(name: str, only: list[str]) -> bool:
    return not only or name.startswith(tuple(only))


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def page(arguments: list[str], results: list[Result], grown: list[str], load: tuple[float, float]) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "This page answers: what do the parts of the method cost, next to a reference that does the same work?",
            "",
            f"`{' '.join([COMMAND, *arguments])}` wrote this page on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
            "",
            "| | |",
            "|---|---|",
            f"| machine | {machine()} |",
            f"| versions | Python {platform.python_version()}, {versions} |",
            f"| processes that wanted a core, start and end (load) | {load[0]:.1f}, {load[1]:.1f} |",
            "| threads | one for each process |",
            "",
            *EXPLANATION,
            "",
            *table(results),
            *(GROWTH if grown else ()),
            *grown,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--out", type=Path, help="also write the page here")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    before = os.getloadavg()[0]
    results = []
    for row in comparisons():
        if chosen(row.name, options.only) and not (options.quick and row.slow):
            note(row.name)
            results.append(row.measure())
            note(f"  {short(results[-1].value)} {results[-1].unit} ({results[-1].sides}) {results[-1].agreement}")
    grown = growth_table(options.only, quick=options.quick)
    text = page(sys.argv[1:], results, grown, (before, os.getloadavg()[0]))
    print(text)
    target = options.out or (None if options.quick or options.only else PAGE)
    if target is not None:
        from cpal.files import whole_file

        with whole_file(target) as temporary:
            temporary.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
