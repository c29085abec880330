"""Score the image-level labels that the trained network gives the validation images: mAP and F1, which need no mask."""

import numpy as np

from cpal.data.views import pyramid_loader
from cpal.evaluation.image_labels import score_labels
from cpal.files import write_json
from cpal.hosts.outputs import classify
from stages.job.classifier import trained_host
from stages.job.command import run_stage
from stages.job.launch import gathered
from stages.job.network import NetworkJob
from stages.job.paths import LABEL_METRICS, LABEL_PRECISION
from stages.job.progress import progress


def main(job: NetworkJob) -> None:
    config, dataset = job.config, job.dataset
    labels, precision = job.target(LABEL_METRICS), job.target(LABEL_PRECISION)
    host, _ = trained_host(job)
    val = dataset.split("val", job.limit)
    own, flip, long_side = job.share(val), config.cam.flip, config.cam.long_side
    loader = pyramid_loader(dataset, own, scales=(1.0,), flip=flip, long_side=long_side, workers=job.loaders)
    found = classify(host, dataset.num_foreground, progress(loader, total=len(own), what="classify"))
    probability = np.concatenate(gathered(found))
    truth = np.array([record.multi_hot(dataset.num_foreground) for record in val])
    metrics, rows = score_labels(truth, probability, dataset.classes, dataset.splits["val"])
    if job.first:
        write_json(labels, [metrics], job.scratch)  # a list with one row, which DVC can plot
        write_json(precision, rows, job.scratch)


if __name__ == "__main__":
    run_stage(main)
