"""Bring the data set into one format: records, image-level labels, masks; draws the toy data set.

With `check`, say what is wrong or odd about the data set instead, and write nothing (but health.json with --out).
"""

from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cpal.data.dataset import Dataset, read_dataset
from cpal.files import whole_folder
from cpal.settings.config import load_config
from cpal.settings.data import DataConfig
from cpal.sources.coco import import_coco, instances_file
from cpal.sources.dispatch import list_images
from cpal.sources.listing import import_listing
from cpal.sources.toy import draw_dataset
from cpal.sources.voc2012 import fetch_voc2012
from stages.check import check_health, check_root
from stages.job.options import (
    DEFAULT_WORKERS,
    Limit,
    Out,
    Params,
    Workers,
    destination,
    progress,
    progress_of_bytes,
    run,
)
from stages.job.paths import DATASET, PARAMS
from stages.job.workdir import publish, work_folder


class What(str, Enum):
    write = "write"
    check = "check"


def main(
    what: Annotated[What, typer.Argument(help="Write the data set, or check its health.")] = What.write,
    params: Params = PARAMS,
    workers: Workers = DEFAULT_WORKERS,
    limit: Limit = None,
    out: Out = None,
) -> None:
    if what is What.check:
        check_health(params, workers, limit, out)
        return
    config = load_config(params)
    check_root(config.data, DATASET if out is None else out / DATASET.name)
    folder = destination(DATASET, limit, out)
    if config.data.source == "voc2012" and config.voc2012.download:
        fetch_voc2012(Path(config.data.root), config.voc2012, report=progress_of_bytes)
    if config.data.source == "coco2014":
        _import_coco(config.data, folder, workers, limit)
    else:
        with whole_folder(folder) as growing:
            if config.data.source == "toy":
                draw_dataset(growing, config.toy, seed=config.seed, limit=limit)
            else:
                import_listing(
                    growing,
                    list_images(config.data, seed=config.seed, limit=limit),
                    other_classes=config.data.other_classes,
                    drop_unlabeled=config.data.without_labels == "drop",
                    complete=limit is None,
                    workers=workers,
                    progress=progress,
                )
    print(summary_line(read_dataset(folder)))


def _import_coco(settings: DataConfig, folder: Path, workers: int, limit: int | None) -> None:
    """COCO's images are many: a killed import goes on where it was."""
    lists = (settings.train_list, settings.val_list)
    files = [path for path in (instances_file(Path(settings.root), name) for name in lists) if path.exists()]
    work = work_folder("prepare", [settings.model_dump(), limit], inputs=files)
    import_coco(work / "dataset", work / "shards", settings, workers=workers, limit=limit, progress=progress)
    publish(work, {"dataset": folder})


def summary_line(dataset: Dataset) -> str:
    """Images per split and per class, as a table."""
    splits = {"train": dataset.split("train"), "score": dataset.scored("train"), "val": dataset.split("val")}
    lines = [_row("", splits), _row("list", [dataset.splits[name] for name in splits])]
    lines.append(_row("images", [len(records) for records in splits.values()]))
    for n, name in enumerate(dataset.classes, 1):
        lines.append(_row(name, [sum(n in record.labels for record in records) for records in splits.values()]))
    return "\n".join(lines)


def _row(name: str, cells: Iterable[object]) -> str:
    return f"{name:13s}" + "".join(f"  {cell!s:>14s}" for cell in cells)


if __name__ == "__main__":
    run(main)
