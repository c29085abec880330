"""mIoU of seed, crf, pseudo_mask or segmentation against the ground truth; the split is named in the metrics.

An experiment that ends in one evaluate stage leaves the other metrics files as they were: `dvc status` lists what is
stale.
"""

from enum import Enum
from typing import Annotated

import typer

from cpal.cam import SeedRule
from cpal.config import load_config
from cpal.crf import read_crf
from cpal.dataset import read_dataset
from cpal.errors import UserError
from cpal.files import write_json
from cpal.masks import read_mask
from cpal.metrics import class_rows, summary, void_percent
from cpal.scoring import score_masks, score_seeds
from stages.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, run
from stages.paths import CAMS, CRF, DATASET, METRICS, PARAMS, PREDICTIONS, PSEUDO_MASKS

READERS = {
    "crf": lambda image_id: read_crf(CRF / f"{image_id}.npz").label,
    "pseudo_mask": lambda image_id: read_mask(PSEUDO_MASKS / f"{image_id}.png"),
    "segmentation": lambda image_id: read_mask(PREDICTIONS / f"{image_id}.png"),
}


class What(str, Enum):
    seed = "seed"
    crf = "crf"
    pseudo_mask = "pseudo_mask"
    segmentation = "segmentation"


def main(
    what: Annotated[What, typer.Argument(help="What to score.")],
    params: Params = PARAMS,
    workers: Workers = DEFAULT_WORKERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    config = load_config(params)
    metrics_folder = destination(METRICS, limit, out)
    dataset = read_dataset(DATASET)
    train, val = dataset.scored("train", limit), dataset.scored("val", limit)
    if not (val if what.value == "segmentation" else train):
        raise UserError(f"no image has a ground-truth mask to score {what.value} against")
    if what.value == "seed":
        rule = SeedRule(config.cam.source, config.cam.cam_threshold, config.cam.pacam_threshold)
        metrics, rows = score_seeds(dataset, train, CAMS, rule, step=config.evaluate.threshold_step, workers=workers)
    else:
        read = READERS[what.value]
        records, split = (val, "val") if what.value == "segmentation" else (train, "score")
        confusion = score_masks(dataset, records, read, workers=workers)
        metrics, rows = summary(confusion, dataset.splits[split]), class_rows(confusion, dataset.classes)
        if what.value == "pseudo_mask":
            metrics["void_percent"] = void_percent(confusion)
        if what.value == "segmentation" and train:
            seen = score_masks(dataset, train, read, workers=workers)
            metrics["train"] = summary(seen, dataset.splits["score"])
    write_json(metrics_folder / f"{what.value}.json", metrics)
    write_json(metrics_folder / f"{what.value}_iou.json", rows)


if __name__ == "__main__":
    run(main)
