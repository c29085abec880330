"""Fill the support bank with the final network, find the context prototypes, measure the shift of alignment."""

import copy
from functools import partial
from pathlib import Path

from cpal.data.views import pyramid_loader
from cpal.files import write_json
from cpal.method.diagnose import diagnoser
from cpal.method.fit_prototypes import fill_bank, find_contexts
from cpal.method.prototypes import SupportBank
from cpal.networks.weights import load_weights, save_weights
from stages.job.classifier import trained_host
from stages.job.job import NetworkJob, run_stage
from stages.job.launch import PROCESSES, RANK, meet
from stages.job.options import progress
from stages.job.paths import PROTOTYPE_METRICS, PROTOTYPES


def main(job: NetworkJob) -> None:
    """A killed run continues with the pass over the images that it was in."""
    config, dataset = job.config, job.dataset
    target, diagnosed = job.target(PROTOTYPES), job.target(PROTOTYPE_METRICS)
    host, classifier = trained_host(job)
    learner = classifier.learner
    assert learner is not None
    settings = [config.seed, config.chosen_host.model_dump(), config.cpal.model_dump()]
    folder = job.work([settings, config.cam.flip, config.cam.long_side])
    records, passes = job.share(job.train), 1 + config.cpal.refinements
    loader = pyramid_loader(
        dataset, records, scales=(1.0,), flip=config.cam.flip, long_side=config.cam.long_side, workers=job.loaders
    )
    meta = {"classes": list(dataset.classes)}
    for number in range(1, passes + 1):
        done = folder / f"pass_{number}.safetensors"
        load = partial(load_weights, modules={"learner": learner}, meta=meta, stage=job.name)
        if job.continues(done, load):
            continue
        fill_bank(classifier, progress(loader, total=len(records), what=f"fit prototypes {number}/{passes}"))
        if PROCESSES > 1:
            join_banks(job, learner.bank, folder)
        if job.first:
            find_contexts(learner)
            save_weights(done, {"learner": learner}, meta)
        meet()
        load(done)
    if job.first:
        figures = diagnoser(dataset, config.chosen_host, job.limit)(host, learner)
        write_json(folder / diagnosed.name, [figures])  # a row, as DVC plots it
    job.publish(folder, {f"pass_{passes}.safetensors": target, diagnosed.name: diagnosed}, keep=True)


def join_banks(job: NetworkJob, bank: SupportBank, folder: Path) -> None:
    """Make the first process's bank that of all processes, as if it had seen all images in their order."""
    save_weights(folder / f"bank_{RANK}.safetensors", {"bank": bank}, {})
    meet()
    if job.first:
        bank.clear()
        part = copy.deepcopy(bank)
        for rank in range(PROCESSES):
            path = folder / f"bank_{rank}.safetensors"
            load_weights(path, {"bank": part}, {}, stage=job.name)
            bank.extend(part)
            path.unlink()


if __name__ == "__main__":
    run_stage(main)
