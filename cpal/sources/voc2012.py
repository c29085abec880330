"""PASCAL VOC 2012 with SBD's further images -> listing: found below data.root or downloaded, with the usual lists.

train, val and test are VOC's own lists. train_aug is the field's list of 10,582: VOC's train and all of SBD, without
VOC's val. SBD's masks are not needed, since seeds are scored on VOC's own masks.
"""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cpal.errors import UserError
from cpal.settings.data import DataConfig, Voc2012Config
from cpal.sources.download import OnBytes, download, no_report, unpack
from cpal.sources.labels.list_files import image_id_of, never, read_list
from cpal.sources.listing import Listing
from cpal.sources.problems import missing_folder
from cpal.sources.tables.file_names import ENDING
from cpal.sources.voc import LISTS, list_voc

COUNTS = {"train": 1464, "train_aug": 10582, "val": 1449, "test": 1456}
DEVKIT = Path("VOCdevkit/VOC2012")
SBD = Path("benchmark_RELEASE/dataset")


def fetch_voc2012(
    root: Path, urls: Voc2012Config, *, report: Callable[[str], OnBytes] = lambda what: no_report
) -> None:
    """Download and unpack VOCdevkit/ and benchmark_RELEASE/, if `root` lacks them. The archives are deleted afterwards.

    `report(what)` gets the bytes of each file. Raises UserError as `download` and `unpack` do.
    """
    if _voc_folder(root) is None:
        _fetch(root, urls.trainval_url, urls.trainval_md5, DEVKIT, report)
    if lacks_voc2012(root):
        _fetch(root, urls.sbd_url, urls.sbd_md5, SBD, report)


def lacks_voc2012(root: Path) -> bool:
    """Whether `fetch_voc2012` would download something."""
    voc = _voc_folder(root)
    return voc is None or (
        _told_list(voc) is None and not (voc / "SegmentationClassAug").is_dir() and not (root / SBD).is_dir()
    )


def _fetch(root: Path, url: str, md5: str, holds: Path, report: Callable[[str], OnBytes]) -> None:
    """Unpack an archive beside its place, and move the wanted folder to its place."""
    archive = root / (url.rpartition("/")[2] or "archive")
    download(url, archive, md5=md5, report=report(archive.name))
    top = holds.parts[0]
    unpacked = root / f"{archive.name}.unpacked"
    if not unpacked.is_dir():
        unpack(archive, unpacked)
    if not (unpacked / holds).is_dir():
        raise UserError(f"{archive}: holds no {holds}; check its address in the settings, section voc2012")
    if (root / top).exists():
        raise UserError(f"{root / top}: is there, but without {holds.name}; move it away and run again")
    (unpacked / top).rename(root / top)
    shutil.rmtree(unpacked)
    archive.unlink()


def list_voc2012(settings: DataConfig, *, limit: int | None = None, counts: dict[str, int] = COUNTS) -> Listing:
    """The images of the lists. A list without its known number of images is a problem."""
    root = Path(settings.root)
    if problems := missing_folder(root, "or let it be fetched: voc2012.download: true"):
        return Listing(root, (), settings.classes or (), (), settings.splits, tuple(problems))
    voc = _voc_folder(root)
    if voc is None:
        problems = [
            f"data.root: neither {root / 'JPEGImages'} nor {root / DEVKIT / 'JPEGImages'} is there; set it to VOC2012 "
            "or to the folder that holds VOCdevkit, or let it be fetched: voc2012.download: true"
        ]
        return Listing(root, (), settings.classes or (), (), settings.splits, tuple(problems))
    lists, origin = dict[str, list[str]](), dict[str, str]()
    wanted = {settings.train_list, settings.score_list, settings.val_list}
    for name in sorted(wanted & set(counts)):
        path = voc / LISTS / f"{name}.txt"
        if name == "train_aug":
            lists[name], origin[name] = _train_aug(root, voc)
        elif path.is_file():
            lists[name], origin[name] = _ids(path), str(path)
    table = settings.labels_file and str((root / settings.labels_file).absolute())  # starts at data.root, as elsewhere
    listing = list_voc(
        settings.model_copy(update={"root": str(voc), "labels_file": table}),
        limit=limit,
        lists={n: ids for n, ids in lists.items() if ids},
    )
    wrong = [
        f"list {name}: {len(ids)} images from {origin[name]}, but it has {counts[name]}; parts of the data set are "
        "missing, or a list was changed: with source: voc any list goes"
        for name, ids in lists.items()
        if len(ids) != counts[name]
    ]
    return replace(listing, problems=(*wrong, *listing.problems))


def _voc_folder(root: Path) -> Path | None:
    return next(
        (folder for folder in (root, root / DEVKIT, root / DEVKIT.name) if (folder / "JPEGImages").is_dir()), None
    )


def _told_list(voc: Path) -> Path | None:
    paths = [voc / LISTS / name for name in ("train_aug.txt", "trainaug.txt")]
    return next((path for path in paths if path.is_file()), None)


def _train_aug(root: Path, voc: Path) -> tuple[list[str], str]:
    """Ids of train_aug, and their origin: a list, the file names in SegmentationClassAug, or SBD's lists."""
    if path := _told_list(voc):
        return _ids(path), str(path)
    val = set(_ids(voc / LISTS / "val.txt"))
    masks = voc / "SegmentationClassAug"
    if masks.is_dir():
        return sorted({path.stem for path in masks.glob("*.png")} - val), str(masks)
    sbd = next((folder for folder in (root / SBD, voc.parent.parent / SBD) if folder.is_dir()), root / SBD)
    ids = set(_ids(voc / LISTS / "train.txt"))
    for name in ("train.txt", "val.txt"):
        ids |= set(_ids(sbd / name))
    return sorted(ids - val), f"{voc / LISTS / 'train.txt'} and {sbd}"


def _ids(path: Path) -> list[str]:
    """Ids of a list; empty if there is no such file, which the count of the list reports."""
    if not path.is_file():
        return []
    try:
        return [ENDING.sub("", image_id_of(line.image)) for line in read_list(path, never, missing="no such list")]
    except UserError as error:
        raise UserError(f"{error}; delete its folder, and it is unpacked again") from None
