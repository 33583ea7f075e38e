"""A picture as the first frame of a video: its latents held in place, or joined on the channel axis.

Both are the ways of the public image-to-video weights; `image` is always the mean of the VAE's posterior,
scaled. Shape legend: B batch, C channels, T latent frames, h w latent height and width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar.backbone.flow import Velocity


def concat_condition(image: Tensor, frames: int) -> Tensor:
    """What `DiT` gets beside the noisy latents: the picture in frame 0, nothing after it, and a mask.

    Args:
        image: (B, C, 1, h, w).
        frames: of the video, in latents.

    Returns:
        (B, C + 1, T, h, w); the last channel is 1 in frame 0 and 0 elsewhere.
    """
    known = torch.cat([image, torch.ones_like(image[:, :1])], dim=1)
    return F.pad(known, (0, 0, 0, 0, 0, frames - 1))


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
