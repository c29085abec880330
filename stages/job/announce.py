"""The first line that a stage prints: its number in the pipeline, its name, and how many images it processes."""

from cpal.data.dataset import Record
from stages.job.job import Job
from stages.job.paths import DATASET, PIPELINE
from stages.job.pipeline import read_pipeline


def pipeline() -> list[str]:
    """The names of the stages in the order of dvc.yaml; empty if there is no dvc.yaml."""
    return list(read_pipeline()) if PIPELINE.exists() else []


def first_line(job: Job, order: list[str]) -> str:
    """The line, such as `stage 5 of 18: teach_cam, 420 images`. Raises UserError if the data set is damaged."""
    config = job.config
    idle = {
        "first_round": not config.chosen_host.first_round,
        "teach_cam": not config.taught_cam.decay,
        "train_affinity": config.affinity.method == "none",
    }
    if job.name == "prepare" or not DATASET.exists():
        work = f"data.source {config.data.source}"
    else:
        work = "nothing to do with these settings" if idle.get(job.name) else f"{len(images(job))} images"
    return f"stage {order.index(job.name) + 1} of {len(order)}: {job.name}, {work}"


def images(job: Job) -> list[Record]:
    """The images that a stage processes."""
    if job.name == "evaluate_labels":
        return job.dataset.split("val", job.limit)
    if job.name in ("predict_segmentation", "evaluate_segmentation"):
        return job.predicted
    return list(job.dataset.records) if job.name == "report" else job.train
