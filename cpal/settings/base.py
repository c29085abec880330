"""What all sections of params.yaml share: strictness, kinds of values, checks of pairs."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


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


class Section(BaseModel):
    """Settings of one block of params.yaml; their meaning is written there, beside the values."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TrainingSection(Section):
    """The settings that every training has."""

    optimizer: Literal["sgd", "adam", "adamw"]
    batch_size: Positive
    crop_size: Positive
    learning_rate: PositiveFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: NonNegative
    poly_power: NonNegative
    clip_grad_norm: NonNegative
    amp: Amp

    def epoch_steps(self, images: int) -> int:
        """Steps that go once through so many images, but for a last batch that is not full; at least one."""
        return max(1, images // self.batch_size)


class FinetuningSection(TrainingSection):
    """A training that adds new layers to a pretrained network; the new layers have a learning rate of their own."""

    head_learning_rate: PositiveFloat


def check_sure(background: float, foreground: float, *, prefix: str = "sure") -> None:
    if background > foreground:
        raise ValueError(f"{prefix}_background {background} exceeds {prefix}_foreground {foreground}")


def check_range(name: str, limits: tuple[float, float]) -> None:
    if limits[0] > limits[1]:
        raise ValueError(f"{name}: the first value {limits[0]} exceeds the second {limits[1]}")
