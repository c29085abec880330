"""Score the pseudo-masks: mIoU against the ground truth, and figures that need no ground truth.

If they come from a walk with a constant background, the walk's maps are also scored at all thresholds.
"""

from functools import partial

import numpy as np

from cpal.data.dataset import Record
from cpal.data.masks import LabelMaps
from cpal.evaluation.score_files import write_scores
from cpal.evaluation.scoring import score_step, score_walk
from cpal.evaluation.without_truth import describe_masks
from cpal.maps.refined import TRAINING, read_crf
from cpal.maps.walked import is_walk, read_walk
from stages.job.command import run_stage
from stages.job.job import Job
from stages.job.paths import AFFINITY, CRF, METRICS, PSEUDO_MASKS


def main(job: Job) -> None:
    config, dataset = job.config, job.dataset
    folder = job.target(METRICS)

    label = LabelMaps(PSEUDO_MASKS, "write_pseudo_masks").read

    def refined(record: Record) -> np.ndarray:
        return read_crf(CRF, record).label

    describe = partial(describe_masks, job.train, num_foreground=dataset.num_foreground, workers=job.workers)
    free = describe(label, other=refined)
    if config.pseudo_mask.unsure_background is not None:
        free["void_training"] = describe(LabelMaps(PSEUDO_MASKS / TRAINING, "write_pseudo_masks").read)["void"]
    scored = dataset.scored("train", job.limit)
    metrics, rows, details = score_step(dataset, scored, label, workers=job.workers, void=True)
    if metrics and is_walk(AFFINITY, scored[0]) and not read_walk(AFFINITY, scored[0]).background_walked:
        details["walk"] = score_walk(
            dataset,
            scored,
            AFFINITY,
            config.pseudo_mask.walk_power,
            config.pseudo_mask.background_threshold,
            step=config.evaluate.threshold_step,
            workers=job.workers,
        )
    write_scores(folder, "pseudo_mask", metrics, rows, details | {"without_truth": free})


if __name__ == "__main__":
    run_stage(main)
