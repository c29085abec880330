"""Fill the support bank with the final network, find the context prototypes, measure the shift of alignment."""

import copy
from functools import partial
from pathlib import Path

from cpal.data.views import pyramid_loader
from cpal.files import write_json
from cpal.method.diagnose import diagnoser
from cpal.method.fit_prototypes import Former, fill_bank, find_contexts, load_bank, newest, save_bank
from cpal.method.groups import Origins
from cpal.method.learner import ContextPrototypeLearner
from cpal.networks.weights import load_weights, read_meta, save_weights
from stages.job.classifier import trained_host
from stages.job.command import run_stage
from stages.job.launch import PROCESSES, RANK, meet
from stages.job.network import NetworkJob
from stages.job.paths import PROTOTYPE_METRICS, PROTOTYPES
from stages.job.progress import progress


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
    load = partial(load_bank, learner=learner, classes=dataset.classes)
    for number in range(1, passes + 1):
        done, former = folder / f"pass_{number}.safetensors", Former(learner)
        if job.continues(done, load):
            continue
        bar = progress(loader, total=len(records), what=f"fit prototypes {number}/{passes}")
        origins = fill_bank(classifier, bar)
        if PROCESSES > 1:
            origins = join_banks(job, learner, origins, folder)
        if job.first:
            find_contexts(learner)
            save_bank(done, learner, former, origins, dataset.classes)
        meet()
        load(done)
    if job.first:
        shown = {label for record in job.train for label in record.labels}
        for name in (dataset.classes[n - 1] for n in sorted(shown) if not learner.valid[n].any()):
            print(
                f"{name}: no prototype, since no image has a pixel that is sure of it; lower cpal.mask_threshold or "
                "cpal.min_probability"
            )
        figures = diagnoser(dataset, config.chosen_host, job.limit)(host, learner)
        write_json(folder / diagnosed.name, [figures])  # a row, as DVC plots it
    job.publish(folder, {f"pass_{passes}.safetensors": target, diagnosed.name: diagnosed}, keep=True)


def join_banks(job: NetworkJob, learner: ContextPrototypeLearner, origins: Origins, folder: Path) -> Origins:
    """Make the first process's bank that of all processes, as if it had seen all images in their order.

    Returns the images of all of them; the origins of another process stay as they are.
    """
    bank = learner.bank
    save_weights(folder / f"bank_{RANK}.safetensors", {"bank": bank}, {"origins": origins})
    meet()
    if not job.first:
        return origins
    bank.clear()
    part, joined = copy.deepcopy(bank), [list[str]() for _ in origins]
    for rank in range(PROCESSES):
        path = folder / f"bank_{rank}.safetensors"
        load_weights(path, {"bank": part}, {}, stage=job.name)
        bank.extend(part)
        for ids, more in zip(joined, read_meta(path, stage=job.name)["origins"], strict=True):
            ids += more
        path.unlink()
    return newest(joined, learner)


if __name__ == "__main__":
    run_stage(main)
