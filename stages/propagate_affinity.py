"""IRN's random walk from the seeds or from the CRF's labels; with affinity.method none the CRF's result passes through.

The walk's end is kept as scores, so that powers and background threshold are chosen in write_pseudo_masks in seconds.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from joblib import Parallel, delayed
from torch import Tensor

from cpal.affinity.network import edges, load_affinity_net
from cpal.affinity.walk import start_maps, walk_maps
from cpal.data.dataset import Record, read_dataset
from cpal.data.views import pyramid_loader
from cpal.files import whole_file
from cpal.maps.cams import map_size, read_maps
from cpal.maps.refined import read_crf
from cpal.maps.seeds import SeedRule
from cpal.maps.walked import write_walk
from cpal.settings.config import load_config
from stages.job.device import DEFAULT_LOADERS, Device, Loaders, torch_device
from stages.job.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, progress, run
from stages.job.paths import AFFINITY, AFFINITY_NET, CRF, DATASET, PARAMS
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
    affinity = destination(AFFINITY, limit, out)
    dataset = read_dataset(DATASET)
    rule = SeedRule(
        config.cam.source, config.cam.cam_threshold, config.cam.pacam_threshold, config.cam.taught_threshold
    )
    maps, settings = Path(config.cam.maps), config.affinity
    folder = work_folder(
        "propagate_affinity",
        [settings.model_dump(), vars(rule), limit],
        values={"cam.maps": config.cam.maps},
    )
    done = folder / "affinity"
    done.mkdir(exist_ok=True)
    left = [r for r in dataset.split("train", limit) if not (done / f"{r.image_id}.npz").exists()]
    if settings.method == "none":
        for record in left:
            source = CRF / f"{record.image_id}.npz"
            read_crf(source)  # a damaged one is not passed on
            with whole_file(done / source.name) as temporary:
                shutil.copyfile(source, temporary)
        publish(folder, {"affinity": affinity})
        return
    chosen = torch_device(device)
    network = load_affinity_net(AFFINITY_NET, settings, device=chosen)
    on_gpu = chosen.type == "cuda"  # Apple's has no double precision, in which the walk is

    def edge_maps() -> Iterator[tuple[Record, Tensor]]:
        loader = pyramid_loader(dataset, left, scales=(1.0,), flip=False, long_side=None, workers=loaders)
        for index, size, views in loader:
            edge = edges(network, views[0][0], map_size(size))
            yield left[index], edge if on_gpu else edge.cpu()

    def walk_one(record: Record, edge: Tensor) -> None:
        content = read_maps(maps, record, rule.maps)
        origin = content if settings.start == "seeds" else read_crf(CRF / f"{record.image_id}.npz")
        start = start_maps(origin, content.classes, rule, settings.background).to(edge.device)
        with whole_file(done / f"{record.image_id}.npz") as temporary:
            write_walk(temporary, walk_maps(start, edge, content.classes, content.size, settings))

    # On a GPU the walk is there as well; on a CPU the images are walked in parallel.
    jobs = 1 if on_gpu else max(1, workers)
    walks = Parallel(n_jobs=jobs, return_as="generator", prefer="threads", pre_dispatch="2*n_jobs")(
        delayed(walk_one)(record, edge) for record, edge in edge_maps()
    )
    with torch.no_grad():
        for _ in progress(walks, total=len(left), what="random walk"):
            pass
    publish(folder, {"affinity": affinity})


if __name__ == "__main__":
    run(main)
