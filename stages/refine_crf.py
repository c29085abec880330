"""DenseCRF of every training image's seed: label and confidence of each pixel."""

from pathlib import Path

from cpal.data.dataset import Record, read_image
from cpal.files import whole_file
from cpal.maps.cams import read_maps
from cpal.maps.crf import refine
from cpal.maps.refined import write_crf
from cpal.maps.seeds import seed_rule, seed_scores
from stages.job.job import Job, run_stage
from stages.job.paths import CRF


def main(job: Job) -> None:
    settings, rule, maps = job.config.crf, seed_rule(job.config.seeds), job.maps
    target = job.target(CRF)
    folder = job.work([settings.model_dump(), job.config.seeds.model_dump()])
    done = folder / "crf"

    def refine_one(record: Record, image: Path) -> None:
        content = read_maps(maps, record, rule.maps)
        refined = refine(read_image(image), seed_scores(content, rule), content.classes, settings)
        with whole_file(done / f"{record.image_id}.npz") as temporary:
            write_crf(temporary, refined)

    job.each("refine CRF", refine_one, job.left(job.train, done))
    job.publish(folder, {"crf": target})


if __name__ == "__main__":
    run_stage(main)
