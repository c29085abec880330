"""The settings of CPAL itself, and their presets."""

from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cpal.errors import UserError
from cpal.settings.base import BelowOne, Contrast, Few, Positive, Section, Size, Weight
from cpal.settings.yaml_files import parse_yaml


class CpalSettings(Section):
    """The section `cpal` of params.yaml: settings of the learner. params.yaml explains each key."""

    self_weight: Weight
    self_start_epoch: Positive
    features: Annotated[tuple[Annotated[int, Field(ge=1, le=4)], ...], Field(strict=False, min_length=1, max_length=4)]
    projection: Annotated[int, Field(ge=0, le=4096)]
    mask: Literal["threshold", "structure"]
    mask_threshold: BelowOne
    mask_exclusive: bool
    background_threshold: BelowOne
    background_from: Literal["present", "all"]
    refinements: Few
    refined_threshold: BelowOne
    refined_background: BelowOne
    bank_length: Annotated[Size, Field(gt=0)]
    num_prototypes: Annotated[Size, Field(gt=0)]
    kmeans_iterations: Annotated[Few, Field(gt=0)]
    metric: Literal["dot", "cosine", "l1", "l2"]
    normalize_features: bool
    normalize_prototypes: bool
    temperature: Annotated[float, Field(ge=0.01, le=10_000)]  # less makes the weights 0, and their order is lost
    topk: Size
    rank_by: Literal["weighted", "cosine", "weight"]
    weighting: Literal["mean", "none", "fuse"]
    align: Literal["ema", "batch", "instance", "bank", "none"]
    align_momentum: BelowOne
    align_strength: Weight | None
    contrast: Contrast
    target_contrast: Contrast
    detach_target: bool
    min_probability: BelowOne

    @model_validator(mode="after")
    def _check(self) -> "CpalSettings":
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

    @classmethod
    def preset(cls, name: str, **changes: Any) -> "CpalSettings":
        """Settings of the preset `default`, `literal` or `sipe` of this package, with the keys in `changes` replaced.

        `default` has the best scores on photographs, `literal` follows the paper's equations as printed, `sipe` follows
        SIPE, the code that the authors built on. Raises ValueError for an unknown preset or key, and for invalid
        values.
        """
        return cls(**(read_preset(name) | changes))


def read_preset(name: str) -> dict[str, Any]:
    """All values of a preset, by key. Raises UserError if the preset does not exist."""
    files = {file.name.removesuffix(".yaml"): file for file in (resources.files("cpal.settings") / "presets").iterdir()}
    if name not in files:
        raise UserError(f"preset {name!r}: unknown; choose {', '.join(sorted(files))}")
    text = files[name].read_text(encoding="utf-8")
    values: dict[str, Any] = parse_yaml(text, name=f"preset {name}", cure="install this package again")
    return values
