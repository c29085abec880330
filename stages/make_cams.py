"""Multi-scale CAM, PACAM and taught CAM of every training image."""

from typing import Any

from torch import nn

from cpal.data.dataset import read_dataset
from cpal.data.views import pyramid_loader
from cpal.hosts.build import HostSettings
from cpal.method.make_cams import write_cams
from cpal.method.taught_cam import TaughtCam
from cpal.method.train_cam import load_classifier
from cpal.networks.weights import load_weights
from cpal.settings.config import load_config
from stages.job.device import DEFAULT_LOADERS, Device, Loaders, torch_device
from stages.job.feature_cache import remembering
from stages.job.options import Limit, Out, Params, destination, progress, run
from stages.job.paths import CAMS, CLASSIFIER, DATASET, PARAMS, PROTOTYPES
from stages.job.workdir import publish, work_folder


def main(
    params: Params = PARAMS,
    device: Device = "auto",
    loaders: Loaders = DEFAULT_LOADERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    cams = destination(CAMS, limit, out)
    dataset = read_dataset(DATASET)
    hosts = HostSettings(config.host, config.classifier, config.amn, config.mctformer, config.clip_es)
    host, learner = load_classifier(
        CLASSIFIER, dataset, hosts, config.cpal, seed=config.seed, device=torch_device(device)
    )
    seen = remembering(host, CLASSIFIER, config.cpal.features)
    modules: dict[str, nn.Module] = {"learner": learner}
    taught = None
    if config.taught_cam.decay:
        taught = TaughtCam(dataset.num_classes, learner.shift.shape[1]).to(learner.shift.device)
        modules["taught"] = taught
    load_weights(PROTOTYPES, modules, {"classes": list(dataset.classes)}, stage="fit_prototypes")
    views: dict[str, Any] = {
        "scales": config.cam.scales,
        "flip": config.cam.flip,
        "long_side": config.cam.long_side,
    }
    folder = work_folder("make_cams", [hosts.effective(), config.cpal.model_dump(), views, limit])
    (folder / "cams").mkdir(exist_ok=True)
    records = [r for r in dataset.split("train", limit) if not (folder / "cams" / f"{r.image_id}.npz").exists()]
    loader = pyramid_loader(dataset, records, **views, workers=loaders)
    bar = progress(loader, total=len(records), what="make CAMs")
    write_cams(seen, learner, dataset, records, bar, folder / "cams", learner.shift.device, taught=taught)
    publish(folder, {"cams": cams})


if __name__ == "__main__":
    run(main)
