"""The paths that the stages read and write; no module of `cpal` knows a path of the pipeline."""

import os
from pathlib import Path

from cpal.errors import UserError
from cpal.settings.data import DataConfig

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
CACHE = Path(os.environ.get("CPAL_CACHE", ".cache"))  # one folder can serve all experiments in DVC's queue
TIMES = Path(".cache/times")  # what the stages took: of this checkout, unlike CACHE

DATA = Path("data")  # also holds unfinished files, under temporary names
DATASET = Path("data/dataset")
FIRST_ROUND = Path("data/first_round")
CLASSIFIER = Path("data/classifier.safetensors")
PROTOTYPES = Path("data/prototypes.safetensors")
TAUGHT_CAM = Path("data/taught_cam.safetensors")
CAMS = Path("data/cams")
IMPORTED_CAMS = Path("data/imported_cams")
CRF = Path("data/crf")
AFFINITY_NET = Path("data/affinity.safetensors")
AFFINITY = Path("data/affinity")
PSEUDO_MASKS = Path("data/pseudo_masks")
CORRECTED_MASKS = Path("data/corrected_masks")
SEGMENTATION = Path("data/segmentation.safetensors")
PREDICTIONS = Path("data/predictions")
METRICS = Path("data/metrics")
PROTOTYPE_METRICS = METRICS / "prototypes.json"
LABEL_METRICS = METRICS / "classifier.json"
JUDGEMENT = METRICS / "judgement_score.json"
LABEL_PRECISION = METRICS / "classifier_ap.json"
CLASSIFIER_CURVES = METRICS / "train_cam"
SEGMENTATION_CURVES = METRICS / "train_segmentation"
REPORT = Path("data/report")
PROFILES = Path("profiles")
OUTPUTS = (
    *(DATASET, FIRST_ROUND, CAMS, IMPORTED_CAMS, CRF, AFFINITY, PSEUDO_MASKS, CORRECTED_MASKS, PREDICTIONS, METRICS),
    REPORT,
)


def check_root(settings: DataConfig, target: Path) -> None:
    """Raise UserError if the data set holds a result folder, or lies in one, which stages replace or DVC removes.

    The message names the path and the cure.
    """
    if settings.source == "toy":
        return
    root = Path(settings.root)
    for path in (root, *(root / name for name in (settings.images, settings.masks, settings.labels_file) if name)):
        for output in (target, *OUTPUTS):
            if path.resolve().is_relative_to(output.resolve()):
                raise UserError(
                    f"data.root: {path} lies in {output}, which results replace; move the data set to a folder of its "
                    "own, such as data/raw/NAME"
                )
    for place in (Path(), *OUTPUTS):
        if place.resolve().is_relative_to(root.resolve()):
            held = "this project" if place == Path() else place
            raise UserError(
                f"data.root: {root} holds {held}, so DVC would take results for photographs; move the data set to a "
                "folder of its own, such as data/raw/NAME"
            )


def unwatched(settings: DataConfig) -> list[str]:
    """Notes on masks and labels outside data.root, or behind a link there: DVC does not see when they change."""
    if settings.source == "toy":
        return []
    root = Path(settings.root)
    return [
        f"data.{key}: {name} lies outside data.root, or behind a link, so DVC does not see when it changes; "
        "after a change run: dvc repro -f prepare && dvc repro"
        for key, name in (("masks", settings.masks), ("labels_file", settings.labels_file))
        if name and not (root / name).resolve().is_relative_to(root.resolve())
    ]
