"""Labels for a host that learns from an earlier host's CAMs (amn); the others need none, and the folder stays empty.

A plain classifier is trained as IRN's host, and two CRFs over its CAMs say where a pixel's label is sure.
"""

from typing import Any

from cpal.data.dataset import read_dataset
from cpal.data.views import pyramid_loader
from cpal.hosts.build import HostSettings
from cpal.maps.crf import write_sure_labels
from cpal.method.make_cams import write_cams
from cpal.method.train_cam import train_classifier
from cpal.networks.state_dicts import given_files
from cpal.settings.config import load_config
from stages.job.device import DEFAULT_LOADERS, Device, Loaders, torch_device
from stages.job.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, progress, run
from stages.job.paths import DATASET, FIRST_ROUND, PARAMS
from stages.job.workdir import publish, work_folder


def main(
    params: Params = PARAMS,
    device: Device = "auto",
    loaders: Loaders = DEFAULT_LOADERS,
    workers: Workers = DEFAULT_WORKERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    first_round = destination(FIRST_ROUND, limit, out)
    dataset = read_dataset(DATASET)
    hosts = HostSettings("irn", config.classifier, config.amn, config.mctformer, config.clip_es)
    plain = config.cpal.model_copy(update={"self_weight": 0.0, "projection": 0})
    views: dict[str, Any] = {"scales": config.cam.scales, "flip": config.cam.flip, "long_side": config.cam.long_side}
    sure = (config.amn.sure_background, config.amn.sure_foreground)
    needed = config.host == "amn"
    settings = [config.seed, hosts.effective(), views, config.crf.model_dump(), sure, limit] if needed else []
    inputs = given_files(hosts.training.weights) if needed else []
    folder = work_folder("first_round", settings, inputs=inputs)
    for name in ("cams", "first_round"):
        (folder / name).mkdir(exist_ok=True)
    records = dataset.split("train", limit) if needed else []
    if records:
        chosen = torch_device(device)
        host, _, _ = train_classifier(
            dataset,
            hosts,
            plain,
            seed=config.seed,
            folder=folder,
            device=chosen,
            workers=loaders,
            diagnose=lambda *_: {},
            limit=limit,
        )
        host.to(chosen)
        left = [r for r in records if not (folder / "cams" / f"{r.image_id}.npz").exists()]
        loader = pyramid_loader(dataset, left, **views, workers=loaders)
        bar = progress(loader, total=len(left), what="first CAMs")
        write_cams(host, None, dataset, left, bar, folder / "cams", chosen)
    left = [r for r in records if not (folder / "first_round" / f"{r.image_id}.png").exists()]
    done = write_sure_labels(
        dataset,
        left,
        folder / "cams",
        folder / "first_round",
        source="cam",
        thresholds=sure,
        crf=config.crf,
        workers=workers,
    )
    for _ in progress(done, total=len(left), what="first labels"):
        pass
    publish(folder, {"first_round": first_round}, keep=True)


if __name__ == "__main__":
    run(main)
