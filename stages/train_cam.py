"""Train the classifier, with CPAL's self-supervised loss, on the image-level labels."""

from mmengine.dist import is_main_process

from cpal.data.dataset import read_dataset
from cpal.files import write_json
from cpal.hosts.build import HostSettings
from cpal.method.diagnose import diagnoser
from cpal.method.train_cam import train_classifier, weights_meta
from cpal.networks.state_dicts import given_files
from cpal.networks.weights import save_weights
from cpal.settings.config import load_config
from stages.job.device import DEFAULT_LOADERS, Device, Loaders, training_device
from stages.job.options import Limit, Out, Params, destination, run
from stages.job.paths import CLASSIFIER, CLASSIFIER_CURVES, DATASET, FIRST_ROUND, PARAMS
from stages.job.workdir import publish, work_folder


def main(
    params: Params = PARAMS,
    device: Device = "auto",
    loaders: Loaders = DEFAULT_LOADERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    weights, curves = destination(CLASSIFIER, limit, out), destination(CLASSIFIER_CURVES, limit, out)
    dataset = read_dataset(DATASET)
    hosts = HostSettings(config.host, config.classifier, config.amn, config.mctformer, config.clip_es)
    # Only what takes effect: rows I to IV of Table 1 share one training, whatever the prototypes' settings.
    learned = config.cpal.model_dump(exclude={"contrast"}) if config.cpal.self_weight > 0 else None
    settings = [config.seed, hosts.effective(), learned, limit]
    folder = work_folder("train_cam", settings, inputs=given_files(hosts.training.weights))
    host, learner, diagnostics = train_classifier(
        dataset,
        hosts,
        config.cpal,
        seed=config.seed,
        folder=folder,
        device=training_device(device),
        workers=loaders,
        masks=FIRST_ROUND if config.host == "amn" else None,
        diagnose=diagnoser(dataset, hosts.training, limit),
        limit=limit,
    )
    if not is_main_process():
        return
    curves_done = folder / "curves" / "plots" / "metrics"
    if not curves_done.exists():  # nothing was trained
        curves_done.mkdir(parents=True)
        write_json(folder / "curves" / "metrics.json", {})
    write_json(folder / "curves" / "diagnostics.json", diagnostics)
    save_weights(
        folder / weights.name, {"host": host, "projections": learner.projections}, weights_meta(hosts, dataset.classes)
    )
    publish(folder, {weights.name: weights, "curves": curves}, keep=True)


if __name__ == "__main__":
    run(main)
