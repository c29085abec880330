"""Fill the support bank with the final network, find the context prototypes, measure the shift of alignment."""

from functools import partial

from cpal.data.views import pyramid_loader
from cpal.files import write_json
from cpal.method.diagnose import diagnoser
from cpal.method.fit_prototypes import fit_prototypes
from cpal.networks.weights import load_weights, save_weights
from stages.job.classifier import trained_host
from stages.job.job import NetworkJob, run_stage
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
    records, passes = job.train, 1 + config.cpal.refinements
    loader = pyramid_loader(
        dataset, records, scales=(1.0,), flip=config.cam.flip, long_side=config.cam.long_side, workers=job.loaders
    )
    meta = {"classes": list(dataset.classes)}
    for number in range(1, passes + 1):
        done = folder / f"pass_{number}.safetensors"
        if job.continues(done, partial(load_weights, modules={"learner": learner}, meta=meta, stage=job.name)):
            continue
        fit_prototypes(classifier, progress(loader, total=len(records), what=f"fit prototypes {number}/{passes}"))
        save_weights(done, {"learner": learner}, meta)
    figures = diagnoser(dataset, config.chosen_host, job.limit)(host, learner)
    write_json(folder / diagnosed.name, [figures])  # a row, as DVC plots it
    job.publish(folder, {f"pass_{passes}.safetensors": target, diagnosed.name: diagnosed}, keep=True)


if __name__ == "__main__":
    run_stage(main)
