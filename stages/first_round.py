"""Make pixel labels for a host that learns from the CAMs of an earlier host (amn); other hosts need none.

A plain classifier, IRN's host, is trained. Two CRFs on its CAMs decide which pixels have a sure label.
"""

from functools import partial
from pathlib import Path

from cpal.data.dataset import Record
from cpal.data.images import read_record_image
from cpal.data.masks import LabelMaps, write_mask
from cpal.data.views import pyramid_loader
from cpal.maps.cams import read_maps
from cpal.maps.crf import sure_seed_labels
from cpal.method.classifier import Classifier
from cpal.method.make_cams import write_cams
from cpal.method.train_cam import train_classifier
from cpal.networks.state_dicts import given_files
from cpal.training.loop import Run
from stages.job.command import run_stage
from stages.job.network import NetworkJob
from stages.job.paths import FIRST_ROUND
from stages.job.progress import progress


def main(job: NetworkJob) -> None:
    config = job.config
    target = job.target(FIRST_ROUND)
    if not config.chosen_host.first_round:
        folder = job.work([config.host])
        if job.first:
            (folder / "first_round").mkdir(exist_ok=True)
            text = f"The host {config.host} learns from image-level labels alone and needs no first round.\n"
            (folder / "first_round" / "not_needed.txt").write_text(text, encoding="utf-8")
        job.publish(folder, {"first_round": target}, keep=True)
        return
    irn, amn, cam = config.hosts.irn, config.hosts.amn, config.cam
    sure = (amn.sure_background, amn.sure_foreground)
    settings = [config.seed, irn.model_dump(), cam.model_dump(), config.crf.model_dump(), sure]
    folder = job.work(settings, inputs=given_files(irn.weights))
    plain = config.cpal.model_copy(update={"self_weight": 0.0, "projection": 0})
    run = Run(config.seed, folder, job.device, job.loaders)
    host, _, _ = train_classifier(job.dataset, job.train, irn, plain, run, diagnose=lambda *_: {})
    left = job.left(job.share(job.train), folder / "cams", partial(read_maps, folder / "cams"))
    loader = pyramid_loader(
        job.dataset, left, scales=cam.scales, flip=cam.flip, long_side=cam.long_side, workers=job.loaders
    )
    job.in_half(host)
    classifier = Classifier(host.to(job.device), job.dataset.num_foreground)
    write_cams(classifier, progress(loader, total=len(left), what="first CAMs"), folder / "cams")
    labels = LabelMaps(folder / "first_round", job.name)
    left = job.left(job.share(job.train), labels.folder, labels.read)
    crf = config.crf

    def label_one(record: Record, image: Path) -> None:
        content = read_maps(folder / "cams", record, ["cam"])
        sure_labels = sure_seed_labels(read_record_image(image, record), content, "cam", sure, crf)
        write_mask(labels.folder / f"{record.image_id}.png", sure_labels, folder)

    job.each("first labels", label_one, left)
    job.publish(folder, {"first_round": target}, keep=True)


if __name__ == "__main__":
    run_stage(main)
