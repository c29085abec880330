"""Label maps of the validation images, and of the training images that are scored (of all where none is)."""

from cpal.config import load_config
from cpal.dataset import read_dataset
from cpal.masks import write_mask
from cpal.pyramid import pyramid_loader
from cpal.segmentation import build_segmentor, describe, predict
from cpal.weights import load_weights
from stages.device import DEFAULT_LOADERS, Device, Loaders, torch_device
from stages.options import Limit, Out, Params, destination, progress, run
from stages.paths import DATASET, PARAMS, PREDICTIONS, SEGMENTATION
from stages.workdir import publish, work_folder


def main(
    params: Params = PARAMS,
    device: Device = "auto",
    workers: Loaders = DEFAULT_LOADERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    predictions = destination(PREDICTIONS, limit, out)
    dataset = read_dataset(DATASET)
    segmentor = build_segmentor(config.segmentation, dataset.num_classes, weights="none")
    meta = describe(config.segmentation, dataset.classes)
    load_weights(SEGMENTATION, {"segmentor": segmentor}, meta, stage="train_segmentation")
    segmentor.to(torch_device(device))
    folder = work_folder("predict_segmentation", [config.segmentation.model_dump(), limit])
    (folder / "predictions").mkdir(exist_ok=True)
    wanted = [*dataset.split("val", limit), *dataset.predicted(limit)]
    records = [r for r in wanted if not (folder / "predictions" / f"{r.image_id}.png").exists()]
    scales, flip = config.segmentation.test_scales, config.segmentation.test_flip
    loader = pyramid_loader(dataset, records, scales=scales, flip=flip, long_side=None, workers=workers)
    for index, size, views in progress(loader, total=len(records), what="predict"):
        labels = predict(segmentor, size, views)
        write_mask(folder / "predictions" / f"{records[index].image_id}.png", labels)
    publish(folder, {"predictions": predictions})


if __name__ == "__main__":
    run(main)
