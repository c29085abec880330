"""The sections of params.yaml that say where images and labels come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from cpal.settings.base import Names, Positive, Section, Share

LABELS = {  # data.source -> values of data.labels that it allows
    "voc": ("masks", "xml", "csv"),
    "voc2012": ("xml", "masks", "csv"),
    "coco2014": ("coco",),
    "folder": ("csv", "folders", "coco", "xml", "yolo", "masks"),
}
LABEL_KEYS = {  # data.labels -> optional keys that source: folder reads with it; other sources read them with csv
    "csv": ("labels_file", "label_separator", "label_threshold", "label_encoding"),
    "coco": ("labels_file", "label_threshold"),
    "yolo": ("labels_file", "label_threshold", "label_encoding"),
    "xml": ("labels_file", "label_encoding"),
    "masks": (),
    "folders": (),
}


def _code_page(name: str) -> str:
    """Check that Python knows this code page (text encoding)."""
    try:
        "a".encode(name)
    except (LookupError, UnicodeError, ValueError):
        raise ValueError(f"{name[:40]!r} is no code page; write utf-8, cp1252, cp1250, shift_jis, ...") from None
    return name


Encoding = Annotated[str, AfterValidator(_code_page)]


class DataConfig(Section):
    source: Literal["toy", "voc", "voc2012", "coco2014", "folder"]
    root: str
    images: str
    train_list: str
    score_list: str
    val_list: str
    masks: str | None
    mask_suffix: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^/\\]+$")] | None
    mask_colors: str | None
    mask_classes: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=254)] | None
    classes: Names | None
    other_classes: Literal["background", "void"]
    labels: Literal["masks", "xml", "csv", "folders", "coco", "yolo"]
    labels_file: str | None
    label_separator: Annotated[str, Field(min_length=1, max_length=8)] | None
    label_threshold: Annotated[float, Field(ge=-1e6, le=1e6)] | None
    label_encoding: Encoding | None
    negatives: Annotated[tuple[str, ...], Field(strict=False, max_length=254)] | None
    without_labels: Literal["keep", "drop"]
    val_share: Annotated[float, Field(gt=0, lt=1)]

    @property
    def splits(self) -> dict[str, str]:
        """The names of the lists by their use, as a data set keeps them."""
        return {"train": self.train_list, "score": self.score_list, "val": self.val_list}

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.source == "toy":  # prepare draws the images; no other key is read
            return self
        if self.source != "coco2014" and (Path(self.images).is_absolute() or ".." in Path(self.images).parts):
            raise ValueError(f"images: {self.images} must be below root, which DVC watches; write the path from there")
        known = LABELS[self.source]
        if self.labels not in known:
            raise ValueError(f"labels: {self.labels} does not go with source: {self.source}; take {' or '.join(known)}")
        if self.labels == "masks" and self.masks is None:
            raise ValueError("labels: masks needs masks, the folder that holds them")
        if self.source != "coco2014" and self.labels in ("csv", "coco", "yolo") and self.labels_file is None:
            raise ValueError(f"labels: {self.labels} needs labels_file, the path of the file")
        own = LABEL_KEYS[self.labels] if self.source == "folder" or self.labels == "csv" else ()
        if unread := [key for key in LABEL_KEYS["csv"] if getattr(self, key) is not None and key not in own]:
            raise ValueError(
                f"{unread[0]}: source: {self.source} with labels: {self.labels} does not read it; write null, or "
                "correct labels"
            )
        if self.negatives and (self.source != "folder" or self.labels == "masks"):
            raise ValueError(
                "negatives: only source: folder reads them, and not with labels: masks; write negatives: null"
            )
        if self.source in ("coco2014", "folder") and self.score_list != self.train_list:
            raise ValueError(
                f"score_list: {self.score_list} is another list than train_list; source: {self.source} scores every "
                f"training image that has a mask, so write {self.train_list}"
            )
        if self.source == "coco2014" and self.masks not in (None, "annotations"):
            raise ValueError(f"masks: {self.masks}: with source: coco2014 write annotations, or null for none")
        self._check_masks()
        return self

    def _check_masks(self) -> None:
        named = self.mask_classes or self.classes or self.mask_colors not in (None, "voc")
        if self.source == "folder" and self.masks is not None and not named:
            raise ValueError(
                "masks needs mask_classes, the class names of the mask values 1, 2, ...; without masks write "
                "masks: null"
            )
        if self.source != "folder" and (self.mask_suffix is not None or self.mask_classes is not None):
            key = "mask_classes" if self.mask_suffix is None else "mask_suffix"
            raise ValueError(f"{key}: only source: folder reads it; with source: {self.source} write null")
        if self.source == "coco2014" and self.mask_colors is not None:
            raise ValueError("mask_colors: source: coco2014 draws the masks itself; write null")
        if self.source != "folder" and self.mask_colors not in (None, "voc"):
            raise ValueError(f"mask_colors: with source: {self.source} write null or voc, whose colors are known")
        if self.mask_colors is not None and (
            Path(self.mask_colors).is_absolute() or ".." in Path(self.mask_colors).parts
        ):
            raise ValueError(f"mask_colors: {self.mask_colors} must be below root, which DVC watches")


class Voc2012Config(Section):
    download: bool
    trainval_url: str
    trainval_md5: str
    sbd_url: str
    sbd_md5: str


class ToyConfig(Section):
    train_images: Positive
    val_images: Positive
    min_side: Annotated[int, Field(ge=64, le=4096)]
    max_side: Annotated[int, Field(ge=64, le=4096)]  # an image of 4096 x 4096 takes 4 GB of memory to draw
    max_objects: Positive
    scene_bias: Share
    empty_scene: Share
    occlusion: Share
    void_border: Annotated[int, Field(ge=0, le=32)]  # pixels; min_side is at least 64

    @model_validator(mode="after")
    def _check(self) -> "ToyConfig":
        if self.max_side < self.min_side:
            raise ValueError(f"max_side {self.max_side} is below min_side {self.min_side}")
        return self
