"""Finds the photographs that a user names as files and folders, and writes the files of their results."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from cpal.data.images import ENDINGS, passed_over, read_image
from cpal.data.masks import VOID, voc_palette, write_confidence, write_mask
from cpal.errors import UserError
from cpal.files import file_sha256, whole_file
from cpal.maps.drawing import class_palette, fit, legend, overlay, stack
from cpal.maps.fonts import drawable
from cpal.segmentation.finished import FOLDERS, Finished
from cpal.segmentation.inference import Labeled
from cpal.settings.config import FinalTestConfig

OVERLAY_SIDE = 1600  # largest long side of an overlay, in pixels


def find_photos(paths: Sequence[Path], results: Sequence[Path]) -> list[tuple[Path, str]]:
    """Each photograph and the name of its results: its path below the given folder, without the ending of an image.

    Of photographs that differ in their ending alone, the results keep it: a.jpg.png and a.png.png of a.jpg and a.png.
    Files below the folders `results` are skipped. Raises UserError for a path that is missing, neither file nor folder,
    or itself a result, and for two photographs whose result files would have conflicting names.
    """
    found: list[tuple[Path, str]] = []
    for path in paths:
        if path.is_dir():
            files = sorted(_files_below(path))
            mine = [file for file in files if _is_photo(file) and not _is_below(file, results)]
            if not mine:
                raise UserError(f"{path}: holds no picture ({' '.join(ENDINGS)}); name another folder")
            found += [(file, _result_name(file.relative_to(path))) for file in mine]
        elif not path.exists():
            raise UserError(f"{path}: no such file or folder; name an existing one")
        elif not path.is_file():
            raise UserError(f"{path}: neither a file nor a folder; copy its content into a file")
        elif _is_below(path, results):
            raise UserError(f"{path}: lies where the results go, which would replace it; choose another --out")
        else:
            found.append((path, path.stem))
    counts = Counter(name for name, _ in {(name, path.resolve()) for path, name in found})
    by_name: dict[str, Path] = {}
    for path, bare in found:
        name = bare if counts[bare] == 1 else f"{bare}{path.suffix}"
        if by_name.setdefault(name, path).resolve() != path.resolve():
            raise UserError(f"{by_name[name]} and {path}: both results would be {name}.png; run them with two --out")
    for name, path in by_name.items():
        for folder in PurePosixPath(name).parents:
            if folder.suffix == ".png" and (other := by_name.get(str(folder.with_suffix("")))):
                raise UserError(f"{other} and {path}: {folder} would be a file and a folder; run them with two --out")
    return [(path, name) for name, path in by_name.items()]


def _result_name(file: Path) -> str:
    """Remove the ending of an image; keep others, so that a.cr2 beside a.jpg is reported and no names conflict."""
    return (file.with_suffix("") if file.suffix.lower() in ENDINGS else file).as_posix()


def _files_below(folder: Path) -> Iterator[Path]:
    """All files below a folder. Links are followed, except a link to a folder that contains the link."""
    for parent, folders, names in os.walk(folder, onerror=_fail, followlinks=True):
        links = [link for name in folders if (link := Path(parent, name)).is_symlink()]
        loops = {link.name for link in links if any(link.samefile(above) for above in link.absolute().parents)}
        folders[:] = [name for name in folders if name not in loops]
        yield from (Path(parent, name) for name in names)


def _is_photo(file: Path) -> bool:
    """Whether a file looks like an image; images of a kind that cannot be read count, and are reported later.

    Pipes and devices are skipped, since opening them could block. A dead link counts, and is reported as unreadable.
    """
    if file.name.startswith("."):
        return False
    wanted = file.suffix.lower() in ENDINGS and (file.is_file() or not file.exists())
    return wanted or passed_over(file) is not None


def _is_below(file: Path, folders: Sequence[Path]) -> bool:
    return any(folder.resolve() in file.resolve().parents for folder in folders)


def _fail(error: OSError) -> NoReturn:
    """Error handler of os.walk. Without a handler, os.walk skips folders that it cannot open."""
    raise error


def check_folder(out: Path, *, also: Collection[str] = ()) -> None:
    """Raise UserError if a folder holds files of another origin: its `masks` may be somebody's ground truth.

    `also`: names of further results of this command.
    """
    if not out.exists():
        return
    held = {entry.name for entry in out.iterdir() if not entry.name.startswith(".") and entry.suffix != ".onnx"}
    if held - {*FOLDERS, "summary.json", *also} or ("masks" in held) != ("overlays" in held):
        raise UserError(f"{out}: holds files that this command did not write; give --out a new folder")


def utf8(text: str | Path) -> str:
    """Text for JSON; bytes of a file name that are not UTF-8 become escapes."""
    return os.fsencode(text).decode(errors="backslashreplace")


def label_photos(
    photos: Iterable[tuple[Path, str]],
    out: Path,
    label: Callable[[np.ndarray], Labeled],
    classes: Sequence[str],
    finished: Finished,
) -> list[dict[str, str]]:
    """Label photographs, write the results and add their rows to `finished` -> rows of the unreadable files."""
    for name in FOLDERS:
        (out / name).mkdir(parents=True, exist_ok=True)
    failed = []
    with warnings.catch_warnings():
        # Pillow warns above 89 megapixels and refuses above 179. In between, bounded memory makes reading safe.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for path, name in photos:
            try:
                image = read_image(path)
            except UserError as error:
                failed.append({"file": utf8(path), "error": utf8(str(error))})
                continue
            finished.add(path, name, {"file": utf8(path)} | write_result(out, name, image, label(image), classes))
    return failed


def summary(
    weights: Path,
    meta: dict[str, Any],
    final: FinalTestConfig,
    rows: list[dict[str, Any]],
    failed: list[dict[str, str]],
) -> dict[str, Any]:
    """Content of summary.json: weights, their description `meta`, settings, and the rows of `label_photos`."""
    return {
        "weights": utf8(weights),
        "sha256": file_sha256(weights),
        "backbone": meta["backbone"],
        "final_test": final.model_dump(),
        "classes": class_colors(meta["classes"]),
        "images": rows,
        "failed": failed,
    }


def write_result(out: Path, name: str, image: np.ndarray, labeled: Labeled, classes: Sequence[str]) -> dict[str, Any]:
    """Write NAME.png of a photograph uint8 (H, W, 3) into each of FOLDERS below `out` -> its row of the summary."""
    mask, sure, drawn = (out / folder / f"{name}.png" for folder in FOLDERS)
    write_mask(mask, labeled.labels, out)
    write_confidence(sure, labeled.confidence, out)
    present = [int(n) for n in np.flatnonzero(labeled.share) if n]
    width = max(1, round(image.shape[1] * min(1.0, OVERLAY_SIDE / max(image.shape[:2]))))
    small = fit(image, width=width)
    picture = overlay(small, fit(labeled.labels, width=width), class_palette())
    named = [f"{drawable(classes[n - 1], n)} {labeled.class_confidence[n]:.0f}%" for n in present]
    with whole_file(drawn, out) as temporary:
        page = stack([picture, legend(named, class_palette()[present], width=width)]) if named else picture
        Image.fromarray(page).save(temporary, format="PNG")
    return {
        "width": image.shape[1],
        "height": image.shape[0],
        "mask": utf8(mask),
        "confidence_map": utf8(sure),
        "overlay": utf8(drawn),
        "crf_size": labeled.crf_size and labeled.crf_size[::-1],
        "void_percent_of_pixels": round(100 * float((labeled.labels == VOID).mean()), 3),
        "classes": {
            ("background", *classes)[n]: {
                "percent_of_pixels": round(float(labeled.share[n]), 3),
                "confidence": round(float(labeled.class_confidence[n]), 3),
            }
            for n in np.flatnonzero(labeled.share)
        },
    }


def class_colors(classes: Sequence[str]) -> list[dict[str, Any]]:
    """Id, name, mask color and overlay color of background and each class."""
    colors = {"mask_color": voc_palette(), "overlay_color": class_palette()}
    return [
        {"id": n, "name": name} | {key: palette[n].tolist() for key, palette in colors.items()}
        for n, name in enumerate(("background", *classes))
    ]
