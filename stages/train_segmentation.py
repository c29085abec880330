"""Train DeepLabV2 on the pseudo-masks, never on ground truth."""

from mmengine.dist import is_main_process

from cpal.data.dataset import read_dataset
from cpal.networks.state_dicts import given_files
from cpal.networks.weights import save_weights
from cpal.segmentation.deeplab import train_segmentation, typical_side, weights_meta
from cpal.settings.config import load_config
from stages.job.device import DEFAULT_LOADERS, Device, Loaders, training_device
from stages.job.options import Limit, Out, Params, destination, run
from stages.job.paths import DATASET, PARAMS, PSEUDO_MASKS, SEGMENTATION, SEGMENTATION_CURVES
from stages.job.workdir import publish, work_folder


def main(
    params: Params = PARAMS,
    device: Device = "auto",
    loaders: Loaders = DEFAULT_LOADERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    weights, curves = destination(SEGMENTATION, limit, out), destination(SEGMENTATION_CURVES, limit, out)
    dataset = read_dataset(DATASET)
    learned = config.segmentation.model_dump(exclude={"test_scales", "test_flip"})
    inputs = given_files(config.segmentation.weights)
    folder = work_folder("train_segmentation", [config.seed, learned, limit], inputs=inputs)
    segmentor = train_segmentation(
        dataset,
        PSEUDO_MASKS,
        config.segmentation,
        seed=config.seed,
        folder=folder,
        device=training_device(device),
        workers=loaders,
        limit=limit,
    )
    if not is_main_process():
        return
    meta = weights_meta(config.segmentation, dataset.classes) | {"long_side": typical_side(dataset)}
    save_weights(folder / weights.name, {"segmentor": segmentor}, meta)
    publish(folder, {weights.name: weights, "curves": curves}, keep=True)


if __name__ == "__main__":
    run(main)
