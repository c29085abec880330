"""Score the segmentation model on the validation images, and on the training images that have a mask.

Also scores how well its confidence says what is right.
"""

import numpy as np

from cpal.data.dataset import Record
from cpal.data.masks import LabelMaps, read_confidence
from cpal.evaluation.score_files import write_scores
from cpal.evaluation.scoring import score_step
from cpal.evaluation.without_truth import describe_masks
from cpal.maps.confidence import FOLDER
from stages.job.command import run_stage
from stages.job.job import Job
from stages.job.paths import METRICS, PREDICTIONS, PSEUDO_MASKS


def main(job: Job) -> None:
    dataset, workers, foreground = job.dataset, job.workers, job.dataset.num_foreground
    folder = job.target(METRICS)

    label = LabelMaps(PREDICTIONS, "predict_segmentation", foreground).read
    pseudo = LabelMaps(PSEUDO_MASKS, "write_pseudo_masks").read

    def confidence(record: Record) -> np.ndarray:
        return read_confidence(PREDICTIONS / FOLDER, record, stage="predict_segmentation")

    seen = [record for record in job.predicted if record.split == "train"]
    free = describe_masks(dataset.split("val", job.limit), label, num_foreground=foreground, workers=workers)
    both = describe_masks(seen, label, num_foreground=foreground, workers=workers, other=pseudo)
    free["agreement"] = both["agreement"]
    val = dataset.scored("val", job.limit)
    metrics, rows, details = score_step(dataset, val, label, workers=workers, confidence=confidence)
    scored = [record for record in seen if record.scored]
    on_train, _, _ = score_step(dataset, scored, label, workers=workers)
    if on_train:
        metrics["train"] = on_train["miou"]
        details["on_train"] = on_train | {"split": dataset.splits["score"], "images": len(scored)}
    write_scores(folder, "segmentation", metrics, rows, details | {"without_truth": free})


if __name__ == "__main__":
    run_stage(main)
