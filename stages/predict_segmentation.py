"""Label maps of the validation images, and of the training images that are scored (of all where none is)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from joblib import delayed

from cpal.data.dataset import Record
from cpal.data.images import read_record_image
from cpal.data.masks import LabelMaps, write_mask
from cpal.data.views import pyramid_loader
from cpal.maps.crf import refine_probabilities
from cpal.parallel import processes
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
    images = [*dataset.split("val", job.limit), *dataset.predicted(job.limit)]
    maps = LabelMaps(done, job.name, dataset.num_foreground)
    records = job.left(images, done, maps.read)
    loader = pyramid_loader(
        dataset, records, scales=settings.scales, flip=settings.flip, long_side=None, workers=job.loaders
    )

    def probable() -> Iterator[tuple[Record, np.ndarray]]:
        for record, size, views in loader:
            yield record, probabilities(segmentor, size, views).cpu().numpy()

    def label_one(record: Record, image: Path, probability: np.ndarray) -> None:
        if settings.crf.iterations:
            probability = refine_probabilities(read_record_image(image, record), probability, settings.crf)
        write_mask(done / f"{record.image_id}.png", probability.argmax(axis=0).astype(np.uint8), folder)

    jobs = job.workers if settings.crf.iterations else 0  # to label a pixel costs less than to send its scores
    # max_nbytes: joblib would keep every map as a file in shared memory until the last image is done.
    work = processes(jobs, pre_dispatch="2*n_jobs", max_nbytes=None)(
        delayed(label_one)(record, dataset.image_path(record), probability) for record, probability in probable()
    )
    for _ in progress(work, total=len(records), what="predict"):
        pass
    job.publish_images(folder, "predictions", target, images, ".png")


if __name__ == "__main__":
    run_stage(main)
