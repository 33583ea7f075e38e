"""What a user can ask of a generated video; the names are those of HunyuanVideo's own command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, Field

from avatar.errors import UserError
from avatar.options import Options

CELL = 16  # px, what one token is wide; sizes are rounded up to it
NO_POSE = "--pose: the public weights know no poses, give an adapter trained for them by --pose-adapter FILE"
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


@dataclass(frozen=True, kw_only=True)
class NetOptions:
    """Which nets, and how they run.

    Attributes:
        weights: folder of the public weights.
        preset: of `avatar.releases`.
        device: one of `avatar.device.DEVICES`.
        dtype: numbers of the DiT: bf16, fp16 or fp32.
        offload: only the net at work is on the device.
        loras: LoRA files and their strengths.
        dit_weight: another file or folder of the DiT.
        fp8: read the DiT's 8-bit file.
        quantise: keep the weights of the DiT's blocks in 8 bits: int8 or fp8.
        block_offload: the DiT's blocks stay in their file, and each is read when it runs.
        step_cache: share of change under which a step of the sampler skips all blocks but the first; None
            for all steps whole.
        pose_adapter: file of a trained pose adapter.
    """

    weights: Path
    preset: str
    device: str = "auto"
    dtype: str = "bf16"
    offload: bool = False
    loras: tuple[tuple[Path, float], ...] = ()
    dit_weight: Path | None = None
    fp8: bool = False
    quantise: Literal["int8", "fp8"] | None = None
    block_offload: bool = False
    step_cache: float | None = None
    pose_adapter: Path | None = None

    def __post_init__(self) -> None:
        if self.step_cache is not None and not 0 < self.step_cache <= 1:
            raise UserError(
                f"--step-cache {self.step_cache:g}: must be above 0 and at most 1, 0.1 is careful"
            )
        if self.block_offload:
            changed = {"--lora": self.loras, "--quantise": self.quantise, "--use-fp8": self.fp8}
            for flag in (flag for flag, value in changed.items() if value):
                raise UserError(
                    f"{flag}: changes the weights, which --block-offload reads as they are in the file; "
                    "leave one of them out"
                )


class Wish(NamedTuple):
    """A prompt, and how it is rewritten.

    Attributes:
        prompt: in any language, if something rewrites it that knows languages.
        rewrite: `none`, `rules`, `url` or the folder of a chat model; None is `url` where there is one.
        url: OpenAI-compatible address.
        model: its name there.
    """

    prompt: str
    rewrite: str | None = None
    url: str | None = None
    model: str = "default"


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
    pose_scale: float = Field(1.0, ge=0, le=3, description="strength of the pose")
    i2v_resolution: Resolution = Field("720p", description="size of a video that begins with a picture")
    i2v_stability: bool = Field(True, description="a little of the picture in the noise of every frame")
    num_videos: int = Field(1, ge=1, le=1000, description="videos, each with the next seed")
    seed: int = Field(0, ge=0, lt=2**62, description="same seed, same frames")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class SpeakOptions(Options):
    """Options of `avatar drive --preset hunyuan-avatar` and `SpeakerPipeline`."""

    prompt: str = Field("A person speaks to the camera.", description="what is to be seen")
    neg_prompt: str | None = Field(None, description="what the guidance leads away from")
    image_size: int = Field(704, ge=64, le=1280, description="short side of the video in px")
    infer_steps: int = Field(50, ge=1, le=1000, description="sampling steps")
    cfg_scale: float = Field(
        7.5, ge=1, le=100, description="guidance of the first step, two evaluations a step; 1 is off"
    )
    flow_shift: float | None = Field(None, gt=0, le=100, description="shift of the times towards the noise")
    head_motion: float = Field(1.0, ge=0, le=3, description="amount of head motion")
    expressiveness: float = Field(1.0, ge=0, le=3, description="amount of expression")
    face: str = Field("largest", description="which face speaks: largest, N or x,y,w,h")
    seconds: float | None = Field(None, gt=0, description="make only the first seconds")
    seed: int = Field(0, ge=0, lt=2**62, description="same seed, same frames")

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
