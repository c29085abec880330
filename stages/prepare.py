"""Bring the data set into one format: records, image-level labels, masks; draws the toy data set."""

from collections.abc import Iterable

from cpal.config import load_config
from cpal.dataset import Dataset, read_dataset
from cpal.files import whole_folder
from cpal.sources.toy import draw_dataset
from cpal.sources.voc import import_voc
from stages.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, progress, run
from stages.paths import DATASET, PARAMS


def main(params: Params = PARAMS, workers: Workers = DEFAULT_WORKERS, limit: Limit = None, out: Out = None) -> None:
    config = load_config(params)
    folder = destination(DATASET, limit, out)
    with whole_folder(folder) as growing:
        if config.data.source == "toy":
            draw_dataset(growing, config.toy, seed=config.seed, limit=limit)
        else:
            import_voc(growing, config.data, workers=workers, limit=limit, progress=progress)
    print(describe(read_dataset(folder)))


def describe(dataset: Dataset) -> str:
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
