"""Fill the support bank with the final network, find the context prototypes, measure the shift, teach the taught CAM.

The network's labels of the validation images are scored as well: mAP and F1 need no mask.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from torch import nn

from cpal.data.dataset import Record, read_dataset
from cpal.data.views import Views, pyramid_loader
from cpal.evaluation.image_labels import score_labels
from cpal.files import whole_file, write_json
from cpal.hosts.build import HostSettings
from cpal.hosts.outputs import classify
from cpal.method.diagnose import diagnoser
from cpal.method.fit_prototypes import fit_prototypes
from cpal.method.teach_cam import fit_taught_cam, some_of_each_class
from cpal.method.train_cam import load_classifier
from cpal.networks.weights import save_weights
from cpal.settings.config import load_config
from stages.job.device import DEFAULT_LOADERS, Device, Loaders, torch_device
from stages.job.feature_cache import remembering
from stages.job.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, progress, run
from stages.job.paths import CLASSIFIER, DATASET, LABEL_METRICS, LABEL_PRECISION, PARAMS, PROTOTYPE_METRICS, PROTOTYPES


def main(
    params: Params = PARAMS,
    device: Device = "auto",
    loaders: Loaders = DEFAULT_LOADERS,
    workers: Workers = DEFAULT_WORKERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    prototypes, diagnosed, labels, precision = (
        destination(path, limit, out) for path in (PROTOTYPES, PROTOTYPE_METRICS, LABEL_METRICS, LABEL_PRECISION)
    )
    dataset = read_dataset(DATASET)
    records = dataset.split("train", limit)
    hosts = HostSettings(config.host, config.classifier, config.amn, config.mctformer, config.clip_es)
    host, learner = load_classifier(
        CLASSIFIER, dataset, hosts, config.cpal, seed=config.seed, device=torch_device(device)
    )
    seen = remembering(host, CLASSIFIER, config.cpal.features)

    def passes(records: list[Record], scales: tuple[float, ...], number: int, what: str) -> Iterator[Iterable[Views]]:
        """Passes over the records' views, each with a progress bar."""
        loader = pyramid_loader(
            dataset, records, scales=scales, flip=config.cam.flip, long_side=config.cam.long_side, workers=loaders
        )
        return (progress(loader, total=len(records), what=f"{what} {n + 1}/{number}") for n in range(number))

    bars = passes(records, (1.0,), 1 + config.cpal.refinements, "fit prototypes")
    fit_prototypes(seen, learner, dataset, records, bars)
    write_json(diagnosed, diagnoser(dataset, hosts.training, limit)(host, learner))
    val = dataset.split("val", limit)
    truth = np.array([record.multi_hot(dataset.num_foreground) for record in val])
    (bar,) = passes(val, (1.0,), 1, "classify")
    probability = classify(host, dataset.num_foreground, bar)
    metrics, rows = score_labels(truth, probability, dataset.classes, dataset.splits["val"])
    write_json(labels, metrics)
    write_json(precision, rows)
    modules: dict[str, nn.Module] = {"learner": learner}
    if config.taught_cam.decay:
        records = some_of_each_class(records, config.taught_cam.images, seed=config.seed)
        bars = passes(records, config.cam.scales, 1 + config.taught_cam.crf_rounds, "teach the CAM")
        modules["taught"] = fit_taught_cam(
            seen,
            learner,
            dataset,
            records,
            bars,
            scales=config.cam.scales,
            settings=config.taught_cam,
            crf=config.crf,
            seed=config.seed,
            workers=max(1, workers),
        )
    with whole_file(prototypes) as temporary:
        save_weights(temporary, modules, {"classes": list(dataset.classes)})


if __name__ == "__main__":
    run(main)
