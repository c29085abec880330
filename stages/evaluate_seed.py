"""Score the seeds: mIoU against the ground truth, threshold sweeps of the maps, figures that need no ground truth.

Without ground truth there is no mIoU. An experiment that runs only one evaluate stage does not update the other metrics
files; `dvc status` lists the files that are out of date.
"""

from typing import Any

import numpy as np

from cpal.data.dataset import Record
from cpal.evaluation.score_files import write_scores
from cpal.evaluation.scoring import score_seeds
from cpal.evaluation.without_truth import describe_masks
from cpal.maps.cams import read_maps
from cpal.maps.seeds import seed_map, seed_rule
from stages.job.command import run_stage
from stages.job.job import Job
from stages.job.paths import METRICS


def main(job: Job) -> None:
    config, dataset, maps = job.config, job.dataset, job.maps
    folder, rule = job.target(METRICS), seed_rule(config.seeds)

    def seed(record: Record) -> np.ndarray:
        return seed_map(read_maps(maps, record, rule.maps), rule)

    # First, since it may read maps: if a worker imports torch later, joblib takes this for a memory leak and warns.
    free = describe_masks(job.train, seed, num_foreground=dataset.num_foreground, workers=job.workers)
    metrics: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    details: dict[str, dict[str, Any]] = {}
    if scored := dataset.scored("train", job.limit):
        step = config.evaluate.threshold_step
        metrics, rows, details = score_seeds(dataset, scored, maps, rule, step=step, workers=job.workers)
    write_scores(folder, "seed", metrics, rows, details | {"without_truth": free})


if __name__ == "__main__":
    run_stage(main)
