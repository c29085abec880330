"""Bring the data set into one format: records, image-level labels, masks; draws the toy data set."""

import shutil
from collections.abc import Sequence

from cpal.sources.toy import draw_dataset

from cpal.config import load_config
from cpal.dataset import Dataset, read_dataset
from cpal.sources.voc import import_voc
from stages.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, run
from stages.paths import DATASET, PARAMS


def main(params: Params = PARAMS, workers: Workers = DEFAULT_WORKERS, limit: Limit = None, out: Out = None) -> None:
    config = load_config(params)
    folder = destination(DATASET, limit, out)
    growing = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    try:
        if config.data.source == "toy":
            draw_dataset(growing, config.toy, seed=config.seed, limit=limit)
        else:
            import_voc(growing, config.data, workers=workers, limit=limit)
        shutil.rmtree(folder, ignore_errors=True)
        growing.rename(folder)
    finally:
        shutil.rmtree(growing, ignore_errors=True)
    print(describe(read_dataset(folder)))


def describe(dataset: Dataset) -> str:
    """Images per split and per class, as a table."""
    splits = [dataset.split("train"), dataset.scored("train"), dataset.split("val")]
    lines = [_row("", [dataset.splits[name] for name in ("train", "score", "val")])]
    lines.append(_row("images", [len(split) for split in splits]))
    for n, name in enumerate(dataset.classes, 1):
        lines.append(_row(name, [sum(n in record.labels for record in split) for split in splits]))
    return "\n".join(lines)


def _row(name: str, cells: Sequence[object]) -> str:
    return f"{name:15s}" + "".join(f"{cell!s:>16s}" for cell in cells)


if __name__ == "__main__":
    run(main)
