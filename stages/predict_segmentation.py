"""Predict label maps of the validation images, and of the scored training images or a sample of them.

If no training image is scored, all training images count.
"""

from pathlib import Path

import numpy as np
from joblib import delayed

from cpal.data.dataset import Record
from cpal.data.images import read_record_image
from cpal.data.masks import LabelMaps, write_mask
from cpal.data.views import pyramid_loader
from cpal.maps.crf import refine_probabilities
from cpal.running.parallel import processes
from stages.job.job import NetworkJob, run_stage
from stages.job.options import progress
from stages.job.paths import PREDICTIONS, SEGMENTATION


def main(job: NetworkJob) -> None:
    from cpal.segmentation.deeplab import load_segmentor, predict, probabilities  # takes seconds, unlike --help

    dataset, model, settings = job.dataset, job.config.segmentation, job.config.final_test
    target = job.target(PREDICTIONS)
    segmentor, _ = load_segmentor(SEGMENTATION, model, dataset.classes)
    segmentor.to(job.device)
    job.in_half(segmentor)
    folder = job.work([model.model_dump(), settings.model_dump()])
    done = folder / "predictions"
    maps = LabelMaps(done, job.name, dataset.num_foreground)
    records = job.left(job.share(job.predicted), done, maps.read)
    loader = pyramid_loader(
        dataset, records, scales=settings.scales, flip=settings.flip, long_side=None, workers=job.loaders
    )

    def refine_one(record: Record, image: Path, probability: np.ndarray) -> None:
        refined = refine_probabilities(read_record_image(image, record), probability, settings.crf)
        write_mask(done / f"{record.image_id}.png", refined.argmax(axis=0).astype(np.uint8), folder)

    if settings.crf.iterations:
        tasks = (
            delayed(refine_one)(record, dataset.image_path(record), probabilities(segmentor, size, views).cpu().numpy())
            for record, size, views in loader
        )
        # max_nbytes: joblib would keep every map as a file in shared memory until the last image is done.
        work = processes(job.workers, pre_dispatch="2*n_jobs", max_nbytes=None)(tasks)
        for _ in progress(work, total=len(records), what="predict"):
            pass
    else:
        for record, size, views in progress(loader, total=len(records), what="predict"):
            write_mask(done / f"{record.image_id}.png", predict(segmentor, size, views), folder)
    job.publish_images(folder, "predictions", target, job.predicted, ".png")


if __name__ == "__main__":
    run_stage(main)
