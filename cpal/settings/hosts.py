"""The section `hosts` of params.yaml: for each host network, all settings that build and train it."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from cpal.settings.base import (
    BelowOne,
    Dilations,
    Few,
    FinetuningSection,
    Names,
    Natural,
    Positive,
    Section,
    SideRange,
    check_range,
    check_sure,
)


class HostSection(Section):
    """Settings that every host has, also one that learns nothing.

    `name` is the host's key in params.yaml. A host with `first_round` learns from the labels of a first round.
    """

    name: ClassVar[str]
    first_round: ClassVar[bool] = False

    backbone: str
    weights: str
    resize_long: SideRange
    diagnosed_images: Natural

    @model_validator(mode="after")
    def _check_sizes(self) -> "HostSection":
        check_range("resize_long", self.resize_long)
        return self


class TrainedHost(HostSection, FinetuningSection):
    """A host that learns from the image-level labels."""

    epochs: Positive


class BackboneSection(TrainedHost):
    """A host that is a classifier on a convolutional backbone."""

    output_stride: Literal[8, 16, 32]
    freeze_stage: Annotated[int, Field(ge=0, le=4)]
    freeze_norm: bool

    @model_validator(mode="after")
    def _check_stride(self) -> "BackboneSection":
        if self.crop_size % self.output_stride:
            raise ValueError(f"crop_size {self.crop_size} is no multiple of output_stride {self.output_stride}")
        return self


class IrnConfig(BackboneSection):
    name = "irn"


class AmnConfig(BackboneSection):
    name = "amn"
    first_round = True

    dilations: Dilations
    dropout: BelowOne
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)]  # at 0.5 a label says nothing
    sure_foreground: Annotated[float, Field(gt=0, lt=1)]
    sure_background: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _check_sure(self) -> "AmnConfig":
        check_sure(self.sure_background, self.sure_foreground)
        return self


class MctformerConfig(TrainedHost):
    name = "mctformer"

    drop_path: BelowOne
    attention_layers: Positive


class ClipEsConfig(HostSection):
    name = "clip_es"

    template: str
    names: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=254)] | None
    background: Names
    attention_layers: Positive
    sinkhorn_iterations: Few
    box_threshold: BelowOne

    @model_validator(mode="after")
    def _check_template(self) -> "ClipEsConfig":
        if "{}" not in self.template:
            raise ValueError(f"template {self.template!r} has no {{}} where the class name goes")
        if set("{}") & set(self.template.replace("{}", "", 1)):
            raise ValueError(f"template {self.template!r} has other braces than one {{}}; leave them away")
        return self


class HostsConfig(Section):
    irn: IrnConfig
    amn: AmnConfig
    mctformer: MctformerConfig
    clip_es: ClipEsConfig

    def named(self, name: str) -> HostSection:
        section: HostSection = dict(self)[name]
        return section
