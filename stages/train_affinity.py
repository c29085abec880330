"""Train IRN's edge network on labels on which two CRFs over the seeds agree; affinity.method none trains nothing."""

from pathlib import Path

from cpal.data.dataset import Record
from cpal.data.images import read_record_image
from cpal.data.masks import LabelMaps, write_mask
from cpal.maps.cams import read_maps
from cpal.maps.crf import sure_seed_labels
from cpal.maps.seeds import SeedRule
from stages.job.command import run_stage
from stages.job.launch import meet
from stages.job.network import NetworkJob
from stages.job.paths import AFFINITY_NET


def main(job: NetworkJob) -> None:
    from cpal.affinity.network import train_affinity, weights_meta  # takes seconds, which --help need not wait for
    from cpal.networks.state_dicts import given_files
    from cpal.networks.weights import save_weights
    from cpal.training.loop import Run

    config, settings = job.config, job.config.affinity
    target = job.target(AFFINITY_NET)
    if settings.method == "none":
        if job.first:
            save_weights(target, {}, {"method": "none"})
        return
    source, maps, crf = config.seeds.source, job.maps, config.crf
    learned = [config.seed, settings.model_dump(), crf.model_dump(), source]
    folder = job.work(learned, inputs=given_files(settings.weights))
    sure_labels = LabelMaps(folder / "labels", job.name)
    needed = SeedRule(source, {}).maps
    sure = (settings.sure_background, settings.sure_foreground)

    def label_one(record: Record, image: Path) -> None:
        content = read_maps(maps, record, needed)
        labels = sure_seed_labels(read_record_image(image, record), content, source, sure, crf)
        write_mask(sure_labels.folder / f"{record.image_id}.png", labels, folder)

    job.each("sure labels", label_one, job.left(job.share(job.train), sure_labels.folder, sure_labels.read))
    meet()
    run = Run(config.seed, folder, job.device, job.loaders)
    network = train_affinity(job.dataset, job.train, sure_labels, settings, run)
    if job.first:
        save_weights(folder / target.name, {"network": network}, weights_meta(settings))
    job.publish(folder, {target.name: target}, keep=True)


if __name__ == "__main__":
    run_stage(main)
