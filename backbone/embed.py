"""What the DiT knows besides its tokens: time, guidance, scalars and text, as vectors or refined text tokens.

Shape legend: B batch, L text tokens, C hidden channels. Parameter names are those of the public HunyuanVideo
weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.attention import attention
from avatar.backbone.linear import bare, gelu, linear_gelu

SINUSOIDS = 256
MAX_PERIOD = 10_000.0
EPS = 1e-6


def sinusoid(values: Tensor) -> Tensor:
    """Cosines, then sines of (...) values in 0..1000, as (..., 256), float32."""
    half = SINUSOIDS // 2
    exponent = torch.arange(half, device=values.device, dtype=torch.float32) / half
    angles = values.float()[..., None] * torch.exp(-math.log(MAX_PERIOD) * exponent)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ScalarEmbedder(nn.Module):
    """`count` numbers of 0..1000 each become sinusoids, together one vector."""

    def __init__(self, hidden: int, count: int = 1) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(count * SINUSOIDS, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, values: Tensor) -> Tensor:
        """(B, count) to (B, C)."""
        return self.mlp(sinusoid(values).flatten(1).to(next(self.parameters()).dtype))


class PooledEmbedder(nn.Module):
    """Pooled text (B, P) to (B, C)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.in_layer = nn.Linear(channels, hidden)
        self.out_layer = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(x)))


class MLP(nn.Module):
    """Two linear layers with GELU (tanh form) or SiLU between."""

    def __init__(self, channels: int, hidden: int, silu: bool = False) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.silu = silu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.inside(x))

    def inside(self, x: Tensor) -> Tensor:
        """What the second layer gets."""
        if not self.silu and bare(self.fc1, x):
            return linear_gelu(x, self.fc1.weight, self.fc1.bias)
        x = self.fc1(x)
        return F.silu(x) if self.silu else gelu(x)


class _TextContext(nn.Module):
    """Mean of the raw text states, (B, text channels), to (B, C)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class _RefinerBlock(nn.Module):
    """Self-attention and MLP over text tokens, each gated by the context vector."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(hidden, eps=EPS)
        self.self_attn_qkv = nn.Linear(hidden, 3 * hidden)
        self.self_attn_proj = nn.Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden, eps=EPS)
        self.mlp = MLP(hidden, int(hidden * mlp_ratio), silu=True)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(hidden, 2 * hidden))

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        gate_attention, gate_mlp = self.adaLN_modulation(context)[:, None].chunk(2, dim=-1)
        q, k, v = self.self_attn_qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).unbind(2)
        x = x + gate_attention * self.self_attn_proj(attention(q, k, v, mask))
        return x + gate_mlp * self.mlp(self.norm2(x))


class _Refiner(nn.Module):
    def __init__(self, hidden: int, heads: int, mlp_ratio: float, blocks: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_RefinerBlock(hidden, heads, mlp_ratio) for _ in range(blocks))


class TextRefiner(nn.Module):
    """Language-model states to text tokens, conditioned on the time and on the mean of the states."""

    def __init__(self, channels: int, hidden: int, heads: int, mlp_ratio: float, blocks: int) -> None:
        super().__init__()
        self.input_embedder = nn.Linear(channels, hidden)
        self.t_embedder = ScalarEmbedder(hidden)
        self.c_embedder = _TextContext(channels, hidden)
        self.individual_token_refiner = _Refiner(hidden, heads, mlp_ratio, blocks)

    def forward(self, text: Tensor, time: Tensor, mask: Tensor | None) -> Tensor:
        """Refine.

        Args:
            text: (B, L, text channels).
            time: (B,), 0..1000.
            mask: (B, L) booleans, True for tokens that count; None when all do.

        Returns:
            (B, L, C).
        """
        pairs = None
        if mask is None:
            mean = text.mean(1)
        else:
            mean = (text * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            pairs = (mask[:, None, :, None] & mask[:, None, None, :]).clone()
            pairs[..., 0] = True  # a row of padding must look somewhere, or softmax gives NaN
        context = self.t_embedder(time[:, None]) + self.c_embedder(mean.to(text.dtype))
        x = self.input_embedder(text)
        for block in self.individual_token_refiner.blocks:
            x = block(x, context, pairs)
        return x


def without_padding(text: Tensor, mask: Tensor | None) -> tuple[Tensor, list[int] | None]:
    """Text tokens (B, L, C) cut to the longest, and how many of each sample count, from the first on;
    None where all have the same number. That is what variable-length attention does with a mask."""
    if mask is None or mask.all():
        return text, None
    counts = mask.sum(1).tolist()
    return text[:, : max(counts)], counts if min(counts) < max(counts) else None
