"""Pseudo-masks as palette PNG; pixels of low confidence become void."""

from cpal.data.dataset import read_dataset
from cpal.data.masks import write_mask
from cpal.maps.refined import pseudo_mask, read_crf
from cpal.maps.walked import read_walk, walked_labels
from cpal.settings.config import load_config
from stages.job.options import Limit, Out, Params, destination, progress, run
from stages.job.paths import AFFINITY, DATASET, PARAMS, PSEUDO_MASKS
from stages.job.workdir import publish, work_folder


def main(params: Params = PARAMS, limit: Limit = None, out: Out = None) -> None:
    config = load_config(params)
    pseudo_masks = destination(PSEUDO_MASKS, limit, out)
    power = config.affinity.powers.index(config.pseudo_mask.walk_power)
    folder = work_folder("write_pseudo_masks", [config.pseudo_mask.model_dump(), config.affinity.method, power, limit])
    records = read_dataset(DATASET).split("train", limit)
    for record in progress(records, total=len(records), what="write pseudo-masks"):
        path = AFFINITY / f"{record.image_id}.npz"
        if config.affinity.method == "none":
            refined = read_crf(path, stage="propagate_affinity")
        else:
            refined = walked_labels(read_walk(path), power, config.pseudo_mask.background_threshold)
        mask = pseudo_mask(refined, min_confidence=config.pseudo_mask.min_confidence)
        write_mask(folder / "pseudo_masks" / f"{record.image_id}.png", mask)
    publish(folder, {"pseudo_masks": pseudo_masks})


if __name__ == "__main__":
    run(main)
