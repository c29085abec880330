"""Scores of seed, crf, pseudo_mask or segmentation: mIoU against the ground truth, and what needs none.

Without ground truth there is no mIoU, and the figures under `without_truth` remain; cpal/evaluation/without_truth.py says what each
means. An experiment that ends in one evaluate stage leaves the other metrics files as they were: `dvc status` lists
what is stale.
"""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from cpal.data.dataset import read_dataset
from cpal.data.masks import read_mask
from cpal.evaluation.metrics import class_rows, summary, void_percent
from cpal.evaluation.scoring import score_masks, score_seeds, score_walk
from cpal.evaluation.without_truth import Read, describe_step
from cpal.files import write_json
from cpal.maps.cams import read_maps
from cpal.maps.refined import read_crf
from cpal.maps.seeds import SeedRule, seed_map
from cpal.settings.config import load_config
from stages.job.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, run
from stages.job.paths import AFFINITY, CRF, DATASET, METRICS, PARAMS, PREDICTIONS, PSEUDO_MASKS


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
    folder = destination(METRICS, limit, out)
    dataset = read_dataset(DATASET)
    maps = Path(config.cam.maps)
    rule = SeedRule(
        config.cam.source, config.cam.cam_threshold, config.cam.pacam_threshold, config.cam.taught_threshold
    )
    readers: dict[str, Read] = {
        "seed": lambda record: seed_map(read_maps(maps, record, rule.maps), rule),
        "crf": lambda record: read_crf(CRF / f"{record.image_id}.npz").label,
        "confidence": lambda record: read_crf(CRF / f"{record.image_id}.npz").confidence,
        "pseudo_mask": lambda record: read_mask(PSEUDO_MASKS / f"{record.image_id}.png"),
        "segmentation": lambda record: read_mask(PREDICTIONS / f"{record.image_id}.png"),
    }
    # First, since it may read maps: joblib takes a worker that imports torch later for one that leaks, and says so.
    free = describe_step(what.value, dataset, readers, limit=limit, workers=workers)
    metrics: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    scored = dataset.scored("val" if what.value == "segmentation" else "train", limit)
    if scored and what.value == "seed":
        metrics, rows = score_seeds(dataset, scored, maps, rule, step=config.evaluate.threshold_step, workers=workers)
    elif scored:
        confusion = score_masks(dataset, scored, readers[what.value], workers=workers)
        split = dataset.splits["val" if what.value == "segmentation" else "score"]
        metrics, rows = summary(confusion, split), class_rows(confusion, dataset.classes)
        if what.value == "pseudo_mask":
            metrics["void_percent"] = void_percent(confusion)
            if config.affinity.method != "none" and config.affinity.background == "threshold":
                metrics["walk"] = score_walk(
                    dataset,
                    scored,
                    AFFINITY,
                    config.affinity.powers.index(config.pseudo_mask.walk_power),
                    config.pseudo_mask.background_threshold,
                    step=config.evaluate.threshold_step,
                    workers=workers,
                )
    if what.value == "segmentation" and (seen := dataset.scored("train", limit)):
        confusion = score_masks(dataset, seen, readers["segmentation"], workers=workers)
        metrics["train"] = summary(confusion, dataset.splits["score"])
    metrics["without_truth"] = free
    write_json(folder / f"{what.value}.json", metrics)
    write_json(folder / f"{what.value}_iou.json", rows)


if __name__ == "__main__":
    run(main)
