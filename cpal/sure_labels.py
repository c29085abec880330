"""Labels that a next network can learn from, made of a folder of maps: IRN's, and the first round of AMN."""

from collections.abc import Iterator
from pathlib import Path

from joblib import Parallel, delayed

from cpal.cam import SeedRule, seed_scores
from cpal.config import CrfConfig
from cpal.crf import sure_labels
from cpal.dataset import Dataset, Record, read_image
from cpal.maps import read_maps
from cpal.masks import write_mask


def write_sure_labels(
    dataset: Dataset,
    records: list[Record],
    maps: Path,
    folder: Path,
    *,
    source: str,
    thresholds: tuple[float, float],
    crf: CrfConfig,
    workers: int,
) -> Iterator[None]:
    """Write folder/ID.png for each record, one after the other: background, class, or void where that is not sure.

    `source` says which of the maps, as in a SeedRule; `thresholds` are the background scores on them below which a
    pixel is surely background, and above which it is surely a class.
    """
    low, high = (SeedRule(source, value, value, value) for value in thresholds)

    def write(record: Record, image: Path) -> None:
        content = read_maps(maps, record, low.maps)
        labels = sure_labels(
            read_image(image), seed_scores(content, high), seed_scores(content, low), content.classes, crf
        )
        write_mask(folder / f"{record.image_id}.png", labels)

    tasks = (delayed(write)(record, dataset.image_path(record)) for record in records)
    return Parallel(n_jobs=max(1, workers), return_as="generator")(tasks)
