"""The public HunyuanVideo releases as data: sizes of their nets and the settings they are sampled with.

All figures and words are those of the public repositories (sections 1, 2, 4, 5 and 6 of the reference). How
their weights are read is in docs/public-weights.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from avatar.adapters.audio_dit import AudioDiT, AudioDiTConfig
from avatar.backbone.causal import Kernel
from avatar.backbone.dit import DiT, DiTConfig
from avatar.backbone.vae_nets import VAEConfig
from avatar.drivers import prompt_encoders
from avatar.drivers.prompt_encoders import Template

FULL: Kernel = (3, 3, 3)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a release is sampled; all of them run time from data at 0 to noise at 1 (`reverse` in the flow).

    Attributes:
        steps: Euler steps.
        shift: of the times towards the noise.
        embedded_guidance: given to the net; None for nets that do not know it.
        guidance: of classifier-free guidance, with two evaluations a step; 1 for none. The audio model's is
            where `avatar.adapters.audio_sampling.guidance_at` starts.
        frames: of a video, or of a window of a long one.
        fps: frames a second.
        image_share: of the picture in the first noise.
        dropped_frames: decoded frames at the start that are not shown.
    """

    steps: int = 50
    shift: float
    embedded_guidance: float | None
    guidance: float = 1.0
    frames: int = 129
    fps: int
    image_share: float = 0.0
    dropped_frames: int = 0


@dataclass(frozen=True, kw_only=True)
class FileNames:
    """Folders of a release as it is published, below one folder that is mostly called `ckpts`."""

    dit: str
    vae: str
    language: str
    clip: str = "text_encoder_2"
    whisper: str | None = None


@dataclass(frozen=True, kw_only=True)
class Release:
    """Nets that were published together, and how they are sampled.

    Attributes:
        template: in which the language model reads a prompt.
        prompt_prefix: put before every prompt.
        negative_prompt: of classifier-free guidance, where the user has none.
    """

    vae: VAEConfig
    dit: DiTConfig
    sampling: Sampling
    files: FileNames
    template: Template
    prompt_prefix: str = ""
    negative_prompt: str

    @property
    def net(self) -> type[DiT]:
        """Class of the DiT."""
        return AudioDiT if isinstance(self.dit, AudioDiTConfig) else DiT


_VAE = VAEConfig(
    widths=(128, 256, 512, 512), kernels=((FULL, FULL),) * 4, layers_per_block=2, scaling_factor=0.476986
)
_SIZES: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "hidden": 3072,
    "heads": 24,
    "double_blocks": 20,
    "single_blocks": 40,
    "rope_channels": (16, 56, 56),
    "text_dim": 4096,
    "pooled_dim": 768,
}

_TEXT_FILES = FileNames(
    dit="hunyuan-video-t2v-720p/transformers", vae="hunyuan-video-t2v-720p/vae", language="text_encoder"
)
_IMAGE_FILES = FileNames(
    dit="hunyuan-video-i2v-720p/transformers", vae="hunyuan-video-i2v-720p/vae", language="text_encoder_i2v"
)
_UNWANTED = (
    "Aerial view, aerial view, overexposed, low quality, deformation, a poor composition, bad hands, "
    "bad teeth, bad eyes, bad limbs, distortion"
)
_UNWANTED_OF_IMAGES = "deformation, a poor composition and deformed video, bad teeth, bad eyes, bad limbs"

TEXT = Release(
    vae=_VAE,
    dit=DiTConfig(**_SIZES, guidance_embed=True),
    sampling=Sampling(shift=7.0, embedded_guidance=6.0, fps=24),
    files=_TEXT_FILES,
    template=prompt_encoders.VIDEO,
    negative_prompt=_UNWANTED,
)
IMAGE = Release(
    vae=_VAE,
    dit=replace(TEXT.dit, clean_first_frame=True),
    sampling=Sampling(shift=7.0, embedded_guidance=6.0, fps=24, image_share=0.001),
    files=_IMAGE_FILES,
    template=prompt_encoders.IMAGE,
    negative_prompt=_UNWANTED_OF_IMAGES,
)
IMAGE_CONCAT = Release(
    vae=_VAE,
    dit=replace(TEXT.dit, condition_channels=17, guidance_embed=False),
    sampling=Sampling(shift=7.0, embedded_guidance=None, fps=24, image_share=0.001, dropped_frames=4),
    files=_IMAGE_FILES,
    template=prompt_encoders.IMAGE_CONCAT,
    negative_prompt=_UNWANTED_OF_IMAGES,
)
AVATAR = Release(
    vae=_VAE,
    dit=AudioDiTConfig(
        **_SIZES,
        speech=(10, 5, 384),
        speech_width=1024,
        tokens_per_frame=4,
        speech_attention=1024,
        speech_blocks=tuple(range(1, 20, 2)),
        motion_values=4,
    ),
    sampling=Sampling(shift=5.0, embedded_guidance=None, guidance=7.5, fps=25),
    files=replace(_TEXT_FILES, language="llava_llama_image", whisper="whisper-tiny"),
    template=prompt_encoders.SPEAKER,
    prompt_prefix="Authentic, Realistic, Natural, High-quality, Lens-Fixed, ",
    negative_prompt=f"{_UNWANTED}, blurring, Lens changes",
)

RELEASES = {
    "hunyuan": TEXT,
    "hunyuan-i2v": IMAGE,
    "hunyuan-i2v-concat": IMAGE_CONCAT,
    "hunyuan-avatar": AVATAR,
}
