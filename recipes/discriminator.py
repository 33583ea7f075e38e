"""An adversary for a VAE: it tells real clips from made ones, patch by patch (Isola et al. 2017).

The loss is the hinge loss. Both train in one step and by one optimiser: what the VAE is told goes through
weights that are held, what the adversary is told does not reach the VAE.
Shape legend: B clips, T frames, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from avatar.backbone.vae import CausalVAE
from avatar.backbone.vae_nets import VAEConfig


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Sizes of a `Discriminator`: channels of its first layer, and how often it halves the sides."""

    width: int = 64
    layers: int = 3


class Discriminator(nn.Module):
    """Scores of patches, high for real ones; a few frames and a few dozen px are seen by each."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        widths = [3, *(config.width * min(2**i, 8) for i in range(config.layers))]
        self.convs = nn.ModuleList(
            nn.Conv3d(a, b, (3, 4, 4), (1, 2, 2), (1, 1, 1)) for a, b in pairwise(widths)
        )
        self.out = nn.Conv3d(widths[-1], 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, 1, T, h, w)."""
        for conv in self.convs:
            x = F.leaky_relu(conv(x), 0.2)
        return self.out(x)


class Contest(CausalVAE):
    """A VAE with its adversary, trained together; `start` may be a VAE alone."""

    def __init__(self, config: VAEConfig, adversary: DiscriminatorConfig) -> None:
        super().__init__(config)
        self.discriminator = Discriminator(adversary)

    def losses(self, real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """What the VAE and what the adversary is to make small, of clips (B, 3, T, H, W)."""
        held = {name: value.detach() for name, value in self.discriminator.named_parameters()}
        fooled = -functional_call(self.discriminator, held, (made,)).float().mean()
        true, false = (self.discriminator(x.detach()).float() for x in (real, made))
        return fooled, F.relu(1 - true).mean() + F.relu(1 + false).mean()


def vae_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The VAE's share of the tensors of a `Contest`."""
    return {name: value for name, value in tensors.items() if not name.startswith("discriminator.")}
