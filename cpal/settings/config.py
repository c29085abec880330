"""params.yaml as frozen, checked settings. Every problem of the file is reported at once."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cpal.errors import UserError
from cpal.settings.base import (
    Contrast,
    Floats,
    IntRange,
    Ints,
    Names,
    Natural,
    NonNegative,
    Positive,
    PositiveFloat,
    Range,
    Section,
    Share,
    TrainingSection,
    check_range,
    check_sure,
)
from cpal.settings.data import DataConfig, ToyConfig, Voc2012Config


class ClassifierConfig(TrainingSection):
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
        check_range("resize_long", self.resize_long)
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
        check_sure(self.sure_background, self.sure_foreground)
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
    align: Literal["ema", "batch", "instance", "bank", "none"]
    align_momentum: Annotated[float, Field(ge=0, lt=1)]
    align_strength: NonNegative | None
    contrast: Contrast
    target_contrast: Contrast
    detach_target: bool
    min_probability: Share

    @model_validator(mode="after")
    def _check(self) -> "CpalConfig":
        if self.topk > self.num_prototypes:
            raise ValueError(f"topk {self.topk} exceeds num_prototypes {self.num_prototypes}")
        if self.projection and (self.self_weight == 0 or self.detach_target):
            raise ValueError(
                "projection learns from the target of L_Self only; set self_weight above 0 and detach_target: false, "
                "or projection to 0"
            )
        if self.num_prototypes > self.bank_length:
            raise ValueError(f"num_prototypes {self.num_prototypes} exceeds bank_length {self.bank_length}")
        return self


class TaughtCamConfig(Section):
    decay: NonNegative
    sure_background: Annotated[float, Field(gt=0, lt=1)]
    sure_foreground: Annotated[float, Field(gt=0, lt=1)]
    images: Positive
    cells: Positive
    crf_rounds: Natural
    crf_background: Annotated[float, Field(gt=0, lt=1)]
    crf_foreground: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> "TaughtCamConfig":
        check_sure(self.sure_background, self.sure_foreground)
        check_sure(self.crf_background, self.crf_foreground, prefix="crf")
        return self


class CamConfig(Section):
    long_side: Positive | None
    scales: Floats
    flip: bool
    source: Literal["taught", "pacam", "cam", "both", "imported"]
    maps: str
    cam_threshold: Annotated[float, Field(gt=0, lt=1)]
    pacam_threshold: Annotated[float, Field(gt=0, lt=1)]
    taught_threshold: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> "CamConfig":
        if (self.source == "imported") != (self.maps == "data/imported_cams"):
            raise ValueError(
                f"source: {self.source} does not go with maps: {self.maps}; imported with data/imported_cams"
            )
        return self


class Pairwise(Section):
    """DenseCRF's iterations and what pairs of pixels cost."""

    iterations: Natural
    gaussian_sxy: PositiveFloat
    gaussian_compat: NonNegative
    bilateral_sxy: PositiveFloat
    bilateral_srgb: PositiveFloat
    bilateral_compat: NonNegative


class CrfConfig(Pairwise):
    unary: Literal["labels", "scores"]
    certainty: Annotated[float, Field(gt=0, lt=1)]


class AffinityConfig(TrainingSection):
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
        check_sure(self.sure_background, self.sure_foreground)
        check_range("scale_range", self.scale_range)
        return self


class PseudoMaskConfig(Section):
    walk_power: PositiveFloat
    background_threshold: Annotated[float, Field(gt=0, lt=1)]
    min_confidence: Share


class SegmentationConfig(TrainingSection):
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
        check_range("scale_range", self.scale_range)
        if self.iterations % self.checkpoint_interval:
            raise ValueError(
                f"iterations {self.iterations} is no multiple of checkpoint_interval {self.checkpoint_interval}"
            )
        return self


class FinalCrfConfig(Pairwise):
    """Over the segmentation model's probabilities."""


class EvaluateConfig(Section):
    threshold_step: Annotated[float, Field(gt=0, le=0.5)]


class ReportConfig(Section):
    images: Positive


class Config(Section):
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # as numpy's
    data: DataConfig
    toy: ToyConfig
    voc2012: Voc2012Config
    host: Literal["irn", "amn", "mctformer", "clip_es"]
    classifier: ClassifierConfig
    amn: AmnConfig
    mctformer: MctformerConfig
    clip_es: ClipEsConfig
    cpal: CpalConfig
    taught_cam: TaughtCamConfig
    cam: CamConfig
    crf: CrfConfig
    affinity: AffinityConfig
    pseudo_mask: PseudoMaskConfig
    segmentation: SegmentationConfig
    test_crf: FinalCrfConfig
    evaluate: EvaluateConfig
    report: ReportConfig

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if self.cam.source == "taught" and self.taught_cam.decay == 0:
            raise ValueError("cam.source: taught needs taught_cam.decay above 0; or choose pacam")
        if self.cpal.min_probability and self.host != "irn":
            raise ValueError(
                f"cpal.min_probability reads the CAM's mean, which is no logit with host: {self.host}; set it to 0"
            )
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
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return f"{key}: {message}, got {problem['input']!r}"
