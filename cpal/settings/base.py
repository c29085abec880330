"""Base classes, value types and checks that all sections of params.yaml share."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for n, name in enumerate(names) if name in names[:n]]:
        raise ValueError(f"names {', '.join(twice)} twice")
    return names


# Value types. The bounds are wide: values beyond them crash a library, exhaust the memory, or cannot work.
Positive = Annotated[int, Field(gt=0, le=10**9)]
Natural = Annotated[int, Field(ge=0, le=10**9)]
Batch = Annotated[int, Field(gt=0, le=4096)]
Few = Annotated[int, Field(ge=0, le=1000)]  # rounds or iterations; each processes all pixels
Size = Annotated[int, Field(ge=0, le=100_000)]  # entries of a table in memory; 100,000 for 21 classes take 17 GB
Side = Annotated[int, Field(ge=16, le=8192)]  # side of an image, in pixels
Scale = Annotated[float, Field(ge=0.05, le=8)]  # factor for the sides of an image
Width = Annotated[float, Field(ge=0.1, le=10_000)]  # of a CRF's Gaussian; pydensecrf overruns its memory up to 1e-6
Dilation = Annotated[int, Field(gt=0, le=256)]
Radius = Annotated[int, Field(ge=2, le=32)]  # in cells; time and memory grow with its square
Rate = Annotated[float, Field(gt=0, le=100)]  # learning rate; torch refuses values above 3.4e38
Weight = Annotated[float, Field(ge=0, le=10**6)]  # of a term in a sum; pydensecrf turns values above 3.4e38 into NaN
Power = Annotated[float, Field(ge=0.001, le=10_000)]
Temperature = Annotated[float, Field(ge=1e-4, le=10_000)]  # division by 1e-39 gives no finite number
Share = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Scales = Annotated[tuple[Scale, ...], Field(strict=False, min_length=1, max_length=32)]
Powers = Annotated[tuple[Power, ...], Field(strict=False, min_length=1, max_length=32)]
Dilations = Annotated[tuple[Dilation, ...], Field(strict=False, min_length=1, max_length=32)]
Names = Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=254), AfterValidator(_distinct)]
ScaleRange = Annotated[tuple[Scale, Scale], Field(strict=False)]
SideRange = Annotated[tuple[Side, Side], Field(strict=False)]
Amp = Literal["off", "bf16", "fp16"]
Contrast = Literal["none", "difference", "ratio", "normalized"]


class Section(BaseModel):
    """Settings of one block of params.yaml, which explains each key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TrainingSection(Section):
    """Settings that every training has."""

    optimizer: Literal["sgd", "adam", "adamw"]
    batch_size: Batch
    accumulate: Batch
    crop_size: Side
    learning_rate: Rate
    momentum: BelowOne
    weight_decay: Weight
    poly_power: Weight
    clip_grad_norm: Weight
    amp: Amp

    @model_validator(mode="after")
    def _check_accumulate(self) -> "TrainingSection":
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is no multiple of accumulate {self.accumulate}")
        return self

    def uneven(self, processes: int) -> str | None:
        """Why this many processes cannot share a batch, and what to do; None if they can."""
        if self.batch_size % (processes * self.accumulate) == 0:
            return None
        parts = f"{processes} processes" + (f" in {self.accumulate} parts each" if self.accumulate > 1 else "")
        return f"batch_size {self.batch_size} cannot be shared by {parts}; take a multiple"

    def epoch_steps(self, images: int) -> int:
        """Number of batches in an epoch of this many images, without an incomplete last batch; at least 1."""
        return max(1, images // self.batch_size)


class FinetuningSection(TrainingSection):
    """A training that adds new layers to a pretrained network; the new layers have their own learning rate."""

    head_learning_rate: Rate


def check_sure(background: float, foreground: float, *, prefix: str = "sure") -> None:
    if background > foreground:
        raise ValueError(f"{prefix}_background {background} exceeds {prefix}_foreground {foreground}")


def check_range(name: str, limits: tuple[float, float]) -> None:
    if limits[0] > limits[1]:
        raise ValueError(f"{name}: the first value {limits[0]} exceeds the second {limits[1]}")
