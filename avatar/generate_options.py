"""What a user can ask of a generated video; the names are those of HunyuanVideo's own command line."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from avatar.errors import UserError
from avatar.options import Options

CELL = 16  # px, what one token is wide; sizes are rounded up to it
Resolution = Literal["720p", "540p", "360p"]


def _whole_groups(frames: int) -> int:
    if (frames - 1) % 4:
        near = (frames - 1) // 4 * 4 + 1
        raise UserError(f"--video-length {frames}: must be 4n + 1, for example {near} or {near + 4}")
    return frames


def _rounded(size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, width = size
    if not all(64 <= side <= 4096 for side in size):
        raise UserError(f"--video-size {height} {width}: each side must be 64 to 4096 px, the height first")
    return -(-height // CELL) * CELL, -(-width // CELL) * CELL


class GenerateOptions(Options):
    """Options of `avatar generate` and `VideoPipeline`; None stands for what the release is sampled with."""

    video_size: Annotated[tuple[int, int] | None, AfterValidator(_rounded)] = Field(
        None, description="height and width in px; 720 1280, or by --i2v-resolution and the picture"
    )
    video_length: Annotated[int, Field(ge=1, le=1281), AfterValidator(_whole_groups)] = Field(
        129, description="frames, 4n + 1"
    )
    infer_steps: int = Field(50, ge=1, le=1000, description="sampling steps")
    embedded_cfg_scale: float | None = Field(
        None, ge=0, le=100, description="guidance that the net was distilled with"
    )
    cfg_scale: float = Field(
        1.0, ge=1, le=100, description="classifier-free guidance, two evaluations a step; 1 is off"
    )
    neg_prompt: str | None = Field(None, description="what the guidance leads away from")
    guidance_rescale: float = Field(
        0.0, ge=0, le=1, description="share of the guidance's contrast that is taken back"
    )
    flow_shift: float | None = Field(None, gt=0, le=100, description="shift of the times towards the noise")
    flow_reverse: bool = Field(True, description="time runs from noise at 1 to data at 0, as released")
    i2v_resolution: Resolution = Field("720p", description="size of a video that begins with a picture")
    i2v_stability: bool = Field(True, description="a little of the picture in the noise of every frame")
    num_videos: int = Field(1, ge=1, le=1000, description="videos, each with the next seed")
    seed: int = Field(0, ge=0, lt=2**62, description="same seed, same frames")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
