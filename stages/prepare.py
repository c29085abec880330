"""Convert the data set into one format: records, image-level labels, masks; or draw the toy data set."""

from collections.abc import Iterable
from pathlib import Path

from cpal.data.dataset import Dataset, read_dataset
from cpal.data.images import files_passed_over, passed_over_lines
from cpal.files import whole_folder
from cpal.sources.coco import import_coco, instances_file
from cpal.sources.dispatch import list_images
from cpal.sources.import_listing import import_listing
from cpal.sources.toy import draw_dataset
from cpal.sources.voc2012 import fetch_voc2012
from stages.job.command import run_stage
from stages.job.job import Job
from stages.job.paths import DATASET, check_root, unwatched
from stages.job.progress import progress, progress_of_bytes


def main(job: Job) -> None:
    data, limit, seed = job.config.data, job.limit, job.config.seed
    check_root(data, DATASET if job.out is None else job.out / DATASET.name)
    folder = job.target(DATASET)
    if data.source == "voc2012" and job.config.voc2012.download:
        fetch_voc2012(Path(data.root), job.config.voc2012, report=progress_of_bytes)
    if data.source == "coco2014":
        _import_coco(job, folder)
    else:
        if data.source != "toy":
            passed_over = passed_over_lines(files_passed_over(Path(data.root) / data.images))
            for line in (*unwatched(data), *passed_over):
                print(f"note: {line}")
        with whole_folder(folder) as growing:
            if data.source == "toy":
                draw_dataset(growing, job.config.toy, seed=seed, limit=limit)
            else:
                import_listing(
                    growing,
                    list_images(data, seed=seed, limit=limit),
                    other_classes=data.other_classes,
                    drop_unlabeled=data.without_labels == "drop",
                    complete=limit is None,
                    workers=job.workers,
                    progress=progress,
                )
    print(summary_line(read_dataset(folder)))


def _import_coco(job: Job, folder: Path) -> None:
    """COCO has many images, so a killed import continues where it stopped."""
    data = job.config.data
    lists = (data.train_list, data.val_list)
    files = [path for path in (instances_file(Path(data.root), name) for name in lists) if path.exists()]
    work = job.work(data.model_dump(), inputs=files)
    import_coco(work / "dataset", work / "shards", data, workers=job.workers, limit=job.limit, progress=progress)
    job.publish(work, {"dataset": folder})


def summary_line(dataset: Dataset) -> str:
    """A sentence on how the labels were understood, and a table of the images of each split and class."""
    splits = {"train": dataset.split("train"), "score": dataset.scored("train"), "val": dataset.split("val")}
    lines = [f"Labels: {dataset.source}", ""] if dataset.source else []
    lines += [_row("", splits), _row("list", [dataset.splits[name] for name in splits])]
    lines.append(_row("images", [len(records) for records in splits.values()]))
    for n, name in enumerate(dataset.classes, 1):
        lines.append(_row(name, [sum(n in record.labels for record in records) for records in splits.values()]))
    return "\n".join(lines)


def _row(name: str, cells: Iterable[object]) -> str:
    return f"{name:13s}" + "".join(f"  {cell!s:>14s}" for cell in cells)


if __name__ == "__main__":
    run_stage(main)
