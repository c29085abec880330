"""Train the classifier on the image-level labels, with CPAL's self-supervised loss."""

from cpal.data.masks import LabelMaps
from cpal.files import write_json
from stages.job.command import run_stage
from stages.job.network import NetworkJob
from stages.job.paths import CLASSIFIER, CLASSIFIER_CURVES, FIRST_ROUND


def main(job: NetworkJob) -> None:
    from cpal.method.classifier import weights_meta  # takes seconds, which --help need not wait for
    from cpal.method.diagnose import diagnoser
    from cpal.method.train_cam import train_classifier
    from cpal.networks.state_dicts import given_files
    from cpal.networks.weights import save_weights
    from cpal.training.loop import Run

    config, settings = job.config, job.config.chosen_host
    weights, curves = job.target(CLASSIFIER), job.target(CLASSIFIER_CURVES)
    # Only settings that affect the training: rows I to IV of Table 1 differ in the prototypes and share a training.
    learned = config.cpal.model_dump(exclude={"contrast"}) if config.cpal.self_weight > 0 else None
    folder = job.work([config.seed, settings.model_dump(), learned], inputs=given_files(settings.weights))
    host, learner, diagnostics = train_classifier(
        job.dataset,
        job.train,
        settings,
        config.cpal,
        Run(config.seed, folder, job.device, job.loaders),
        masks=LabelMaps(FIRST_ROUND, "first_round") if settings.first_round else None,
        diagnose=diagnoser(job.dataset, settings, job.limit),
    )
    if job.first:
        (folder / "curves" / "plots" / "metrics").mkdir(parents=True, exist_ok=True)  # empty where nothing was trained
        write_json(folder / "curves" / "diagnostics.json", diagnostics, folder)
        modules = {"host": host, "projections": learner.projections}
        save_weights(folder / weights.name, modules, weights_meta(settings, job.dataset.classes))
    job.publish(folder, {weights.name: weights, "curves": curves}, keep=True)


if __name__ == "__main__":
    run_stage(main)
