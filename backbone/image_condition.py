"""A picture as the first frame of a video, or one more as its last: held in place, or joined on the channels.

The first frame is given in both ways of the public image-to-video weights, the last one on the channels only
(section 2.6 of the design). `image` is always the mean of the VAE's posterior, scaled. Shape legend: B batch,
C channels, T latent frames, h w latent height and width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar.backbone.flow import Velocity


def concat_condition(image: Tensor, frames: int, last: Tensor | None = None) -> Tensor:
    """What `DiT` gets beside the noisy latents: the pictures where they belong, nothing else, and a mask.

    Args:
        image: (B, C, 1, h, w), the first frame.
        frames: of the video, in latents.
        last: (B, C, 1, h, w), the last frame; None leaves it to the net.

    Returns:
        (B, C + 1, T, h, w); the last channel is 1 in frames that are given and 0 elsewhere.

    Raises:
        ValueError: two pictures for one frame.
    """
    known = torch.cat([image, torch.ones_like(image[:, :1])], dim=1)
    if last is None:
        return F.pad(known, (0, 0, 0, 0, 0, frames - 1))
    if frames < 2:
        raise ValueError("a first and a last frame need two latent frames")
    end = torch.cat([last, torch.ones_like(last[:, :1])], dim=1)
    return torch.cat([F.pad(known, (0, 0, 0, 0, 0, frames - 2)), end], dim=2)


def hold_first(velocity: Velocity, image: Tensor) -> Velocity:
    """A velocity under which the first frame is the picture from the first step to the last.

    Args:
        velocity: of a net with `clean_first_frame`; what it says of frame 0 is not used.
        image: (B, C, 1, h, w). The sampler starts from noise whose frame 0 is this, see `start_from`.
    """

    def held(x: Tensor, time: float) -> Tensor:
        moved = velocity(torch.cat([image.to(x), x[:, :, 1:]], dim=2), time)
        return torch.cat([torch.zeros_like(moved[:, :, :1]), moved[:, :, 1:]], dim=2)

    return held


def start_from(noise: Tensor, image: Tensor, share: float, hold: bool) -> Tensor:
    """Noise (B, C, T, h, w) with a little of the picture in every frame, which keeps a shot steady.

    Args:
        share: of the picture; the public weights are used with 0.001 (reference, section 6).
        hold: whether frame 0 is the picture itself, as `hold_first` wants.
    """
    start = (1 - share) * noise + share * image
    return torch.cat([image, start[:, :, 1:]], dim=2) if hold else start
