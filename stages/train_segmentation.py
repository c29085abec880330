"""Train DeepLabV2 on the pseudo-masks, never on ground truth."""

from mmengine.dist import is_main_process

from cpal.config import load_config
from cpal.dataset import read_dataset
from cpal.segmentation import describe, train_segmentation, typical_side
from cpal.state_dicts import given_files
from cpal.weights import save_weights
from stages.device import DEFAULT_LOADERS, Device, Loaders, training_device
from stages.options import Limit, Out, Params, destination, run
from stages.paths import DATASET, PARAMS, PSEUDO_MASKS, SEGMENTATION, SEGMENTATION_CURVES
from stages.workdir import publish, work_folder


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
    meta = describe(config.segmentation, dataset.classes) | {"long_side": typical_side(dataset)}
    save_weights(folder / weights.name, {"segmentor": segmentor}, meta)
    publish(folder, {weights.name: weights, "curves": curves}, keep=True)


if __name__ == "__main__":
    run(main)
