"""Attention, its rotary positions and its norms as pure functions.

Shape legend: B batch, N tokens, A heads, D channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int, int]
"""Tokens in (time, height, width); time is outermost in the token order."""

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of the angle of each pair of channels, both (N, D / 2)."""

EPS = 1e-6


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention of (B, N, A, D) queries over (B, M, A, D) keys and values, heads joined.

    Args:
        mask: booleans that broadcast to (B, A, N, M), True where a query may look.

    Returns:
        (B, N, A * D).
    """
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def rope_frequencies(channels: int, theta: float) -> Tensor:
    """Angle per unit of position of each pair of `channels`: theta^(-2 i / channels), (channels / 2,)."""
    return theta ** -(torch.arange(0, channels, 2, dtype=torch.float32) / channels)


def rope_3d(grid: Grid, channels: Grid, theta: float, first_frame: int = 0) -> Rotation:
    """Rotations of a grid of tokens; channels are shared out to time, height and width in this order.

    Args:
        channels: of a head, for each axis; all even.
        first_frame: time index of the first frame; negative for a frame before the clip.
    """
    starts = (first_frame, 0, 0)
    positions = [torch.arange(n, dtype=torch.float32) + start for n, start in zip(grid, starts, strict=True)]
    axes = torch.meshgrid(*positions, indexing="ij")
    angles = [
        axis.reshape(-1, 1) * rope_frequencies(count, theta)
        for axis, count in zip(axes, channels, strict=True)
    ]
    joined = torch.cat(angles, dim=1)
    return joined.cos(), joined.sin()


def apply_rope(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate adjacent pairs of channels of (B, N, A, D); computed in float32, returned as given."""
    cos, sin = (part[:, None].to(x.device) for part in rotation)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMS norm over the last axis in float32, returned as given."""
    return F.rms_norm(x.float(), weight.shape, weight.float(), EPS).to(x.dtype)


def layer_norm(x: Tensor) -> Tensor:
    """Layer norm over the last axis without learned scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale (B, N, C) by (B, C): x (1 + scale) + shift."""
    return x * (1 + scale[:, None]) + shift[:, None]
