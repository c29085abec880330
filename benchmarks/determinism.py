"""Find which results get other bytes under which circumstances, on a tiny drawn data set.

python -m benchmarks.determinism

First, all stages run with one process and one thread. Then each stage runs again under other circumstances, with the
inputs of the first run, so that a difference comes from this stage and not from an earlier one. Files are compared by
SHA-256.

Writes OUT/determinism.md and OUT/determinism.json, which lists the files that differ.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen

from benchmarks.project import ROOT, new_project
from cpal.files import file_sha256, remove
from stages.job.pipeline import outs, read_pipeline

NETWORK = "{backbone: test_efficientnet, weights: none, epochs: 2, batch_size: 2, crop_size: 32, resize_long: [32, 48]}"
SETTINGS = f"""
toy: {{train_images: 4, val_images: 2, min_side: 64, max_side: 72}}
host: amn
hosts: {{irn: {NETWORK}, amn: {NETWORK}}}
cpal: {{refinements: 1, bank_length: 12, num_prototypes: 4, topk: 2}}
cam: {{scales: [1.0], long_side: 48}}
crf: {{iterations: 2}}
affinity: {{method: irn, backbone: test_efficientnet, weights: none, epochs: 2, batch_size: 2, crop_size: 32,
  radius: 3}}
walk: {{steps: 8, radius: 3}}
pseudo_mask: {{unsure_background: 0.3}}
segmentation: {{backbone: test_efficientnet, weights: none, iterations: 4, checkpoint_interval: 2, batch_size: 2,
  crop_size: 32}}
final_test: {{scales: [1.0]}}
evaluate: {{threshold_step: 0.1}}
report: {{images: 2}}
"""
COLUMNS = {  # of the table: stages
    "data": ("prepare",),
    "first round": ("first_round",),
    "trainings": ("train_cam", "train_affinity", "train_segmentation"),
    "prototypes": ("fit_prototypes", "teach_cam"),
    "maps": ("make_cams",),
    "CRF": ("refine_crf",),
    "walk": ("propagate_affinity",),
    "masks": ("write_pseudo_masks",),
    "predictions": ("predict_segmentation",),
    "scores": (
        *("evaluate_seed", "evaluate_labels", "evaluate_crf", "evaluate_pseudo_mask"),
        "evaluate_segmentation",
    ),
    "report": ("report",),
}
ByStage = Mapping[str, Mapping[str, bool]]  # for each file of a stage, whether it differs
Compared = tuple[str, ByStage]
LOG = "stages.log"
TIMES = ".cache/times"  # time and memory of the stages, which differ in each run
BEFORE = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8", "TZ": "UTC"}  # of the first run


@dataclass(frozen=True)
class Circumstances:
    """How the stages of a run are started. `loaders` counts only for stages with a network."""

    name: str
    folder: str
    workers: int = 1
    loaders: int = 0
    env: Mapping[str, str] = field(default_factory=dict)


FIRST = Circumstances("first run", "first")
OTHERS = (
    Circumstances("nothing, in another folder", "other/folder with spaces"),
    Circumstances("`OMP_NUM_THREADS=2`", "threads", env={"OMP_NUM_THREADS": "2"}),
    Circumstances(
        "hash seed, locale, time zone", "locale", env={"PYTHONHASHSEED": "77", "LC_ALL": "C", "TZ": "Asia/Kathmandu"}
    ),
    Circumstances("2 worker processes, 1 loader", "two", workers=2, loaders=1),
    Circumstances("3 worker processes, 2 loaders", "three", workers=3, loaders=2),
)


def stages() -> dict[str, list[str]]:
    """The stages in the order of dvc.yaml, each with the paths that it writes."""
    return {stage: list(outs(entry)) for stage, entry in read_pipeline(ROOT).items()}


class Project:
    """A project whose stages run under the same circumstances; `close` ends the process that forks them."""

    def __init__(self, folder: Path, how: Circumstances) -> None:
        self.folder, self.how = folder / how.folder, how
        new_project(self.folder, SETTINGS)
        self.process: Popen[str] | None = None

    def run(self, stage: str) -> None:
        """Raises RuntimeError with the end of its output when the stage fails."""
        remove(self.folder / TIMES)  # else the report would show them
        self.process = self.process or self._start()
        options = ["--workers", str(self.how.workers)]
        if "NetworkJob" in (ROOT / f"stages/{stage}.py").read_text(encoding="utf-8"):
            options += ["--device", "cpu", "--loaders", str(self.how.loaders)]
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps([stage, *options]) + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline().strip() != "0":
            output = (self.folder / LOG).read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{stage} failed:\n{output[-3000:]}")

    def _start(self) -> Popen[str]:
        command = [sys.executable, "-m", "benchmarks.forking", str(self.folder)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", **BEFORE, **self.how.env}
        with (self.folder / LOG).open("ab") as log:
            return Popen(command, cwd=ROOT, env=env, stdin=PIPE, stdout=PIPE, stderr=log, text=True)

    def close(self) -> None:
        if self.process is not None:
            self.process.communicate()


def digests(project: Path, outs: Sequence[str]) -> dict[str, str]:
    """SHA-256 of each file of these outputs."""
    found = [path for out in outs for path in (project / out, *(project / out).rglob("*")) if path.is_file()]
    return {path.relative_to(project).as_posix(): file_sha256(path) for path in found}


def differing(project: Project, first: Path, stage: str, outs: Sequence[str]) -> dict[str, bool]:
    """Run a stage, and report for each file of this run or the first run whether the two differ.

    Afterwards, the first run's files replace those of this run. Raises RuntimeError when the stage fails.
    """
    project.run(stage)
    ours, theirs = digests(project.folder, outs), digests(first, outs)
    for out in outs:
        target = project.folder / out
        remove(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if (first / out).is_dir():
            shutil.copytree(first / out, target)
        else:
            shutil.copyfile(first / out, target)
    return {name: ours.get(name) != theirs.get(name) for name in sorted(ours | theirs)}


def compare(folder: Path, others: Sequence[Circumstances] = OTHERS, last: str | None = None) -> Iterator[Compared]:
    """Name of the circumstances and, by stage, whether each file differs; `last` is the last stage that runs."""
    wanted = stages()
    if last is not None:
        names = list(wanted)
        wanted = {name: wanted[name] for name in names[: names.index(last) + 1]}
    first = Project(folder, FIRST)
    for stage in wanted:
        first.run(stage)
    first.close()
    for how in others:
        project = Project(folder, how)
        yield how.name, {stage: differing(project, first.folder, stage, outs) for stage, outs in wanted.items()}
        project.close()


def table(found: Mapping[str, ByStage]) -> str:
    """A Markdown table of the numbers of equal files; if a file differs, also the number of all files."""
    lines = [f"| what varies | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, by_stage in found.items():
        cells = []
        for column in COLUMNS.values():
            differ = [differs for stage in column for differs in by_stage.get(stage, {}).values()]
            equal = differ.count(False)
            cells.append("" if not differ else f"{equal}" if equal == len(differ) else f"**{equal} of {len(differ)}**")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def different(by_stage: ByStage) -> dict[str, list[str]]:
    """The files that differ, by stage, for stages with at least one such file."""
    found = {stage: [name for name, differs in files.items() if differs] for stage, files in by_stage.items()}
    return {stage: names for stage, names in found.items() if names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results"))
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, ByStage] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, by_stage in compare(Path(folder)):
            found[name] = by_stage
            (out / "determinism.md").write_text(table(found), encoding="utf-8")
            text = json.dumps({name: different(by_stage) for name, by_stage in found.items()}, indent=1)
            (out / "determinism.json").write_text(f"{text}\n", encoding="utf-8")
    print(table(found), end="")


if __name__ == "__main__":
    main()
