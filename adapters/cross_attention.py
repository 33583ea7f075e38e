"""Cross-attention of video tokens to the tokens of a signal, heard by a part of the picture only.

    h <- h + scale * Attn(h, s, s) * M        (sections 2.2 and 2.4 of the design)

The mask keeps the adapter's own output inside its region. The DiT's self-attention in later blocks may still
carry what it said to other places; the mask is what keeps the body from being driven directly, not a wall.

Shape legend: B batch, T latent frames, N video tokens, K signal tokens of a latent frame, D hidden channels
of the DiT, W channels of the signal tokens.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.attention import Grid, attention, layer_norm, rms_norm


class CrossAttention(nn.Module):
    """Video tokens ask the signal tokens of their own latent frame; zero at the start."""

    def __init__(self, hidden: int, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(hidden, hidden)
        self.to_kv = nn.Linear(width, 2 * hidden)
        self.q_norm = nn.Parameter(torch.ones(hidden // heads))
        self.k_norm = nn.Parameter(torch.ones(hidden // heads))
        self.proj = nn.Linear(hidden, hidden)
        for parameter in self.proj.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        """x: (B * T, h * w, D), tokens: (B * T, K, W). Returns (B * T, h * w, D)."""
        q = self.to_q(layer_norm(x)).unflatten(-1, (self.heads, -1))
        k, v = self.to_kv(tokens).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return self.proj(attention(rms_norm(q, self.q_norm), rms_norm(k, self.k_norm), v))


def layers(blocks: Iterable[int], hidden: int, width: int, heads: int) -> nn.ModuleDict:
    """A `CrossAttention` after each of these blocks, by the block's index."""
    return nn.ModuleDict({str(i): CrossAttention(hidden, width, heads) for i in blocks})


class Bound:
    """The layers of an adapter holding the signal and the mask of one batch; a `BlockAdapter` of the DiT.

    Args:
        double_layers: see `layers`, after dual-stream blocks.
        single_layers: after single-stream blocks.
        tokens: (B or 1, T or 1, K, W).
        mask: (B or 1, 1, T or 1, h, w) in [0, 1], at the size of latents or of tokens.
        scale: strength, a number or one for each latent frame, (B or 1, T); 0 turns the signal off.
    """

    def __init__(
        self,
        double_layers: nn.ModuleDict,
        single_layers: nn.ModuleDict,
        tokens: Tensor,
        mask: Tensor,
        scale: float | Tensor,
    ) -> None:
        self.double_layers, self.single_layers = double_layers, single_layers
        self.tokens, self.mask = tokens, mask
        self.scale = scale if isinstance(scale, Tensor) else torch.tensor([[scale]], device=tokens.device)
        self.silent = not bool(self.scale.any())

    def after_double(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Video tokens (B, N, D) after dual-stream block `index`."""
        return self._after(self.double_layers, index, tokens, grid)

    def after_single(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Video tokens (B, N, D) after single-stream block `index`."""
        return self._after(self.single_layers, index, tokens, grid)

    def _after(self, found: nn.ModuleDict, index: int, x: Tensor, grid: Grid) -> Tensor:
        if self.silent or str(index) not in found:
            return x
        frames, height, width = grid
        asked = x.reshape(x.shape[0] * frames, height * width, -1)
        given = self.tokens.expand(x.shape[0], frames, -1, -1).flatten(0, 1)
        heard = found[str(index)](asked, given).reshape(x.shape)
        share = F.adaptive_avg_pool3d(self.mask.to(x.dtype), (None, height, width))
        share = self.scale.to(x.dtype)[:, None, :, None, None] * share
        return x + heard * share.expand(x.shape[0], 1, frames, height, width).flatten(1)[..., None]
