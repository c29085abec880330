"""Run a DenseCRF on the seed of every training image: label and confidence of each pixel."""

from functools import partial
from pathlib import Path

from cpal.data.dataset import Record
from cpal.data.images import read_record_image
from cpal.files import whole_file
from cpal.maps.cams import read_maps
from cpal.maps.crf import refine
from cpal.maps.refined import read_crf, write_crf
from cpal.maps.seeds import seed_rule, seed_scores
from stages.job.command import run_stage
from stages.job.job import Job
from stages.job.paths import CRF


def main(job: Job) -> None:
    settings, rule, maps = job.config.crf, seed_rule(job.config.seeds), job.maps
    target = job.target(CRF)
    folder = job.work([settings.model_dump(), job.config.seeds.model_dump()])
    done = folder / "crf"

    def refine_one(record: Record, image: Path) -> None:
        content = read_maps(maps, record, rule.maps)
        refined = refine(read_record_image(image, record), seed_scores(content, rule), content.classes, settings)
        with whole_file(done / f"{record.image_id}.npz", folder) as temporary:
            write_crf(temporary, refined)

    job.each("refine CRF", refine_one, job.left(job.train, done, partial(read_crf, done)))
    job.publish_images(folder, "crf", target, job.train, ".npz")


if __name__ == "__main__":
    run_stage(main)
