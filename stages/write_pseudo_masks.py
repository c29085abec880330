"""Write pseudo-masks as palette PNG; pixels of low confidence become void, corrected masks are used unchanged.

With pseudo_mask.unsure_background, the folder `training` below them has the masks that the segmentation model learns
from: background that may belong to an object is void there.
"""

from pathlib import Path

import numpy as np

from cpal.data.dataset import Record
from cpal.data.masks import write_mask
from cpal.maps.cams import read_maps
from cpal.maps.corrected import corrected_ids, read_corrected
from cpal.maps.refined import TRAINING, pseudo_mask, void_unsure
from cpal.maps.seeds import seed_rule, seed_scores
from cpal.maps.walked import read_walk_or_crf
from stages.job.command import run_stage
from stages.job.job import Job
from stages.job.paths import AFFINITY, CORRECTED_MASKS, PSEUDO_MASKS


def main(job: Job) -> None:
    settings, rule, maps = job.config.pseudo_mask, seed_rule(job.config.seeds), job.maps
    unsure = settings.unsure_background
    target = job.target(PSEUDO_MASKS)
    corrected = set[str]()
    if settings.corrected:
        corrected = corrected_ids(CORRECTED_MASKS, {record.image_id for record in job.dataset.split("train")})
    folder = job.work([settings.model_dump(), job.config.seeds.model_dump()])
    records = job.train

    def write(record: Record, mask: np.ndarray, within: str = "") -> None:
        write_mask(folder / "pseudo_masks" / within / f"{record.image_id}.png", mask, folder)

    def write_one(record: Record, _: Path) -> None:
        refined = read_walk_or_crf(
            AFFINITY, record, power=settings.walk_power, background_threshold=settings.background_threshold
        )
        mask = pseudo_mask(refined, min_confidence=settings.min_confidence)
        write(record, mask)
        if unsure is not None:
            scores = seed_scores(read_maps(maps, record, rule.maps), rule)
            write(record, void_unsure(mask, scores[1:], unsure), TRAINING)

    parts = ("",) if unsure is None else ("", TRAINING)
    for record in records:
        if record.image_id in corrected:
            for within in parts:
                write(record, read_corrected(CORRECTED_MASKS, record), within)
    job.each("write pseudo-masks", write_one, [record for record in records if record.image_id not in corrected])
    job.publish_images(folder, "pseudo_masks", target, records, ".png", within=parts)
    if corrected:
        print(f"{target}: {len(corrected & {record.image_id for record in records})} of {len(records)} masks corrected")


if __name__ == "__main__":
    run_stage(main)
