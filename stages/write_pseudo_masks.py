"""Write pseudo-masks as palette PNG; pixels of low confidence become void, corrected masks are used unchanged."""

from pathlib import Path

import numpy as np

from cpal.data.dataset import Record
from cpal.data.masks import write_mask
from cpal.maps.corrected import corrected_ids, read_corrected
from cpal.maps.refined import pseudo_mask
from cpal.maps.walked import read_walk_or_crf
from stages.job.job import Job, run_stage
from stages.job.paths import AFFINITY, CORRECTED_MASKS, PSEUDO_MASKS


def main(job: Job) -> None:
    settings = job.config.pseudo_mask
    target = job.target(PSEUDO_MASKS)
    corrected = set[str]()
    if settings.corrected:
        corrected = corrected_ids(CORRECTED_MASKS, {record.image_id for record in job.dataset.split("train")})
    folder = job.work(settings.model_dump())
    records = job.train

    def write(record: Record, mask: np.ndarray) -> None:
        write_mask(folder / "pseudo_masks" / f"{record.image_id}.png", mask, folder)

    def write_one(record: Record, _: Path) -> None:
        refined = read_walk_or_crf(
            AFFINITY, record, power=settings.walk_power, background_threshold=settings.background_threshold
        )
        write(record, pseudo_mask(refined, min_confidence=settings.min_confidence))

    for record in records:
        if record.image_id in corrected:
            write(record, read_corrected(CORRECTED_MASKS, record))
    job.each("write pseudo-masks", write_one, [record for record in records if record.image_id not in corrected])
    job.publish_images(folder, "pseudo_masks", target, records, ".png")
    if corrected:
        print(f"{target}: {len(corrected & {record.image_id for record in records})} of {len(records)} masks corrected")


if __name__ == "__main__":
    run_stage(main)
