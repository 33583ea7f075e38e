"""Expression adapter: codes of a driving face enter the DiT by cross-attention that only the face listens to.

    h_i <- h_i + scale * Attn_exp(h_i, z_exp, z_exp) * M_face        (section 2.4 of the design)

after every K-th dual- and single-stream block i. A light encoder turns the codes of the video frames behind a
latent frame into its 16 tokens.

Shape legend: B batch, T latent frames, F video frames of a latent frame (4), C numbers of a code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avatar.adapters.cross_attention import Bound, layers

GROUP = 4  # video frames of a latent frame
TOKENS = 16  # of a latent frame


@dataclass(frozen=True, kw_only=True)
class ExpressionAdapterConfig:
    """Sizes of an `ExpressionAdapter`.

    Attributes:
        code: numbers of a code.
        width: channels of the expression tokens.
        hidden: of the DiT.
        heads: of the cross-attention.
        every: K, cross-attention follows every K-th block.
        double_blocks: how many dual-stream blocks the DiT has.
        single_blocks: how many single-stream blocks.
    """

    code: int
    width: int
    hidden: int
    heads: int
    every: int
    double_blocks: int
    single_blocks: int


class ExpressionAdapter(nn.Module):
    """Turns codes into tokens and lets the blocks of a DiT attend them; a fresh one changes nothing."""

    def __init__(self, config: ExpressionAdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.encode = nn.Sequential(
            nn.Linear(GROUP * config.code, 4 * config.width),
            nn.SiLU(),
            nn.Linear(4 * config.width, TOKENS * config.width),
        )
        self.token_norm = nn.LayerNorm(config.width)
        self.places = nn.Parameter(torch.empty(TOKENS, config.width))
        nn.init.uniform_(self.places, -0.03, 0.03)
        sizes, step = (config.hidden, config.width, config.heads), config.every
        self.double_layers = layers(range(step - 1, config.double_blocks, step), *sizes)
        self.single_layers = layers(range(step - 1, config.single_blocks, step), *sizes)

    def tokens(self, codes: Tensor) -> Tensor:
        """Expression tokens (B, T, 16, width) of codes (B, T, 4, C)."""
        return self.token_norm(self.encode(codes.flatten(2)).unflatten(-1, (TOKENS, -1))) + self.places

    def bind(self, codes: Tensor, face: Tensor, scale: float | Tensor = 1.0) -> Bound:
        """This adapter with its condition, ready to be given to a DiT.

        Args:
            codes: (B, T, 4, C).
            face: (B or 1, 1, T or 1, h, w) in [0, 1], at the size of latents or of tokens.
            scale: strength, see `Bound`; 0 turns the expression off.
        """
        return Bound(self.double_layers, self.single_layers, self.tokens(codes), face, scale)
