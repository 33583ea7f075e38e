"""The generator of a preset: a DiT that redraws the driven reference, and the adapter that lets it hear
the speech.

What the net predicts is the difference between the clean latents and those of the driven reference, so the
untrained net gives the driven reference itself and learns only what geometry cannot say: the inside of the
mouth, shading, lids, what comes into view. Shape legend: B batch, T latent frames, h w latent height and
width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.adapters.audio import AudioAdapter, AudioAdapterConfig
from avatar.backbone.dit import TIME_SCALE, DiT, DiTConfig

GROUP = 4  # video frames behind a latent frame


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of the two nets of a `Generator`."""

    dit: DiTConfig
    audio: AudioAdapterConfig


class Conditions(NamedTuple):
    """What a window of latents is generated from.

    Attributes:
        reference: (B, 16, 1, h, w), latents of the reference picture.
        driven: (B, 16, T, h, w), latents of the driven reference.
        hole: (B, 4, T, h, w), share of each cell, frame by frame, that the mouth's hole covers (see
        `hole_cells`). face: (B, 1, h, w), share of each cell that the reference's face covers.
        motion: (B, 2), head motion and expressiveness in percent of the face height.
        audio: (B, T, 4, 10, d), Whisper features as `avatar.adapters.audio.align` gives them; None for no
        sound.
    """

    reference: Tensor
    driven: Tensor
    hole: Tensor
    face: Tensor
    motion: Tensor
    audio: Tensor | None


class Generator(nn.Module):
    """Predicts clean latents from noisy ones and `Conditions`."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.dit = DiT(config.dit)
        self.audio = AudioAdapter(config.audio)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        given: Conditions,
        audio_scale: float | Tensor = 1.0,
        drop: Tensor | None = None,
    ) -> Tensor:
        """Clean latents (B, 16, T, h, w).

        Args:
            x: (B, 16, T, h, w), latents at `time` (B,), 0 noise to 1 clean.
            audio_scale: strength of the speech, a number or (B or 1, T).
            drop: (B,), True for samples whose sound is withheld.
        """
        reference = given.reference.expand_as(given.driven)
        condition = torch.cat([reference, given.driven, given.hole], dim=1)
        mask = given.face[:, :, None].expand(-1, -1, x.shape[2], -1, -1)
        adapter = self.audio.bind(given.audio, mask, audio_scale, drop)
        change = self.dit(
            x, TIME_SCALE * time, condition, scalars=given.motion / MOTION_RANGE, adapters=[adapter]
        )
        return given.driven + change


MOTION_RANGE = 10.0  # percent of the face height that counts as 1


def hole_cells(hole: Tensor, cells: int) -> Tensor:
    """Masks (T, H, W) of 4n + 1 frames to shares (4, n + 1, cells, cells)."""
    return group(F.adaptive_avg_pool2d(hole[None], cells)[0], True).transpose(0, 1)


def group(values: Tensor, start: bool) -> Tensor:
    """Values of frames (T, ...) by latent frame (t, 4, ...); a clip's first frame fills its latent frame
    alone.

    Args:
        start: whether the clip starts here.
    """
    if start:
        values = torch.cat([values[:1].expand(GROUP - 1, *values.shape[1:]), values])
    return values.unflatten(0, (-1, GROUP))


def face_window(face: Tensor, side: int) -> tuple[int, int]:
    """Row and column where a square of `side` cells around the face begins; `face` (cells, cells) is its
    mask."""
    cells = face.shape[-1]
    inside = face > 0.5
    middle = [torch.nonzero(inside.any(axis))[[0, -1]].float().mean() for axis in (1, 0)]
    return tuple(int(min(max(round(float(m) + 0.5 - side / 2), 0), cells - side)) for m in middle)  # type: ignore[return-value]
