"""Predict label maps, and how sure they are, of the validation images and of the scored training images.

Of the training images, a setting can choose a sample. If no training image is scored, all training images count.
"""

from pathlib import Path

import numpy as np
from joblib import delayed

from cpal.data.dataset import Record
from cpal.data.images import read_record_image
from cpal.data.masks import LabelMaps, read_confidence, write_confidence, write_mask
from cpal.data.views import pyramid_loader
from cpal.maps.confidence import FOLDER, at_temperature
from cpal.maps.crf import refine_probabilities
from cpal.running.parallel import processes
from stages.job.command import run_stage
from stages.job.network import NetworkJob
from stages.job.paths import PREDICTIONS, SEGMENTATION
from stages.job.progress import progress


def main(job: NetworkJob) -> None:
    from cpal.segmentation.deeplab import load_segmentor, probabilities  # takes seconds, unlike --help

    dataset, model, settings = job.dataset, job.config.segmentation, job.config.final_test
    target = job.target(PREDICTIONS)
    segmentor, _ = load_segmentor(SEGMENTATION, model, dataset.classes)
    segmentor.to(job.device)
    job.in_half(segmentor)
    folder = job.work([model.model_dump(), settings.model_dump()])
    done = folder / PREDICTIONS.name
    sure = done / FOLDER
    sure.mkdir(parents=True, exist_ok=True)
    maps = LabelMaps(done, job.name, dataset.num_foreground)

    def read(record: Record) -> None:
        maps.read(record)
        read_confidence(sure, record, stage=job.name)

    def write(record: Record, label: np.ndarray, confidence: np.ndarray) -> None:
        write_confidence(sure / f"{record.image_id}.png", confidence, folder)
        write_mask(done / f"{record.image_id}.png", label, folder)

    records = job.left(job.share(job.predicted), done, read, bytes_per_pixel=0.15)
    loader = pyramid_loader(
        dataset, records, scales=settings.scales, flip=settings.flip, long_side=None, workers=job.loaders
    )

    def refine_one(record: Record, image: Path, probability: np.ndarray) -> None:
        refined = refine_probabilities(read_record_image(image, record), probability, settings.crf)
        label = refined.argmax(axis=0)
        chosen = np.take_along_axis(probability, label[None], axis=0)[0]
        confidence = at_temperature(probability, chosen, settings.temperature)
        write(record, label.astype(np.uint8), np.rint(255 * confidence).astype(np.uint8))

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
            probability = probabilities(segmentor, size, views)
            best, label = probability.max(dim=0)
            confidence = (255 * at_temperature(probability, best, settings.temperature)).round()
            write(record, *(map_.byte().cpu().numpy() for map_ in (label, confidence)))
    job.publish_images(folder, PREDICTIONS.name, target, job.predicted, ".png", within=("", FOLDER))


if __name__ == "__main__":
    run_stage(main)
