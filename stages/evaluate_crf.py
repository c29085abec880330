"""Score the CRF's label maps: mIoU against the ground truth, and figures that need no ground truth."""

import numpy as np

from cpal.data.dataset import Record
from cpal.evaluation.score_files import write_scores
from cpal.evaluation.scoring import score_step
from cpal.evaluation.without_truth import describe_masks, mean_confidence
from cpal.maps.cams import read_maps
from cpal.maps.refined import read_crf
from cpal.maps.seeds import seed_map, seed_rule
from stages.job.command import run_stage
from stages.job.job import Job
from stages.job.paths import CRF, METRICS


def main(job: Job) -> None:
    dataset, maps, rule = job.dataset, job.maps, seed_rule(job.config.seeds)
    folder = job.target(METRICS)

    def seed(record: Record) -> np.ndarray:
        return seed_map(read_maps(maps, record, rule.maps), rule)

    def label(record: Record) -> np.ndarray:
        return read_crf(CRF, record).label

    def confidence(record: Record) -> np.ndarray:
        return read_crf(CRF, record).confidence

    # First, since it may read maps: if a worker imports torch later, joblib takes this for a memory leak and warns.
    free = describe_masks(job.train, label, num_foreground=dataset.num_foreground, workers=job.workers, other=seed)
    free["confidence"] = mean_confidence(job.train, confidence, workers=job.workers)
    metrics, rows, details = score_step(dataset, dataset.scored("train", job.limit), label, workers=job.workers)
    write_scores(folder, "crf", metrics, rows, details | {"without_truth": free})


if __name__ == "__main__":
    run_stage(main)
