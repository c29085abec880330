"""Run IRN's random walk from the seeds or the CRF's labels; with affinity.method none, pass the CRF's result on.

The result of the walk is stored as scores, so that write_pseudo_masks chooses its power and threshold in seconds.
"""

import shutil
from collections.abc import Iterator
from functools import partial

import torch
from joblib import delayed
from torch import Tensor

from cpal.affinity.network import edges, load_affinity_net
from cpal.affinity.walk import start_maps, walk_maps
from cpal.data.dataset import Record
from cpal.data.views import pyramid_loader
from cpal.files import whole_file
from cpal.maps.cams import map_size, read_maps
from cpal.maps.refined import read_crf
from cpal.maps.seeds import seed_rule
from cpal.maps.walked import read_walk, write_walk
from cpal.running.parallel import processes
from stages.job.command import run_stage
from stages.job.network import NetworkJob
from stages.job.paths import AFFINITY, AFFINITY_NET, CRF
from stages.job.progress import progress


def main(job: NetworkJob) -> None:
    affinity, settings, rule = job.config.affinity, job.config.walk, seed_rule(job.config.seeds)
    target = job.target(AFFINITY)
    folder = job.work([affinity.model_dump(), settings.model_dump(), job.config.seeds.model_dump()])
    done = folder / "affinity"
    read = read_crf if affinity.method == "none" else read_walk
    left = job.left(job.share(job.train), done, partial(read, done))
    if affinity.method == "none":
        for record in left:
            source = CRF / f"{record.image_id}.npz"
            read_crf(CRF, record)  # raises if the file is damaged
            with whole_file(done / source.name, folder) as temporary:
                shutil.copyfile(source, temporary)
        job.publish_images(folder, "affinity", target, job.train, ".npz")
        return
    maps = job.maps
    network = load_affinity_net(AFFINITY_NET, affinity, device=job.device)
    job.in_half(network)

    def edge_maps() -> Iterator[tuple[Record, Tensor]]:
        loader = pyramid_loader(job.dataset, left, scales=(1.0,), flip=False, long_side=None, workers=job.loaders)
        for record, size, views in loader:
            yield record, edges(network, views[0][0], map_size(size)).cpu()

    def walk_one(record: Record, edge: Tensor) -> None:
        content = read_maps(maps, record, rule.maps)
        origin = content if settings.start == "seeds" else read_crf(CRF, record)
        start = start_maps(origin, content.classes, rule, settings.background)
        with whole_file(done / f"{record.image_id}.npz", folder) as temporary:
            write_walk(temporary, walk_maps(start, edge, content.classes, content.size, settings))

    # With a GPU too, the walk runs on the CPU: a GPU needs microseconds to start each of its 18,000 operations.
    walks = processes(job.workers, prefer="threads", pre_dispatch="2*n_jobs")(
        delayed(walk_one)(record, edge) for record, edge in edge_maps()
    )
    with torch.no_grad():
        for _ in progress(walks, total=len(left), what="random walk"):
            pass
    job.publish_images(folder, "affinity", target, job.train, ".npz")


if __name__ == "__main__":
    run_stage(main)
