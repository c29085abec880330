"""Memory, processes, open files, speed and disk space of the stages over as many images as PASCAL VOC's train_aug.

python -m benchmarks.soak --images 10582

The images are drawn. The network is trained, and the prototypes are fitted, on a few of them. Then each stage runs over
all of them as a command in a project of its own, and its processes are looked at every second. Of each stage the second
tenth and the last tenth are compared. Other work on the same cores makes all programs slower: processor time is
therefore also given in units of a fixed piece of work, which is measured in the same seconds.

Writes OUT/soak.md and OUT/soak.json, and ends with exit code 1 if a figure grew by more than 5 %.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from subprocess import Popen
from typing import Any

import numpy as np
import psutil
from PIL import Image, ImageDraw

from benchmarks.project import finished, new_project, start_stage
from cpal.data.masks import write_mask
from cpal.sources.voc import CLASSES

WIDTH, HEIGHT = 500, 375  # of most images of VOC
RAW = "data/raw/soak"
SETTINGS = """
hosts: {irn: {epochs: 1, batch_size: 4, diagnosed_images: 0}}
cam: {scales: [1.0], flip: false}
taught_cam: {decay: 0}
seeds: {source: pacam}
crf: {iterations: 1}
evaluate: {threshold_step: 0.1}
"""
FITTED = 40  # images that the network and the prototypes learn from
VAL = 4
GROWTH = 0.05  # that counts as flat
CONSTANT = ("memory", "main_memory", "processes", "files")
START_VARIES = 1.0  # processor seconds by which two starts of a stage with its workers differ
# Where a stage's finished images are found while it runs; the stages without an entry write no file for an image.
GROWING = {
    "prepare": "data/.*.tmp/masks",
    "make_cams": ".cache/make_cams/*/cams",
    "refine_crf": ".cache/refine_crf/*/crf",
    "propagate_affinity": ".cache/propagate_affinity/*/affinity",
    "write_pseudo_masks": ".cache/write_pseudo_masks/*/pseudo_masks",
}
OUTPUTS = {
    "prepare": "data/dataset/masks",
    "make_cams": "data/cams",
    "refine_crf": "data/crf",
    "propagate_affinity": "data/affinity",
    "write_pseudo_masks": "data/pseudo_masks",
}
FITTING = ("train_cam", "fit_prototypes", "teach_cam")
WITH_NETWORK = (*FITTING, "make_cams", "propagate_affinity")
STAGES = (
    *("make_cams", "evaluate_seed", "refine_crf", "evaluate_crf"),
    *("propagate_affinity", "write_pseudo_masks", "evaluate_pseudo_mask"),
)


@dataclass(frozen=True)
class Sample:
    """A look at a stage's processes: images done, processor seconds so far, bytes, counts; `unit` is in seconds."""

    done: int
    cpu: float
    memory: int
    main_memory: int
    processes: int
    files: int
    unit: float


@dataclass(frozen=True)
class Run:
    """A stage that has ended. `cpu`: processor seconds of all its processes."""

    seconds: float
    cpu: float
    samples: list[Sample]

    @property
    def unit(self) -> float:
        return float(np.median([sample.unit for sample in self.samples]))


@dataclass(frozen=True)
class Figures:
    """What a stage took. Pairs are of the second tenth and the last tenth, None where there were too few samples.

    cpu: processor milliseconds an image; cpu_units: the same in units of a fixed piece of work. memory: megabytes of
    all processes together, main_memory: of the first one. `tenths` holds the medians of all tenths.
    """

    stage: str
    images: int
    seconds: float
    cpu: tuple[float, float] | None
    cpu_units: tuple[float, float] | None
    memory: tuple[float, float] | None
    main_memory: tuple[float, float] | None
    processes: tuple[float, float] | None
    files: tuple[float, float] | None
    written_files: int
    megabytes: float
    bytes_per_image: float
    tenths: list[dict[str, float]] = field(default_factory=list)
    noise: float = 0.0

    def grown(self) -> list[str]:
        """Names of the figures that are not flat; `noise` is the share by which cpu_units may be wrong."""
        allowed = {"cpu_units": GROWTH + self.noise, **dict.fromkeys(CONSTANT, GROWTH)}
        pairs = {name: getattr(self, name) for name in allowed}
        return [name for name, pair in pairs.items() if pair and pair[1] > (1 + allowed[name]) * pair[0]]


def draw_images(root: Path, count: int, *, every: int = 1) -> None:
    """A folder laid out like VOC, of `count` training images and a few others, each with one class.

    Of the images every `every`-th row and column is kept.
    """
    rng, classes = np.random.default_rng(0), len(classes_of(count))
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    ids = [f"{number:06d}" for number in range(count + VAL)]
    colors = rng.integers(40, 216, (len(CLASSES) + 1, 3))
    for number, image_id in enumerate(ids):
        mask = Image.new("L", (WIDTH, HEIGHT))
        draw = ImageDraw.Draw(mask)
        for _ in range(2):
            x, y, w, h = rng.integers((0, 0, 80, 80), (WIDTH - 200, HEIGHT - 200, 250, 200)).tolist()
            draw.ellipse((x, y, x + w, y + h), fill=number % classes + 1)
        labels = np.array(mask)
        light = Image.fromarray(rng.integers(0, 60, (12, 16), dtype=np.uint8)).resize((WIDTH, HEIGHT))
        grain = rng.integers(0, 20, (HEIGHT, WIDTH, 1), dtype=np.uint8)
        pixels = colors[labels] - 40 + np.array(light)[..., None] + grain
        pixels, labels = pixels[::every, ::every].astype(np.uint8), labels[::every, ::every]
        Image.fromarray(pixels).save(root / f"JPEGImages/{image_id}.jpg", quality=85)
        write_mask(root / f"SegmentationClass/{image_id}.png", np.ascontiguousarray(labels))
    lists = {"train": ids[:count], "val": ids[count:]}
    for name, members in lists.items():
        (root / f"ImageSets/Segmentation/{name}.txt").write_text("\n".join(members) + "\n", encoding="utf-8")


def classes_of(images: int) -> tuple[str, ...]:
    """Names of the classes: all of VOC's, or fewer so that each has a few images."""
    return CLASSES[: max(1, images // 3)]


def settings(images: int) -> str:
    """Changes of params.yaml, as YAML."""
    return f"data: {{source: voc, root: {RAW}, classes: [{', '.join(classes_of(images))}]}}{SETTINGS}"


def watch(process: Popen[Any], count: Callable[[], int], interval: float) -> Run:
    """Look at a stage and all processes below it until it ends."""
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    main, samples = psutil.Process(process.pid), list[Sample]()
    values = np.random.default_rng(0).random(60_000)
    while process.poll() is None:
        if sample := look(main, count, values):
            samples.append(sample)
        time.sleep(interval)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(time.monotonic() - started, cpu, samples)


def look(main: psutil.Process, count: Callable[[], int], values: np.ndarray) -> Sample | None:
    """None when the stage ends meanwhile. A process that ends while it is looked at is left out."""
    memory, files, cpu = list[int](), 0, 0.0
    began = time.thread_time()
    np.sort(values)
    unit = time.thread_time() - began
    try:
        processes = [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return None
    done = count()
    for process in processes:
        try:
            with process.oneshot():
                times = process.cpu_times()
                memory.append(process.memory_info().rss)
                files += process.num_fds()
            # A process that has ended counts among its parent's children.
            cpu += times.user + times.system + times.children_user + times.children_system
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return Sample(done, cpu, sum(memory), memory[0], len(memory), files, unit) if memory else None


def counter(project: Path, stage: str) -> Callable[[], int]:
    """Counts the files of the stage's finished images."""

    def count() -> int:
        if stage not in GROWING:
            return 0
        return sum(len(list(folder.iterdir())) for folder in project.glob(GROWING[stage]) if folder.is_dir())

    def safe() -> int:
        try:
            return count()
        except FileNotFoundError:  # just published
            return 0

    return safe


def tenths(samples: Sequence[Sample], *, by_files: bool) -> list[dict[str, float]]:
    """Medians of each tenth of the time in which the stage worked on images; nothing for few samples.

    It works since its first finished image or, where that cannot be seen, since its first worker process.
    """
    working = [sample for sample in samples if (sample.done if by_files else sample.processes > 1)]
    if len(working) < 20:
        return []
    names = [name for name in asdict(working[0]) if name not in ("done", "cpu")]
    parts = np.array_split(np.arange(len(working)), 10)
    return [{name: float(np.median([getattr(working[i], name) for i in part])) for name in names} for part in parts]


def cost_by_files(samples: Sequence[Sample], images: int) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Processor seconds an image, and the median unit, of the second tenth and the last tenth of the images."""
    done, first = np.unique([sample.done for sample in samples if sample.done], return_index=True)
    cpu = np.array([sample.cpu for sample in samples if sample.done])[first] if len(first) else np.array([])
    if len(done) < 20:
        return None
    found = []
    for low, high in ((0.1 * images, 0.2 * images), (0.9 * images, min(images, done[-1]))):
        spent = np.interp(high, done, cpu) - np.interp(low, done, cpu)
        units = [sample.unit for sample in samples if low <= sample.done <= high]
        if not units or high <= low:
            return None
        found.append((float(spent / (high - low)), float(np.median(units))))
    return found[0], found[1]


def run(project: Path, stage: str, options: Sequence[str], interval: float) -> Run:
    network = ["--device", "cpu"] if stage in WITH_NETWORK else []
    process = start_stage(project, stage, [*network, *options])
    try:
        found = watch(process, counter(project, stage), interval)
    finally:
        process.terminate()
        process.wait()
    finished(project, stage, process)
    return found


def cost_by_runs(
    project: Path, stage: str, whole: Run, images: int, interval: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """The same of a stage that writes no file for an image: of its first third alone, and of what all take longer.

    The start of the stage, measured on a few images, is left out.
    """
    few, part = max(1, min(8, images // 20)), max(2, images // 3)
    runs = {n: run(project, stage, ["--limit", str(n), "--out", f"only/{n}"], interval) for n in (few, part)}
    start = (runs[part].cpu - runs[few].cpu) / (part - few)
    end = (whole.cpu - runs[part].cpu) / (images - part)
    return (start, runs[part].unit), (end, whole.unit)


def soak(project: Path, stage: str, images: int, interval: float) -> Figures:
    whole = run(project, stage, [], interval)
    by_files = stage in GROWING
    cost = cost_by_files(whole.samples, images) if by_files else cost_by_runs(project, stage, whole, images, interval)
    parts = tenths(whole.samples, by_files=by_files)

    def pair(name: str, scale: float = 1) -> tuple[float, float] | None:
        return (parts[1][name] / scale, parts[-1][name] / scale) if parts else None

    written = [path.stat().st_size for path in (project / OUTPUTS[stage]).iterdir()] if stage in OUTPUTS else []
    return Figures(
        stage,
        images,
        whole.seconds,
        (1000 * cost[0][0], 1000 * cost[1][0]) if cost else None,
        (cost[0][0] / cost[0][1], cost[1][0] / cost[1][1]) if cost else None,
        pair("memory", 1e6),
        pair("main_memory", 1e6),
        pair("processes"),
        pair("files"),
        len(written),
        sum(written) / 1e6,
        sum(written) / max(1, len(written)),
        parts,
        0.0 if by_files or not cost else START_VARIES / max(START_VARIES, cost[0][0] * images / 3),
    )


def fit(project: Path) -> None:
    """Network and prototypes of a few images, put where all images' would be."""
    run(project, "first_round", ["--device", "cpu"], 1.0)  # which this host does not need: an empty folder
    for stage in FITTING:
        run(project, stage, ["--limit", str(FITTED), "--out", "few"], 1.0)
        for path in (project / "few").glob("*.safetensors"):
            shutil.copyfile(path, project / "data" / path.name)


HEAD = (
    "| stage | images | seconds | processor ms an image | in units | memory, MB | of the first process | processes "
    "| open files | on disk, MB | bytes an image | grown |\n|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def table(rows: Sequence[Figures]) -> str:
    """Markdown; a pair is of the second tenth and the last tenth."""
    lines = [HEAD]
    for row in rows:
        cells = [row.stage, f"{row.images:,}", f"{row.seconds:.0f}"]
        cells += [shown(row.cpu, 1), shown(row.cpu_units, 1), shown(row.memory), shown(row.main_memory)]
        cells += [shown(row.processes), shown(row.files)]
        cells += [f"{row.megabytes:.1f}", f"{row.bytes_per_image:,.0f}"] if row.written_files else ["", ""]
        lines.append("| " + " | ".join([*cells, ", ".join(row.grown()) or "no"]) + " |")
    return "\n".join(lines) + "\n"


def shown(pair: tuple[float, float] | None, digits: int = 0) -> str:
    return " → ".join(f"{value:.{digits}f}" for value in pair) if pair else ""


def measure(folder: Path, out: Path, images: int, interval: float = 1.0) -> list[Figures]:
    """Draw, fit and run all stages in `folder`; the files in `out` are written anew after each stage."""
    project, rows = folder / "project", list[Figures]()
    new_project(project, settings(images))
    draw_images(project / RAW, images)
    for stage in ("prepare", *STAGES):
        if stage == "propagate_affinity":  # with affinity.method none: passes the CRF's results on
            run(project, "train_affinity", ["--device", "cpu"], 1.0)
        rows.append(soak(project, stage, images, interval))
        out.mkdir(parents=True, exist_ok=True)
        (out / "soak.md").write_text(table(rows), encoding="utf-8")
        (out / "soak.json").write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
        if stage == "prepare":
            fit(project)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_582)
    parser.add_argument("--out", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), arguments.out, arguments.images)
    print(table(rows), end="")
    if any(row.grown() for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
