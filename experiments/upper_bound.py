"""Train the segmentation model on ground-truth masks: what it would reach if all pseudo-masks were perfect.

This is a yardstick, not a part of the pipeline: the pipeline never trains on ground truth. The training is that of
train_segmentation, with the same settings, on the training images that have a mask. Writes results/upper_bound.json,
and results/upper_bound.md with the share of this bound that the model trained on pseudo-masks reaches. A killed run
continues, and a finished seed is not trained again while settings, data and code stay the same.
"""

import json
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import typer
from filelock import FileLock, Timeout

import stages.job.run
from cpal.data.dataset import Dataset, Record, read_dataset
from cpal.data.images import read_record_image
from cpal.data.masks import LabelMaps
from cpal.errors import UserError
from cpal.evaluation.score_files import read_scores
from cpal.files import remove, whole_file, write_json
from cpal.running.times import duration, read_taken
from cpal.settings.config import Config, load_config
from experiments.ablations import random_seeds
from experiments.origin import changed_since_run
from experiments.results import shown
from stages.job.fingerprint import fingerprint
from stages.job.options import Params
from stages.job.paths import CACHE, DATASET, METRICS, PARAMS, SEGMENTATION, TIMES
from stages.job.progress import progress
from stages.job.stopping import CONTINUES

RESULTS = Path("results")
Scores = dict[str, float]  # mIoU under "mIoU", and the IoU of each class by name, in percent


def main(
    params: Params = PARAMS,
    seeds: Annotated[str, typer.Option(help="Random seeds, such as 0,1,2 or 0-2.")] = "0,1,2",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    loaders: Annotated[int, typer.Option(min=0, help="Processes that read images ahead of the network.")] = 1,
) -> None:
    from cpal.networks.state_dicts import given_files  # takes seconds, which --help need not wait for

    numbers, config, dataset = random_seeds(seeds), load_config(params), read_dataset(DATASET)
    records = [record for record in dataset.split("train") if record.mask is not None]
    if not records or not dataset.scored("val"):
        raise UserError("data.masks: training and validation images need ground-truth masks; name their folder")
    settings = [config.segmentation.model_dump(), config.final_test.model_dump()]
    files = given_files(config.segmentation.weights)
    key = fingerprint("predict_segmentation", settings, {}, files, without=[SEGMENTATION])  # its deps train it, too
    path = RESULTS / "upper_bound.json"
    done = read_bounds(path)
    found: dict[str, Scores] = done["seeds"] if done.get("settings") == key else {}
    left = [seed for seed in numbers if str(seed) not in found]
    print(outlook(len(numbers), len(left), len(records)), flush=True)
    for seed in left:
        found[str(seed)] = one_seed(config, dataset, records, seed, key, device=device, loaders=loaders)
        write_json(path, {"settings": key, "images": len(records), "seeds": found})
    page = path.with_suffix(".md")
    own = own_scores()
    if own and changed_since_run("evaluate_segmentation"):
        own = {}
        print("The scores in data/metrics are of other settings, data or code: dvc repro evaluate_segmentation")
    text = "\n".join(table({seed: found[str(seed)] for seed in numbers}, own, len(records), config)) + "\n"
    with whole_file(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{page}:\n\n{text}")


def read_bounds(path: Path) -> dict[str, Any]:
    """What an earlier run wrote; empty if there is none. Raises UserError if the file is damaged."""
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {"settings": content["settings"], "seeds": dict(content["seeds"])}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); remove it, so that its seeds are trained again") from None


def outlook(seeds: int, left: int, images: int) -> str:
    """What will run, and how long it takes by the pipeline's own training in this folder."""
    text = f"{seeds} seed(s), {left} of them to train on the masks of {images} images"
    if took := read_taken(TIMES, ["train_segmentation"]):
        return f"{text}: about {duration(left * took['train_segmentation'].seconds)}"
    return f"{text}; no estimate of the time: train_segmentation has not run in this folder yet"


def one_seed(
    config: Config, dataset: Dataset, records: list[Record], seed: int, key: str, *, device: str, loaders: int
) -> Scores:
    """Train on the masks of the records, and score the validation images as predict_segmentation labels them."""
    from cpal.data.views import pyramid_loader
    from cpal.evaluation.scoring import score_step
    from cpal.maps.crf import refine_probabilities
    from cpal.segmentation.deeplab import probabilities, train_segmentation
    from cpal.training.loop import Run
    from stages.job.device import torch_device

    folder, where = CACHE / "upper_bound" / f"{key}-{seed}", torch_device(device)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: another process trains this seed; wait until it ends") from None
    masks = LabelMaps(dataset.mask_path(records[0]).parent, "prepare", dataset.num_foreground)
    run = Run(seed, folder, where, loaders)
    segmentor = train_segmentation(dataset, records, masks, config.segmentation, run).to(where)
    scored, test = dataset.scored("val"), config.final_test
    loader = pyramid_loader(dataset, scored, scales=test.scales, flip=test.flip, long_side=None, workers=loaders)
    views = progress(loader, total=len(scored), what=f"predict, seed {seed}")
    labels = {}
    for record, size, looks in views:
        found = probabilities(segmentor, size, looks).cpu().numpy()
        if test.crf.iterations:
            found = refine_probabilities(read_record_image(dataset.image_path(record), record), found, test.crf)
        labels[record.image_id] = found.argmax(axis=0).astype(np.uint8)
    metrics, rows, _ = score_step(dataset, scored, lambda record: labels[record.image_id], workers=1)
    remove(folder)
    return {"mIoU": metrics["miou"]} | {row["class"]: row["iou"] for row in rows}


def own_scores() -> Scores:
    """Of the model that the pipeline has trained; none if there are none."""
    try:
        metrics, by_class = read_scores(METRICS, "segmentation")
    except UserError:  # the pipeline has not run
        return {}
    return by_class | ({"mIoU": metrics["miou"]} if "miou" in metrics else {})


def table(found: dict[int, Scores], own: Scores, images: int, config: Config) -> list[str]:
    """Lines of Markdown: scores by seed and class, beside the pipeline's `own`."""
    by_seed = " | ".join(f"seed {seed}" for seed in found)
    lines = [
        "# Upper bound: trained on ground-truth masks",
        "",
        f"The segmentation training of params.yaml on the ground-truth masks of {images} training images. The pipeline",
        "never trains on ground truth. Scores are IoU on the validation images, in percent.",
        "",
        f"| | {by_seed} | mean | pseudo-masks, seed {config.seed} | % of the bound |",
        "|---" * (len(found) + 4) + "|",
    ]
    for name in next(iter(found.values())):
        values = [scores[name] for scores in found.values()]
        reached = f"{own[name]:.1f} | {100 * own[name] / mean(values):.1f}" if name in own else "not measured | "
        cells = " | ".join(f"{value:.1f}" for value in values)
        lines.append(f"| {name} | {cells} | {shown(values, len(values))} | {reached} |")
    return lines


if __name__ == "__main__":
    stages.job.run.run(main, stopped=CONTINUES)
