"""Train the segmentation model (DeepLab) on the pseudo-masks, never on ground truth."""

from cpal.data.masks import LabelMaps
from cpal.maps.refined import TRAINING
from stages.job.command import run_stage
from stages.job.network import NetworkJob
from stages.job.paths import PSEUDO_MASKS, SEGMENTATION, SEGMENTATION_CURVES


def main(job: NetworkJob) -> None:
    from cpal.networks.state_dicts import given_files  # takes seconds, which --help need not wait for
    from cpal.networks.weights import save_weights
    from cpal.segmentation.deeplab import train_segmentation, typical_side, weights_meta
    from cpal.training.loop import Run

    config, dataset, settings = job.config, job.dataset, job.config.segmentation
    weights, curves = job.target(SEGMENTATION), job.target(SEGMENTATION_CURVES)
    folder = job.work([config.seed, settings.model_dump()], inputs=given_files(settings.weights))
    run = Run(config.seed, folder, job.device, job.loaders)
    masks = PSEUDO_MASKS if config.pseudo_mask.unsure_background is None else PSEUDO_MASKS / TRAINING
    segmentor = train_segmentation(dataset, job.train, LabelMaps(masks, "write_pseudo_masks"), settings, run)
    if job.first:
        meta = weights_meta(settings, dataset.classes) | {"long_side": typical_side(dataset)}
        save_weights(folder / weights.name, {"segmentor": segmentor}, meta)
    job.publish(folder, {weights.name: weights, "curves": curves}, keep=True)


if __name__ == "__main__":
    run_stage(main)
