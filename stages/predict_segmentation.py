"""Label maps of the validation images, and of the training images that are scored (of all where none is)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from cpal.data.dataset import Record, read_dataset, read_image
from cpal.data.masks import write_mask
from cpal.data.views import pyramid_loader
from cpal.maps.crf import refine_probabilities
from cpal.networks.weights import load_weights
from cpal.segmentation.deeplab import build_segmentor, probabilities, weights_meta
from cpal.settings.config import load_config
from stages.job.device import DEFAULT_LOADERS, Device, Loaders, torch_device
from stages.job.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, progress, run
from stages.job.paths import DATASET, PARAMS, PREDICTIONS, SEGMENTATION
from stages.job.workdir import publish, work_folder


def main(
    params: Params = PARAMS,
    device: Device = "auto",
    loaders: Loaders = DEFAULT_LOADERS,
    workers: Workers = DEFAULT_WORKERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    predictions = destination(PREDICTIONS, limit, out)
    dataset = read_dataset(DATASET)
    segmentor = build_segmentor(config.segmentation, dataset.num_classes, weights="none")
    meta = weights_meta(config.segmentation, dataset.classes)
    load_weights(SEGMENTATION, {"segmentor": segmentor}, meta, stage="train_segmentation")
    segmentor.to(torch_device(device))
    settings = [config.segmentation.model_dump(), config.test_crf.model_dump(), limit]
    folder = work_folder("predict_segmentation", settings)
    (folder / "predictions").mkdir(exist_ok=True)
    wanted = [*dataset.split("val", limit), *dataset.predicted(limit)]
    records = [r for r in wanted if not (folder / "predictions" / f"{r.image_id}.png").exists()]
    scales, flip = config.segmentation.test_scales, config.segmentation.test_flip
    loader = pyramid_loader(dataset, records, scales=scales, flip=flip, long_side=None, workers=loaders)

    def probable() -> Iterator[tuple[Record, np.ndarray]]:
        for index, size, views in loader:
            yield records[index], probabilities(segmentor, size, views).cpu().numpy()

    def label_one(path: Path, image: Path, probability: np.ndarray) -> None:
        if config.test_crf.iterations:
            probability = refine_probabilities(read_image(image), probability, config.test_crf)
        write_mask(path, probability.argmax(axis=0).astype(np.uint8))

    jobs = max(1, workers) if config.test_crf.iterations else 1
    # max_nbytes: joblib would keep every map as a file in shared memory until the last image is done.
    work = Parallel(n_jobs=jobs, return_as="generator", pre_dispatch="2*n_jobs", max_nbytes=None)(
        delayed(label_one)(folder / "predictions" / f"{record.image_id}.png", dataset.image_path(record), probability)
        for record, probability in probable()
    )
    for _ in progress(work, total=len(records), what="predict"):
        pass
    publish(folder, {"predictions": predictions})


if __name__ == "__main__":
    run(main)
