"""The generator of a preset: a DiT that redraws the driven reference, and the adapters that tell it of
speech, expression and pose.

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
from avatar.adapters.expression import ExpressionAdapter, ExpressionAdapterConfig
from avatar.adapters.pose import PoseAdapter
from avatar.backbone.dit import TIME_SCALE, DiT, DiTConfig

GROUP = 4  # video frames behind a latent frame


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Sizes of the nets of a `Generator`."""

    dit: DiTConfig
    audio: AudioAdapterConfig
    expression: ExpressionAdapterConfig


class Conditions(NamedTuple):
    """What a window of latents is generated from.

    Attributes:
        reference: (B, 16, 1, h, w), latents of the reference picture.
        driven: (B, 16, T, h, w), latents of the driven reference.
        hole: (B, 4, T, h, w), share of each cell, frame by frame, that the mouth's hole covers (see
            `hole_cells`).
        face: (B, 1, h, w), share of each cell that the reference's face covers.
        motion: (B, 2), head motion and expressiveness in percent of the face height.
        known: (B, 17, T, h, w), latents of the frames that are given beforehand, 0 elsewhere, and a mask that
            is 1 there; None where no frame is (section 2.6 of the design).
        audio: (B, T, 4, 10, d), Whisper features as `avatar.adapters.audio.align` gives them; None for no
            sound.
        codes: (B, T, 4, c), codes of a driving face; None for no expression.
        listening: (B, 1, T, h, w), share of each cell that follows the codes; None for `face`.
        pose: (B, 16, T, h, w), latents of the skeleton video; None for no pose.
    """

    reference: Tensor
    driven: Tensor
    hole: Tensor
    face: Tensor
    motion: Tensor
    known: Tensor | None = None
    audio: Tensor | None = None
    codes: Tensor | None = None
    listening: Tensor | None = None
    pose: Tensor | None = None


class Strengths(NamedTuple):
    """How much each signal counts: numbers, or one for each latent frame, (B or 1, T). 0 is as without it."""

    audio: float | Tensor = 1.0
    expression: float | Tensor = 1.0
    pose: float | Tensor = 1.0


FULL = Strengths()


class Generator(nn.Module):
    """Predicts clean latents from noisy ones and `Conditions`."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.dit = DiT(config.dit)
        self.audio = AudioAdapter(config.audio)
        self.expression = ExpressionAdapter(config.expression)
        self.pose = PoseAdapter(
            config.dit.in_channels, config.dit.in_channels + config.dit.condition_channels
        )

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        given: Conditions,
        strengths: Strengths = FULL,
        drop: Tensor | None = None,
    ) -> Tensor:
        """Clean latents (B, 16, T, h, w).

        Args:
            x: (B, 16, T, h, w), latents at `time` (B,), 0 noise to 1 clean.
            drop: (B,), True for samples whose sound is withheld.
        """
        channels = x.shape[1]
        reference = given.reference.expand_as(given.driven)
        known = given.known
        if known is None:
            known = x.new_zeros(x.shape[0], channels + 1, *x.shape[2:])
        joined = torch.cat([x, reference, given.driven, given.hole, known], dim=1)
        if given.pose is not None:
            joined = self.pose(joined, given.pose, strengths.pose)
        mask = given.face[:, :, None].expand(-1, -1, x.shape[2], -1, -1)
        adapters = [self.audio.bind(given.audio, mask, strengths.audio, drop)]
        if given.codes is not None:
            listening = mask if given.listening is None else given.listening
            adapters.append(self.expression.bind(given.codes, listening, strengths.expression))
        change = self.dit(
            joined[:, :channels],
            TIME_SCALE * time,
            joined[:, channels:],
            scalars=given.motion / MOTION_RANGE,
            adapters=adapters,
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
