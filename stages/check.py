"""Report errors and oddities of the data set before hours of work; writes nothing, except health.json with --out."""

from dataclasses import asdict
from pathlib import Path

import typer

from cpal.errors import UserError
from cpal.files import write_json
from cpal.maps.corrected import corrected_ids
from cpal.sources.dispatch import list_images
from cpal.sources.health.health import examine, health_text, look_at_all
from cpal.sources.voc2012 import lacks_voc2012
from stages.job.command import run_stage
from stages.job.job import Job
from stages.job.paths import CORRECTED_MASKS, DATASET, check_root, unwatched
from stages.job.profile_findings import unknown_backbones
from stages.job.progress import progress


def main(job: Job) -> None:
    """Exit with code 2 if there are errors, as a corrected mask that belongs to no training image."""
    config = job.config
    if unknown := unknown_backbones(config):
        raise UserError("\n  - ".join(unknown))
    if config.data.source == "toy":
        print("data.source: toy: prepare draws this data set; there is nothing to check")
        return
    root = Path(config.data.root)
    if config.data.source == "voc2012" and config.voc2012.download and lacks_voc2012(root):
        print(f"{root}: prepare will download VOC 2012 into it, or what it lacks of it; check again after that")
        return
    check_root(config.data, DATASET)
    for line in unwatched(config.data):
        print(f"note: {line}")
    listing = list_images(config.data, seed=config.seed, limit=job.limit)
    facts = look_at_all(listing, workers=job.workers, progress=progress)
    health = examine(listing, facts, config, complete=job.limit is None)
    print(health_text(health))
    if job.out is not None:
        write_json(job.out / "health.json", asdict(health))
    if config.pseudo_mask.corrected and job.limit is None:
        corrected_ids(CORRECTED_MASKS, {image.image_id for image in listing.images if image.split == "train"})
    if health.count("error"):
        raise typer.Exit(2)


if __name__ == "__main__":
    run_stage(main)
