"""Label maps of the validation images, and of the training images that are scored (of all where none is)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from cpal.data.dataset import Record, read_image
from cpal.data.masks import write_mask
from cpal.data.views import pyramid_loader
from cpal.maps.crf import refine_probabilities
from stages.job.job import NetworkJob, run_stage
from stages.job.options import progress
from stages.job.paths import PREDICTIONS, SEGMENTATION


def main(job: NetworkJob) -> None:
    from cpal.networks.weights import load_weights  # seconds, which --help need not wait for
    from cpal.segmentation.deeplab import build_segmentor, probabilities, weights_meta

    dataset, model, settings = job.dataset, job.config.segmentation, job.config.final_test
    target = job.target(PREDICTIONS)
    segmentor = build_segmentor(model, dataset.num_classes, weights="none")
    meta = weights_meta(model, dataset.classes)
    load_weights(SEGMENTATION, {"segmentor": segmentor}, meta, stage="train_segmentation")
    segmentor.to(job.device)
    folder = job.work([model.model_dump(), settings.model_dump()])
    done = folder / "predictions"
    records = job.left([*dataset.split("val", job.limit), *dataset.predicted(job.limit)], done, ".png")
    loader = pyramid_loader(
        dataset, records, scales=settings.scales, flip=settings.flip, long_side=None, workers=job.loaders
    )

    def probable() -> Iterator[tuple[Record, np.ndarray]]:
        for record, size, views in loader:
            yield record, probabilities(segmentor, size, views).cpu().numpy()

    def label_one(path: Path, image: Path, probability: np.ndarray) -> None:
        if settings.crf.iterations:
            probability = refine_probabilities(read_image(image), probability, settings.crf)
        write_mask(path, probability.argmax(axis=0).astype(np.uint8))

    jobs = max(1, job.workers) if settings.crf.iterations else 1
    # max_nbytes: joblib would keep every map as a file in shared memory until the last image is done.
    work = Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs", max_nbytes=None)(
        delayed(label_one)(done / f"{record.image_id}.png", dataset.image_path(record), probability)
        for record, probability in probable()
    )
    for _ in progress(work, total=len(records), what="predict"):
        pass
    job.publish(folder, {"predictions": target})


if __name__ == "__main__":
    run_stage(main)
