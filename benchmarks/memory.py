"""Peak memory of the stages over many images against that over few: it should not depend on the number of images."""

import tempfile
from functools import cache, partial
from pathlib import Path

from benchmarks.measure import Figure, Target
from benchmarks.project import new_project
from benchmarks.soak import RAW, draw_images, fit, run, settings

SMALL = 4  # of the drawn images every fourth row and column is kept
STAGES = ("prepare", "fit_prototypes", "make_cams", "evaluate_seed", "refine_crf")
INTERVAL = 0.1  # seconds between two looks at the processes
SEEN = "cam: {long_side: 64, scales: [1.0], flip: false}\n"
FEW, MANY = 100, 1600


@cache
def peaks(images: int) -> dict[str, float]:
    """Peak resident memory in MB by stage: the sum over the processes of a stage, of drawn images of 94 x 125."""
    with tempfile.TemporaryDirectory() as name:
        project = Path(name, "project")
        changes = settings(images).replace("cam: {scales: [1.0], flip: false}\n", SEEN)
        assert SEEN in changes
        new_project(project, changes)
        draw_images(project / RAW, images, every=SMALL)
        found = {}
        for stage in STAGES:
            samples = run(project, stage, [], INTERVAL).samples
            found[stage] = max(sample.memory for sample in samples) / 1e6
            if stage == "prepare":
                fit(project)
        return found


def growth(stage: str, few: int, many: int) -> tuple[float, str]:
    """Peak memory over `many` images / over `few`, and both."""
    large, small = peaks(many)[stage], peaks(few)[stage]
    return large / small, f"{large:.0f} MB / {small:.0f} MB"


def rows() -> list[Figure]:
    what, other = f"peak memory of {{}}, {MANY:,} images of 94 x 125", f"{FEW} images"
    how, limit = "sum over the stage's processes, every 0.1 s", Target("at most", 1.10)
    return [
        Figure(
            f"memory-{s}", what.format(s), other, limit, "x", partial(growth, s, FEW, MANY), how, slow=True, rounds=1
        )
        for s in STAGES
    ]
