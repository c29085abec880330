"""Whether a GPU computes what the CPU computes, and how fast it runs each stage's network; takes 8 minutes.

python -m benchmarks.gpu --out gpu.md           # on a machine with a GPU
python -m benchmarks.gpu --device cpu --tiny    # tries the script itself

It needs no internet. It needs torch, torchvision, numpy, scipy, pillow, pydantic and ruamel.yaml, and leaves out what
other packages are for.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks import gpu_checks, gpu_speed
from benchmarks.gpu_checks import Check

LEFT_OUT = {  # import name -> package, and what is left out without it
    "pydantic": ("pydantic", "all parts but the paper's functions; carry its wheels along"),
    "ruamel.yaml": ("ruamel.yaml", "all parts but the paper's functions; carry its wheel along"),
}
NEVER = (  # which need packages that such a machine lacks, or no GPU
    "Not measured: timm's networks, MMSegmentation's DeepLab (a network of the same layers stands for it), mmengine's "
    "share of a training step, train_affinity, and the CRFs, which run on the CPU."
)
ROUNDS = 5
PRECISIONS = {"cuda": ("fp32", "TF32", "bf16")}


def missing() -> dict[str, tuple[str, str]]:
    found = {}
    for name, left_out in LEFT_OUT.items():
        try:
            if find_spec(name) is None:
                found[name] = left_out
        except (ImportError, ValueError):  # its parent package is not there
            found[name] = left_out
    return found


def with_precision(call: Callable[[], Any], precision: str, device: torch.device) -> Callable[[], Any]:
    def run() -> Any:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            return call()

    return run


def seconds_of(call: Callable[[], Any], device: torch.device, *, budget: float) -> float:
    """Median seconds of a call, in ROUNDS rounds of as many calls as the budget allows, after two calls to warm up.

    Without a budget one call is measured, after none.
    """

    def timed(calls: int) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - started) / calls

    if budget == 0:
        return timed(1)
    timed(1)
    calls = max(1, min(50, int(budget / ROUNDS / timed(1))))
    return median(timed(calls) for _ in range(ROUNDS))


def idle_percent(call: Callable[[], Any], device: torch.device) -> str:
    """Share of a call's time in which no kernel runs on the GPU, in percent."""
    if device.type != "cuda":
        return ""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        started = time.perf_counter()
        for _ in range(3):
            call()
        torch.cuda.synchronize(device)
        wall = time.perf_counter() - started
    busy = sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6
    return f"{max(0.0, 100 * (1 - busy / wall)):.0f} %"


def throughput(device: torch.device, classes: tuple[int, ...], sizes: gpu_speed.Sizes, ends: float) -> Iterator[str]:
    """Rows of the table of speed; after the time `ends` the remaining ones are left out."""
    for count in classes:
        for works in (gpu_speed.classifier_works, gpu_speed.segmentation_works):
            for work in works(count, sizes, device):
                for precision in PRECISIONS.get(device.type, ("fp32", "bf16")):
                    head = f"| {work.stage} | {work.network} | {count + 1} | {precision} |"
                    if time.perf_counter() > ends:
                        yield f"{head} left out: time is over | | | |"
                        continue
                    yield f"{head} {cell(work, precision, device, sizes.seconds)} |"


def cell(work: gpu_speed.Work, precision: str, device: torch.device, budget: float) -> str:
    """Seconds, images a second, peak memory and the GPU's idle share; or the error that the work ends with."""
    call = with_precision(work.call, precision, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    try:
        seconds = seconds_of(call, device, budget=budget)
    except RuntimeError as error:  # out of memory, or an operation that lacks this precision
        return f"failed: {str(error).splitlines()[0][:80]} | | |"
    rate = f"{work.images / seconds:.1f}" if work.images else ""
    peak = f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f}" if device.type == "cuda" else ""
    return f"{seconds:.4f} | {rate} | {peak} | {idle_percent(call, device)}"


def agreement(device: torch.device, sizes: gpu_speed.Sizes, *, whole: bool) -> Iterator[Check]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield from gpu_checks.functions(device)
    if whole:
        trained = gpu_speed.random_classifier(20, sizes, torch.device("cpu"))
        yield from gpu_checks.network(trained, device, sizes.cam_side // 2, sizes.scales)


def page(device: torch.device, *, tiny: bool, minutes: float) -> tuple[str, bool]:
    """The Markdown page, and whether all checks passed."""
    ends = time.perf_counter() + 60 * minutes
    lacking, sizes = missing(), gpu_speed.TINY if tiny else gpu_speed.Sizes()
    whole = not {"pydantic", "ruamel.yaml"} & set(lacking)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    lines = ["# GPU", "", f"{name}, Python {platform.python_version()}, torch {torch.__version__}.", "", NEVER, ""]
    lines += [f"* without {package}: left out are {what}" for package, what in lacking.values()]
    lines += [
        "",
        "## CPU and device agree",
        "",
        "| what | largest difference | tolerance | passed |",
        "|---|---|---|---|",
    ]
    checks = []
    for check in agreement(device, sizes, whole=whole):
        checks.append(check)
        limit, passed = (
            ("", "") if check.tolerance is None else (f"{check.tolerance:g}", "yes" if check.passed else "**no**")
        )
        lines.append(f"| {check.what} | {check.difference:.1e} | {limit} | {passed} |")
    if whole:
        often = f"Medians of {ROUNDS} rounds" if sizes.seconds else "One call each"
        head = "| stage | network | classes | precision | seconds | images a second | peak GiB | device waits |"
        lines += [
            "",
            "## Speed",
            "",
            f"{often}; random weights.",
            "",
            head,
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in throughput(device, (3,) if tiny else (20, 80), sizes, ends):
            print(row, file=sys.stderr, flush=True)
            lines.append(row)
    return "\n".join([*lines, ""]), all(check.passed for check in checks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small images, to try the script")
    parser.add_argument("--minutes", type=float, default=7, help="after which no further row is begun")
    parser.add_argument("--out", type=Path, help="also write the page here")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no CUDA device; try the script with: python -m benchmarks.gpu --device cpu --tiny")
    text, passed = page(torch.device(options.device), tiny=options.tiny, minutes=options.minutes)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
