"""IRN's edges and displacements, learned from what two CRFs over the seeds agree on; affinity.method none has none."""

from pathlib import Path

from cpal.affinity.network import train_affinity, weights_meta
from cpal.data.dataset import read_dataset
from cpal.files import whole_file
from cpal.maps.crf import write_sure_labels
from cpal.networks.state_dicts import given_files
from cpal.networks.weights import save_weights
from cpal.settings.config import load_config
from stages.job.device import DEFAULT_LOADERS, Device, Loaders, torch_device
from stages.job.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, progress, run
from stages.job.paths import AFFINITY_NET, DATASET, PARAMS
from stages.job.workdir import publish, work_folder

WALK_ONLY = {"start", "background", "powers", "walk_radius", "walk_steps", "beta"}


def main(
    params: Params = PARAMS,
    device: Device = "auto",
    loaders: Loaders = DEFAULT_LOADERS,
    workers: Workers = DEFAULT_WORKERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    weights = destination(AFFINITY_NET, limit, out)
    dataset = read_dataset(DATASET)
    maps = Path(config.cam.maps)
    if config.affinity.method == "none":
        with whole_file(weights) as temporary:
            save_weights(temporary, {}, {"method": "none"})
        return
    learned = [config.affinity.model_dump(exclude=WALK_ONLY), config.crf.model_dump(), config.cam.source]
    folder = work_folder(
        "train_affinity",
        [config.seed, *learned, limit],
        values={"cam.maps": config.cam.maps},
        inputs=given_files(config.affinity.weights),
    )
    records = dataset.split("train", limit)
    left = [r for r in records if not (folder / "labels" / f"{r.image_id}.png").exists()]
    done = write_sure_labels(
        dataset,
        left,
        maps,
        folder / "labels",
        source=config.cam.source,
        thresholds=(config.affinity.sure_background, config.affinity.sure_foreground),
        crf=config.crf,
        workers=workers,
    )
    for _ in progress(done, total=len(left), what="sure labels"):
        pass
    network = train_affinity(
        dataset,
        folder / "labels",
        config.affinity,
        seed=config.seed,
        folder=folder,
        device=torch_device(device),
        workers=loaders,
        limit=limit,
    )
    save_weights(folder / weights.name, {"network": network}, weights_meta(config.affinity))
    publish(folder, {weights.name: weights}, keep=True)


if __name__ == "__main__":
    run(main)
