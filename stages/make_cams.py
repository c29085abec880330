"""Multi-scale CAM, PACAM and taught CAM of every training image."""

from functools import partial

from cpal.data.views import pyramid_loader
from cpal.maps.cams import read_maps
from cpal.method.make_cams import write_cams
from stages.job.classifier import fitted_classifier
from stages.job.command import run_stage
from stages.job.feature_cache import forget
from stages.job.network import NetworkJob
from stages.job.paths import CAMS
from stages.job.progress import progress


def main(job: NetworkJob) -> None:
    config = job.config
    target = job.target(CAMS)
    classifier = fitted_classifier(job, taught=config.taught_cam.decay > 0)
    settings = [config.chosen_host.model_dump(), config.cpal.model_dump(), config.cam.model_dump()]
    folder = job.work(settings)
    records = job.left(job.share(job.train), folder / "cams", partial(read_maps, folder / "cams"))
    loader = pyramid_loader(
        job.dataset,
        records,
        scales=config.cam.scales,
        flip=config.cam.flip,
        long_side=config.cam.long_side,
        workers=job.loaders,
    )
    write_cams(classifier, progress(loader, total=len(records), what="make CAMs"), folder / "cams")
    job.publish_images(folder, "cams", target, job.train, ".npz")
    if job.out is None:
        forget(classifier.host)


if __name__ == "__main__":
    run_stage(main)
