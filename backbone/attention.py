"""Attention, its rotary positions and its norms as pure functions.

Shape legend: B batch, N tokens, A heads, D channels of a head.
"""

from collections.abc import Sequence
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar.backbone import rows
from avatar.backbone.precision import tracked

Grid = tuple[int, int, int]
"""Tokens in (time, height, width); time is outermost in the token order."""

Rotation = Tensor
"""cos + i sin of the angle of each pair of channels, complex (N, D / 2)."""

EPS = 1e-6
# Pairs of a head up to which plain products are trained with: torch's own gradient is slow there.
FEW = 1 << 18


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, lengths: Sequence[int] | None = None
) -> Tensor:
    """Scaled dot-product attention of (B, N, A, D) queries over (B, M, A, D) keys and values, heads joined.

    Args:
        mask: booleans that broadcast to (B, A, N, M), True where a query may look.
        lengths: how many of its first keys each sample may look at, the cheap form of a mask of padding.

    Returns:
        (B, N, A * D).
    """
    if lengths is not None:
        parts = [_attend(*_sample(i, n, q, k, v), None) for i, n in enumerate(lengths)]
        return torch.cat(parts).flatten(2)
    return _attend(q, k, v, mask).flatten(2)


def kernel(q: Tensor, k: Tensor, mask: Tensor | None = None) -> str:
    """Which implementation `attention` runs through: `flash-attn`, `rows`, `products` or `sdpa`, by what is
    there and whether a gradient will be asked for."""
    if mask is None and q.device.type == "cuda" and q.dtype in (torch.bfloat16, torch.float16):
        return "flash-attn" if find_spec("flash_attn") else "sdpa"
    if mask is None and rows.suits(q, k):
        return "rows"
    few = q.device.type == "cpu" and q.shape[1] * k.shape[1] <= FEW
    return "products" if mask is None and few and tracked(q, k) else "sdpa"


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    chosen = kernel(q, k, mask)
    if chosen == "flash-attn":
        from flash_attn import flash_attn_func

        return flash_attn_func(q, k, v)
    if chosen == "rows":
        return rows.row_attention(q, k, v)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    if chosen == "products":
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return (scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


class KeptAttention:
    """Attention of a block that is computed again for its gradients: that of `rows` is computed once only."""

    def __init__(self) -> None:
        self.out: Tensor | None = None

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if kernel(q, k) != "rows":
            return attention(q, k, v)
        out = rows.row_attention(q, k, v, self.out)
        self.out = out.detach()
        return out.flatten(2)


def _sample(i: int, count: int, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q[i : i + 1], k[i : i + 1, :count], v[i : i + 1, :count]


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
    return torch.complex(joined.cos(), joined.sin())


def apply_rope(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate adjacent pairs of channels of (B, N, A, D); computed in float32, returned as given."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation[:, None]).flatten(-2).to(x.dtype)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMS norm over the last axis in float32, returned as given."""
    return F.rms_norm(x.float(), weight.shape, weight.float(), EPS).to(x.dtype)


def layer_norm(x: Tensor) -> Tensor:
    """Layer norm over the last axis without learned scale and shift."""
    return F.layer_norm(x, x.shape[-1:], eps=EPS)


def norm_modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm, shift and scale of (B, N, C) by (B, C): norm(x) (1 + scale) + shift."""
    if len(x) == 1:  # one sample: the norm's own kernel shifts and scales
        return F.layer_norm(x, x.shape[-1:], (1 + scale[0]).to(x.dtype), shift[0].to(x.dtype), EPS)
    return torch.addcmul(shift[:, None], layer_norm(x), 1 + scale[:, None])
