"""How the released audio model is sampled: its guidance step by step, and windows over a long video.

Sections 5.6 and 5.7 of the reference. Shape legend: B batch, C channels, T latent frames, h w latent height
and width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

GROUP = 4  # video frames behind a latent frame


class Guidance(NamedTuple):
    """Of one step.

    Attributes:
        scale: of classifier-free guidance.
        negative_text: whether the branch without speech has the negative text too.
        face: strength of the face mask.
    """

    scale: float
    negative_text: bool
    face: float


def guidance_at(step: int, steps: int, start: float = 7.5) -> Guidance:
    """Guidance of step 0, 1, ... of `steps`: text and speech first, from the tenth step speech alone."""
    rest = 1 - step / steps
    if step < 10:
        return Guidance(rest * (start - 2) + 2, True, 0.6)
    return Guidance(rest * 3 + 3.5, False, 1.0)


def total_frames(video_frames: int, window: int = 33) -> int:
    """Latent frames sampled for a video of which the sound has so many frames.

    That is whole windows without their first frame, and one; one window where that holds the video already.
    """
    step = window - 1
    if video_frames // GROUP + 1 == window:
        return window
    return (video_frames // (GROUP * step) + 1) * step + 1


def window_frames(length: int, window: int, shift: int) -> list[Tensor]:
    """Latent frames, (window,), of every window of a step; they are moved back by `shift` and wrap around."""
    return [(torch.arange(window) + start - shift) % length for start in range(0, length, window)]


def shift_at(step: int, length: int, window: int = 33, offset: int = 10) -> int:
    """How far the windows are moved at a step; a video of one window stays where it is."""
    return 0 if length == window else step * offset % window


def speech_frames(frames: Tensor, total: int) -> Tensor:
    """Video frames, 4 (T - 1) + 1 of them, whose speech a window of latent frames (T,) hears.

    Args:
        total: video frames of the sound, filled up with silence to four for each latent frame sampled; after
            them it begins again.
    """
    first = GROUP * int(frames[0])
    return (first + torch.arange(GROUP * (len(frames) - 1) + 1)) % total


def fuse(velocity: Callable[[Tensor, Tensor], Tensor], x: Tensor, windows: list[Tensor]) -> Tensor:
    """Velocity of a long video: the mean of those of the windows that see each frame.

    Args:
        velocity: of the latents of a window and the frames it holds.
        x: (B, C, T, h, w).
        windows: from `window_frames`; every frame is in one of them.
    """
    total, count = torch.zeros_like(x), torch.zeros(x.shape[2], device=x.device)
    for frames in windows:
        total.index_add_(2, frames.to(x.device), velocity(x[:, :, frames], frames))
        count.index_add_(0, frames.to(x.device), torch.ones(len(frames), device=x.device))
    return total / count[:, None, None]
