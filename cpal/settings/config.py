"""Reads params.yaml into frozen, checked settings, and reports all problems of the file at once."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from cpal.errors import UserError
from cpal.settings.base import (
    BelowOne,
    Dilations,
    Few,
    FinetuningSection,
    Positive,
    Power,
    Powers,
    Radius,
    ScaleRange,
    Scales,
    Section,
    Share,
    Side,
    TrainingSection,
    Weight,
    Width,
    check_range,
    check_sure,
)
from cpal.settings.cpal import CpalSettings
from cpal.settings.data import DataConfig, ToyConfig, Voc2012Config
from cpal.settings.hosts import HostsConfig, HostSection, TrainedHost
from cpal.settings.moved import moved_lines
from cpal.settings.yaml_files import read_yaml

NO_SETTINGS = "no such file; run from the project's folder or name one with --params"
RESTORE = "put it right, or restore the default with: git checkout params.yaml"
LONGEST = 8192  # side of a view, in pixels: eight times the side of a one-megapixel photograph


class TaughtCamConfig(Section):
    decay: Weight
    sure_background: Annotated[float, Field(gt=0, lt=1)]
    sure_foreground: Annotated[float, Field(gt=0, lt=1)]
    images: Positive
    cells: Positive
    crf_rounds: Few
    crf_background: Annotated[float, Field(gt=0, lt=1)]
    crf_foreground: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> "TaughtCamConfig":
        check_sure(self.sure_background, self.sure_foreground)
        check_sure(self.crf_background, self.crf_foreground, prefix="crf")
        return self


class CamConfig(Section):
    """The views of an image that the trained network sees."""

    long_side: Side | None
    scales: Scales
    flip: bool

    @model_validator(mode="after")
    def _check(self) -> "CamConfig":
        largest = max(self.scales)
        if self.long_side is not None and self.long_side * largest > LONGEST:
            raise ValueError(
                f"long_side {self.long_side} times the scale {largest} is more than {LONGEST} pixels; lower one of them"
            )
        return self


class SeedsConfig(Section):
    source: Literal["taught", "pacam", "cam", "both", "imported"]
    maps: Literal["data/cams", "data/imported_cams"]
    cam_threshold: Annotated[float, Field(gt=0, lt=1)]
    pacam_threshold: Annotated[float, Field(gt=0, lt=1)]
    taught_threshold: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check(self) -> "SeedsConfig":
        if (self.source == "imported") != (self.maps == "data/imported_cams"):
            raise ValueError(
                f"source: {self.source} does not go with maps: {self.maps}; imported with data/imported_cams"
            )
        return self


class Pairwise(Section):
    """Number of iterations and pairwise energies of a DenseCRF."""

    iterations: Few
    gaussian_sxy: Width
    gaussian_compat: Weight
    bilateral_sxy: Width
    bilateral_srgb: Width
    bilateral_compat: Weight


class CrfConfig(Pairwise):
    unary: Literal["labels", "scores"]
    certainty: Annotated[float, Field(gt=0.5, lt=1)]  # below 1 / classes, the CRF would draw the opposite


class AffinityConfig(TrainingSection):
    method: Literal["none", "irn"]
    sure_background: Annotated[float, Field(gt=0, lt=1)]
    sure_foreground: Annotated[float, Field(gt=0, lt=1)]
    backbone: str
    weights: str
    output_stride: Literal[8, 16, 32]
    epochs: Positive
    scale_range: ScaleRange
    radius: Radius

    @model_validator(mode="after")
    def _check(self) -> "AffinityConfig":
        check_sure(self.sure_background, self.sure_foreground)
        check_range("scale_range", self.scale_range)
        return self


class WalkConfig(Section):
    start: Literal["seeds", "crf"]
    background: Literal["threshold", "walk"]
    powers: Powers
    radius: Radius
    steps: Positive
    beta: Power


class PseudoMaskConfig(Section):
    walk_power: Power
    background_threshold: Annotated[float, Field(gt=0, lt=1)]
    min_confidence: Share
    unsure_background: Share | None
    corrected: bool


class SegmentationConfig(FinetuningSection):
    backbone: str
    weights: str
    output_stride: Literal[8, 16, 32]
    freeze_stage: Annotated[int, Field(ge=0, le=4)]
    freeze_norm: bool
    head: Literal["deeplabv2", "deeplabv3plus"]
    head_channels: Annotated[int, Field(gt=0, le=4096, multiple_of=16)]  # groups of 16 are normalized together
    dilations: Dilations
    image_head: Weight
    image_cut: BelowOne
    color_jitter: BelowOne
    average: BelowOne
    iterations: Positive
    checkpoint_interval: Positive
    scale_range: ScaleRange
    balanced_loss: bool

    @model_validator(mode="after")
    def _check(self) -> "SegmentationConfig":
        check_range("scale_range", self.scale_range)
        if self.iterations % self.checkpoint_interval:
            least = next(n for n in range(self.checkpoint_interval, 0, -1) if self.iterations % n == 0)
            raise ValueError(
                f"iterations {self.iterations} is no multiple of checkpoint_interval {self.checkpoint_interval}; "
                f"set checkpoint_interval to {least}"
            )
        return self


class FinalTestConfig(Section):
    """How the segmentation model labels an image: the views of the image, a DenseCRF on the probabilities, and how
    sure it says it is."""

    scales: Scales
    flip: bool
    temperature: Annotated[float, Field(ge=0.1, le=10)]
    crf: Pairwise


class EvaluateConfig(Section):
    threshold_step: Annotated[float, Field(ge=0.001, le=0.5)]  # each threshold takes a confusion matrix
    train_images: Positive | None


class ReportConfig(Section):
    images: Annotated[int, Field(gt=0, le=5000)]  # a browser holds up to eight pictures of each


class Config(Section):
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's range
    data: DataConfig
    toy: ToyConfig
    voc2012: Voc2012Config
    host: str
    hosts: HostsConfig
    cpal: CpalSettings
    taught_cam: TaughtCamConfig
    cam: CamConfig
    seeds: SeedsConfig
    crf: CrfConfig
    affinity: AffinityConfig
    walk: WalkConfig
    pseudo_mask: PseudoMaskConfig
    segmentation: SegmentationConfig
    final_test: FinalTestConfig
    evaluate: EvaluateConfig
    report: ReportConfig

    @model_validator(mode="after")
    def _check(self) -> "Config":
        if self.host not in HostsConfig.model_fields:
            raise ValueError(f"host: {self.host} is unknown; choose {', '.join(HostsConfig.model_fields)}")
        if self.seeds.source == "taught" and self.taught_cam.decay == 0:
            raise ValueError("seeds.source: taught needs taught_cam.decay above 0; or choose pacam")
        if self._constant_among_ratios:
            raise ValueError(
                "walk.background: threshold, with walk.start: seeds, needs maps that are near 0 on background, and "
                f"PACAM with cpal.contrast: {self.cpal.contrast} is near 0.5 there; set walk.background: walk"
            )
        if self.pseudo_mask.walk_power not in self.walk.powers:
            raise ValueError(
                f"pseudo_mask.walk_power {self.pseudo_mask.walk_power} is none of walk.powers, which are walked: "
                f"{', '.join(map(str, self.walk.powers))}"
            )
        return self

    @property
    def _constant_among_ratios(self) -> bool:
        """Whether a constant background would compete with maps that are high on background too."""
        walks = self.affinity.method == "irn" and (self.walk.start, self.walk.background) == ("seeds", "threshold")
        return walks and self.seeds.source in ("pacam", "both") and self.cpal.contrast in ("ratio", "normalized")

    @property
    def chosen_host(self) -> HostSection:
        """The section of the host that `host` names."""
        return self.hosts.named(self.host)

    @property
    def trainings(self) -> dict[str, TrainingSection]:
        """The sections of the trainings that a run of the whole pipeline makes, by key."""
        sections: dict[str, TrainingSection] = {"segmentation": self.segmentation}
        if self.affinity.method == "irn":
            sections["affinity"] = self.affinity
        if isinstance(self.chosen_host, TrainedHost):
            sections[f"hosts.{self.host}"] = self.chosen_host
        if self.chosen_host.first_round:
            sections["hosts.irn"] = self.hosts.irn
        return sections


def load_config(path: Path) -> Config:
    """Read and check params.yaml.

    Raises UserError that lists every unknown, missing and invalid key.
    """
    settings = read_yaml(path, missing=NO_SETTINGS, cure=RESTORE)
    if not isinstance(settings, dict):
        raise UserError(f"{path}: holds no settings; {RESTORE}")
    return parse_config(settings, name=str(path))


def parse_config(settings: dict[str, Any], *, name: str = "params") -> Config:
    """Check settings that are already read; the message names `name` as their source. Raises as `load_config`."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        problems = error.errors()
        parents = {problem["loc"][:-1] for problem in problems}
        # pydantic also reports a list with invalid items as too short.
        problems = [p for p in problems if p["type"] != "too_short" or p["loc"] not in parents]
        lines = [f"  - {line}" for problem in problems for line in _describe(problem)]
        raise UserError("\n".join([f"{name}: {len(lines)} setting(s) to put right:", *lines])) from None


def _describe(problem: Any) -> list[str]:
    """Message lines for one pydantic problem, with the nearest known key; an old section gives a line for each key."""
    *parents, last = problem["loc"] or ("",)
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    if problem["type"] == "extra_forbidden":
        if lines := moved_lines(key, problem["input"]):
            return lines
        section: Any = Config
        for part in parents:
            section = section.model_fields[part].annotation
        near = difflib.get_close_matches(str(last), list(section.model_fields), n=1)
        return [f"{key}: unknown key" + (f" (did you mean '{near[0]}'?)" if near else "")]
    if problem["type"] == "missing":
        return [f"{key}: missing"]
    if problem["type"] == "value_error":
        return [f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])]
    message = problem["msg"][0].lower() + problem["msg"][1:]
    return [f"{key}: {message}, got {_shown(problem['input'])}"]


def _shown(value: Any) -> str:
    """A value as Python writes it, cut to 200 characters."""
    try:
        shown = repr(value)
    except ValueError:  # Python refuses to write numbers of more than 4,300 digits, such as a long 0xfff...
        return "a number of thousands of digits"
    return shown if len(shown) <= 200 else f"{shown[:200]} ..."
