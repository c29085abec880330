"""Teach a CAM by the pixels that PACAM is sure of, then again by what a DenseCRF of its own maps is sure of.

With taught_cam.decay 0 there is no taught CAM, and the file holds none.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from cpal.data.views import pyramid_loader
from cpal.method.taught_cam import TaughtCam
from cpal.method.teach_cam import Cells, collect_cells, learn_cells, plan_lessons, some_of_each_class
from cpal.networks.weights import load_weights, read_tensors, save_weights, write_tensors
from stages.job.classifier import fitted_classifier
from stages.job.command import run_stage
from stages.job.launch import PROCESSES, RANK, meet
from stages.job.network import NetworkJob
from stages.job.paths import TAUGHT_CAM
from stages.job.progress import progress


def main(job: NetworkJob) -> None:
    """A killed run continues with the lesson that it was in."""
    config, dataset, settings = job.config, job.dataset, job.config.taught_cam
    target = job.target(TAUGHT_CAM)
    folder = job.work(
        [
            config.seed,
            *(section.model_dump() for section in (config.chosen_host, config.cpal, settings, config.cam, config.crf)),
        ]
    )
    meta = {"classes": list(dataset.classes)}
    lessons = 1 + settings.crf_rounds if settings.decay else 0
    if job.first:
        save_weights(folder / "lesson_0.safetensors", {}, meta)
    if lessons:
        classifier = fitted_classifier(job, taught=False)
        assert classifier.learner is not None
        channels = classifier.learner.shift.shape[1]
        records = some_of_each_class(job.train, settings.images, seed=config.seed)
        own = job.share(records)
        lesson = plan_lessons(
            settings,
            config.crf,
            config.cam.scales,
            images=len(records),
            own=len(own),
            seed=config.seed,
            workers=job.workers,
        )
        loader = pyramid_loader(
            dataset,
            own,
            scales=config.cam.scales,
            flip=config.cam.flip,
            long_side=config.cam.long_side,
            workers=job.loaders,
        )
    for number in range(1, lessons + 1):
        done = folder / f"lesson_{number}.safetensors"
        taught = TaughtCam(dataset.num_classes, channels).to(job.device)
        if not job.continues(done, partial(load_weights, modules={"taught": taught}, meta=meta, stage=job.name)):
            bar = progress(loader, total=len(own), what=f"teach the CAM {number}/{lessons}")
            cells = collect_cells(classifier, bar, lesson)
            if PROCESSES > 1:
                cells = join_cells(job, cells, folder)
            if job.first:
                save_weights(done, {"taught": learn_cells(cells, settings)}, meta)
            meet()
            load_weights(done, {"taught": taught}, meta, stage=job.name)
        classifier = replace(classifier, taught=taught)
    job.publish(folder, {f"lesson_{lessons}.safetensors": target}, keep=True)


def join_cells(job: NetworkJob, cells: Cells, folder: Path) -> Cells:
    """The cells of all processes in the first one, in the order of the images; elsewhere the cells as they are."""
    write_tensors(folder / f"cells_{RANK}.safetensors", {name: x.cpu() for name, x in cells._asdict().items()}, None)
    meet()
    if not job.first:
        return cells
    files = [folder / f"cells_{rank}.safetensors" for rank in range(PROCESSES)]
    parts = [read_tensors(path, stage=job.name)[1] for path in files]
    for path in files:
        path.unlink()
    z, labels, images = ([part[name].to(job.device) for part in parts] for name in Cells._fields)
    return Cells(torch.cat(z), torch.cat(labels), torch.stack(images).sum(dim=0))


if __name__ == "__main__":
    run_stage(main)
