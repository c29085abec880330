"""params.yaml as frozen, checked settings. Every problem of the file is reported at once."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cpal.errors import UserError


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for n, name in enumerate(names) if name in names[:n]]:
        raise ValueError(f"names {', '.join(twice)} twice")
    return names


Positive = Annotated[int, Field(gt=0)]
Natural = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Floats = Annotated[tuple[PositiveFloat, ...], Field(strict=False, min_length=1)]
Ints = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1)]
Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1), AfterValidator(_distinct)]
Range = Annotated[tuple[PositiveFloat, PositiveFloat], Field(strict=False)]
IntRange = Annotated[tuple[Positive, Positive], Field(strict=False)]
Amp = Literal["off", "bf16", "fp16"]
Contrast = Literal["none", "difference", "ratio", "normalized"]
LABELS = {  # where each data.source can take image-level labels from
    "voc": ("masks", "xml", "csv"),
    "voc2012": ("xml", "masks", "csv"),
    "coco2014": ("coco",),
    "folder": ("csv", "folders", "coco", "masks"),
}


class Section(BaseModel):
    """Settings of one block of params.yaml; their meaning is written there, beside the values."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataConfig(Section):
    source: Literal["toy", "voc", "voc2012", "coco2014", "folder"]
    root: str
    images: str
    train_list: str
    score_list: str
    val_list: str
    masks: str | None
    mask_classes: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=254)] | None
    classes: Names | None
    other_classes: Literal["background", "void"]
    labels: Literal["masks", "xml", "csv", "folders", "coco"]
    labels_file: str | None
    without_labels: Literal["keep", "drop"]
    val_share: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.source == "toy":  # draws its own images, and reads no other key
            return self
        known = LABELS[self.source]
        if self.labels not in known:
            raise ValueError(f"labels: {self.labels} does not go with source: {self.source}; take {' or '.join(known)}")
        if self.labels == "masks" and self.masks is None:
            raise ValueError("labels: masks needs masks, the folder that holds them")
        if self.source != "coco2014" and self.labels in ("csv", "coco") and self.labels_file is None:
            raise ValueError(f"labels: {self.labels} needs labels_file, the path of the file")
        if self.source in ("coco2014", "folder") and self.score_list != self.train_list:
            raise ValueError(
                f"score_list: {self.score_list} is another list than train_list; source: {self.source} scores every "
                f"training image that has a mask, so write {self.train_list}"
            )
        if self.source == "coco2014" and self.masks not in (None, "annotations"):
            raise ValueError(f"masks: {self.masks}: with source: coco2014 write annotations, or null for none")
        if self.source == "folder" and self.masks is not None and not (self.mask_classes or self.classes):
            raise ValueError(
                "masks needs mask_classes, the class names of the mask values 1, 2, ...; without masks write "
                "masks: null"
            )
        return self


class Voc2012Config(Section):
    download: bool
    trainval_url: str
    trainval_md5: str
    sbd_url: str
    sbd_md5: str


class ToyConfig(Section):
    train_images: Positive
    val_images: Positive
    min_side: Annotated[int, Field(ge=64)]
    max_side: Positive
    max_objects: Positive
    scene_bias: Share
    empty_scene: Share
    occlusion: Share
    void_border: Natural

    @model_validator(mode="after")
    def _check(self) -> "ToyConfig":
        if self.max_side < self.min_side:
            raise ValueError(f"max_side {self.max_side} is below min_side {self.min_side}")
        return self


class Optimizer(Section):
    """What the trainings share."""

    optimizer: Literal["sgd", "adam", "adamw"]
    batch_size: Positive
    crop_size: Positive
    learning_rate: PositiveFloat
    head_learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    poly_power: NonNegative
    clip_grad_norm: NonNegative
    amp: Amp


class ClassifierConfig(Optimizer):
    backbone: str
    weights: str
    output_stride: Literal[8, 16, 32]
    freeze_stage: Annotated[int, Field(ge=0, le=4)]
    freeze_norm: bool
    epochs: Positive
    resize_long: IntRange
    diagnosed_images: Natural

    @model_validator(mode="after")
    def _check(self) -> "ClassifierConfig":
        if self.crop_size % self.output_stride:
            raise ValueError(f"crop_size {self.crop_size} is no multiple of output_stride {self.output_stride}")
        _check_range("resize_long", self.resize_long)
        return self


class AmnConfig(Section):
    """The keys that ClassifierConfig has as well overrule it."""

    epochs: Positive
    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: PositiveFloat
    head_learning_rate: PositiveFloat
    dilations: Ints
    dropout: Annotated[float, Field(ge=0, lt=1)]
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    sure_foreground: Annotated[float, Field(gt=0, lt=1)]
    sure_background: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> "AmnConfig":
        _check_sure(self.sure_background, self.sure_foreground)
        return self


class MctformerConfig(Section):
    """The keys that ClassifierConfig has as well overrule it."""

    backbone: str
    weights: str
    epochs: Positive
    batch_size: Positive
    optimizer: Literal["sgd", "adam", "adamw"]
    learning_rate: PositiveFloat
    head_learning_rate: PositiveFloat
    weight_decay: NonNegative
    drop_path: Annotated[float, Field(ge=0, lt=1)]
    attention_layers: Positive


class ClipEsConfig(Section):
    backbone: str
    weights: str
    template: str
    names: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | None
    background: Names
    attention_layers: Positive
    sinkhorn_iterations: Natural
    box_threshold: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> "ClipEsConfig":
        if "{}" not in self.template:
            raise ValueError(f"template {self.template!r} has no {{}} where the class name goes")
        return self


class CpalConfig(Section):
    self_weight: NonNegative
    self_start_epoch: Natural
    features: Annotated[tuple[Annotated[int, Field(ge=1, le=4)], ...], Field(strict=False, min_length=1)]
    projection: Natural
    mask: Literal["threshold", "structure"]
    mask_threshold: Annotated[float, Field(ge=0, lt=1)]
    mask_exclusive: bool
    background_threshold: Annotated[float, Field(ge=0, lt=1)]
    background_from: Literal["present", "all"]
    refinements: Natural
    refined_threshold: Annotated[float, Field(ge=0, lt=1)]
    refined_background: Annotated[float, Field(ge=0, lt=1)]
    bank_length: Positive
    num_prototypes: Positive
    kmeans_iterations: Positive
    metric: Literal["dot", "cosine", "l1", "l2"]
    normalize_features: bool
    normalize_prototypes: bool
    temperature: PositiveFloat
    topk: Natural
    rank_by: Literal["weighted", "cosine", "weight"]
    weighting: Literal["mean", "none", "fuse"]
    align: Literal["ema", "batch", "bank", "none"]
    align_momentum: Annotated[float, Field(ge=0, lt=1)]
    align_strength: NonNegative
    contrast: Contrast
    target_contrast: Contrast
    detach_target: bool
    min_probability: Share

    @model_validator(mode="after")
    def _check(self) -> "CpalConfig":
        if self.topk > self.num_prototypes:
            raise ValueError(f"topk {self.topk} exceeds num_prototypes {self.num_prototypes}")
        if self.projection and self.self_weight == 0:
            raise ValueError("projection learns from L_Self only; set self_weight above 0, or projection to 0")
        if self.num_prototypes > self.bank_length:
            raise ValueError(f"num_prototypes {self.num_prototypes} exceeds bank_length {self.bank_length}")
        return self


class CamConfig(Section):
    long_side: Positive | None
    scales: Floats
    flip: bool
    source: Literal["pacam", "cam", "both", "imported"]
    maps: str
    cam_threshold: Annotated[float, Field(gt=0, lt=1)]
    pacam_threshold: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> "CamConfig":
        if (self.source == "imported") != (self.maps == "data/imported_cams"):
            raise ValueError(
                f"source: {self.source} does not go with maps: {self.maps}; imported with data/imported_cams"
            )
        return self


class CrfConfig(Section):
    iterations: Natural
    unary: Literal["labels", "scores"]
    certainty: Annotated[float, Field(gt=0, lt=1)]
    gaussian_sxy: PositiveFloat
    gaussian_compat: NonNegative
    bilateral_sxy: PositiveFloat
    bilateral_srgb: PositiveFloat
    bilateral_compat: NonNegative


class AffinityConfig(Optimizer):
    method: Literal["none", "irn"]
    sure_background: Annotated[float, Field(gt=0, lt=1)]
    sure_foreground: Annotated[float, Field(gt=0, lt=1)]
    backbone: str
    weights: str
    output_stride: Literal[8, 16, 32]
    epochs: Positive
    scale_range: Range
    radius: Annotated[int, Field(ge=2)]
    start: Literal["seeds", "crf"]
    background: Literal["threshold", "walk"]
    powers: Floats
    walk_radius: Annotated[int, Field(ge=2)]
    walk_steps: Positive
    beta: PositiveFloat

    @model_validator(mode="after")
    def _check(self) -> "AffinityConfig":
        _check_sure(self.sure_background, self.sure_foreground)
        _check_range("scale_range", self.scale_range)
        return self


class PseudoMaskConfig(Section):
    walk_power: PositiveFloat
    background_threshold: Annotated[float, Field(gt=0, lt=1)]
    min_confidence: Share


class SegmentationConfig(Optimizer):
    backbone: str
    weights: str
    output_stride: Literal[8, 16, 32]
    freeze_stage: Annotated[int, Field(ge=0, le=4)]
    freeze_norm: bool
    dilations: Ints
    iterations: Positive
    checkpoint_interval: Positive
    scale_range: Range
    balanced_loss: bool
    test_scales: Floats
    test_flip: bool

    @model_validator(mode="after")
    def _check(self) -> "SegmentationConfig":
        _check_range("scale_range", self.scale_range)
        if self.iterations % self.checkpoint_interval:
            raise ValueError(
                f"iterations {self.iterations} is no multiple of checkpoint_interval {self.checkpoint_interval}"
            )
        return self


class TestCrfConfig(Section):
    iterations: Natural
    gaussian_sxy: PositiveFloat
    gaussian_compat: NonNegative
    bilateral_sxy: PositiveFloat
    bilateral_srgb: PositiveFloat
    bilateral_compat: NonNegative


class EvaluateConfig(Section):
    threshold_step: Annotated[float, Field(gt=0, le=0.5)]


class ReportConfig(Section):
    images: Positive


class Config(Section):
    seed: Natural
    data: DataConfig
    toy: ToyConfig
    voc2012: Voc2012Config
    host: Literal["irn", "amn", "mctformer", "clip_es"]
    classifier: ClassifierConfig
    amn: AmnConfig
    mctformer: MctformerConfig
    clip_es: ClipEsConfig
    cpal: CpalConfig
    cam: CamConfig
    crf: CrfConfig
    affinity: AffinityConfig
    pseudo_mask: PseudoMaskConfig
    segmentation: SegmentationConfig
    test_crf: TestCrfConfig
    evaluate: EvaluateConfig
    report: ReportConfig

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if self.pseudo_mask.walk_power not in self.affinity.powers:
            raise ValueError(
                f"pseudo_mask.walk_power {self.pseudo_mask.walk_power} is none of affinity.powers, which are walked: "
                f"{', '.join(map(str, self.affinity.powers))}"
            )
        return self


def load_config(path: Path) -> Config:
    """Read and check the whole file, YAML 1.2 as DVC reads it.

    Raises UserError that lists every unknown, missing and mistyped key.
    """
    try:
        settings = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run from the project's folder or name one with --params") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path}: holds no settings; restore it with: git checkout params.yaml")
    return parse_config(settings, name=str(path))


def parse_config(settings: dict[str, Any], *, name: str = "params") -> Config:
    """Check settings already read; `name` stands in the message for where they came from."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        problems = error.errors()
        parents = {problem["loc"][:-1] for problem in problems}
        # A list whose items are wrong is also called too short.
        problems = [p for p in problems if p["type"] != "too_short" or p["loc"] not in parents]
        lines = [f"  - {_describe(problem)}" for problem in problems]
        raise UserError("\n".join([f"{name}: {len(lines)} setting(s) to put right:", *lines])) from None


def _describe(problem: Any) -> str:
    """One pydantic problem in a user's words, with the nearest known key."""
    *parents, last = problem["loc"] or ("",)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "extra_forbidden":
        section: Any = Config
        for part in parents:
            section = section.model_fields[part].annotation
        near = difflib.get_close_matches(str(last), list(section.model_fields), n=1)
        return f"{key}: unknown key" + (f" (did you mean '{near[0]}'?)" if near else "")
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}"
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key}: {message}, got {problem['input']!r}"


def _check_sure(background: float, foreground: float) -> None:
    if background > foreground:
        raise ValueError(f"sure_background {background} exceeds sure_foreground {foreground}")


def _check_range(name: str, limits: tuple[float, float]) -> None:
    if limits[0] > limits[1]:
        raise ValueError(f"{name}: the first value {limits[0]} exceeds the second {limits[1]}")
