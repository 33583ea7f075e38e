"""What a user can ask of one video."""

from __future__ import annotations

import difflib
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from avatar.errors import UserError
from avatar.media import parse_fps

WhenShort = Literal["hold", "loop", "mirror", "error"]


def _check_face(spec: str) -> str:
    from avatar.drivers.face import parse_choice

    parse_choice(spec)
    return spec


def _exactly(value: Any) -> Fraction | None:
    """A number as the decimal that it is written as: 2.4 is 24/10, which no binary float is."""
    try:
        return None if value is None else Fraction(str(value))
    except ValueError as error:
        raise UserError(f"--seconds {value}: must be a number") from error


class Options(BaseModel):
    """Options of a verb; a wrong value raises a UserError that names it.

    Each kind repeats `__init__`, without which type checkers would want every option and its exact type.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise UserError(_explain(error, type(self))) from error


class DriveOptions(Options):
    """Options of `avatar drive` and `Animator.drive`."""

    seed: int = Field(0, ge=0, lt=2**63, description="same seed, same frames")
    steps: int = Field(1, ge=1, le=100, description="sampling steps")
    guidance: float = Field(1.0, ge=1, le=20, description="classifier-free guidance, 1 is off")
    audio_scale: float = Field(1.0, ge=0, le=3, description="strength of the speech")
    pose_scale: float = Field(1.0, ge=0, le=3, description="strength of the pose on the head")
    expression_scale: float = Field(1.0, ge=0, le=3, description="strength of the expression on the face")
    prompt_scale: float = Field(1.0, ge=0, le=3, description="strength of the prompt")
    prompt_guidance: float = Field(1.25, ge=1, le=5, description="how strictly motion keeps to the prompt")
    negative_prompt: str = Field("", description="what is not to happen")
    when_short: WhenShort = Field("hold", description="what a driver does that ends before the speech")
    head_motion: float = Field(1.0, ge=0, le=3, description="amount of head sway")
    expressiveness: float = Field(1.0, ge=0, le=3, description="amount of brow and eye motion")
    fps: Annotated[Fraction, BeforeValidator(lambda rate: parse_fps(str(rate)))] = Field(
        Fraction(25), description="frames a second; a video that is dubbed keeps its own"
    )
    size: int | None = Field(None, ge=64, le=2160, description="long side of the video in px")
    face: Annotated[str, BeforeValidator(_check_face)] = Field(
        "largest", description="who moves: largest, N or x,y,w,h"
    )
    ref_time: float | None = Field(
        None, ge=0, description="seconds into a video: that frame is the picture, and is not dubbed"
    )
    seconds: Annotated[Fraction | None, BeforeValidator(_exactly)] = Field(
        None, gt=0, description="make only the first seconds"
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class SoundtrackOptions(Options):
    """Options of `avatar soundtrack` and `Soundtrack.score`."""

    prompt: str | None = Field(None, description="what is to be heard; else the picture alone says")
    negative_prompt: str | None = Field(None, description="what is not to be heard")
    seed: int = Field(0, ge=0, lt=2**63, description="of the noise that the sound begins as")
    steps: int = Field(16, ge=1, le=1000, description="from noise to sound; more is finer and slower")
    guidance: float = Field(3.0, ge=1, le=20, description="how closely picture and prompt are followed")
    level: float = Field(-18.0, ge=-60, le=20, description="loudness under speech, LU relative to it")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


def _explain(error: ValidationError, kind: type[Options]) -> str:
    """One line for the first thing wrong."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, kind.model_fields, 1, 0.0)[0]
        return f"unknown option {name!r}, did you mean {near!r}?"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    allowed = first["msg"].replace("Input should be ", "")
    return f"--{name.replace('_', '-')} {first['input']}: must be {allowed}"
