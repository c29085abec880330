"""Pseudo-masks as palette PNG; pixels of low confidence become void."""

from cpal.config import load_config
from cpal.crf import read_crf
from cpal.dataset import read_dataset
from cpal.masks import write_mask
from cpal.propagation import read_walk, walked_labels
from cpal.pseudo_masks import pseudo_mask
from stages.options import Limit, Out, Params, destination, progress, run
from stages.paths import AFFINITY, DATASET, PARAMS, PSEUDO_MASKS
from stages.workdir import publish, work_folder


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
