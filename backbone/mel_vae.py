"""Variational autoencoder of log-mel spectrograms: four frames become one latent vector and are told from it.

Shape legend: B batch, M mel bands, F spectrogram frames, N = F / 4 latent vectors of C channels, D hidden.

A linear transform, set to the principal components of sound, does most of it; the nets beside it begin at
zero and learn what it misses. Nothing looks further than `reach` latent vectors, so long sounds can be
decoded in pieces.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.attention import rms_norm
from avatar.backbone.vae import Posterior

MIDDLE, SPREAD = -5.0, 2.0  # of log-mel values, about
LOGVAR_RANGE = (-12.0, 4.0)
FIRST_LOGVAR = -5.0  # what an untrained encoder says


@dataclass(frozen=True, kw_only=True)
class MelVAEConfig:
    """Sizes of a `MelVAE`.

    Attributes:
        frames: of the spectrogram behind a latent vector.
        kernel: of the convolutions over time, in latent vectors.
    """

    bands: int = 80
    frames: int = 4
    channels: int
    hidden: int
    encoder_blocks: int
    decoder_blocks: int
    kernel: int = 7
    expansion: int = 2


class MelBlock(nn.Module):
    """Depthwise convolution over time, then an MLP of each vector; begins as the identity."""

    def __init__(self, hidden: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
        self.norm = nn.Parameter(torch.ones(hidden))
        self.up = nn.Linear(hidden, expansion * hidden)
        self.down = nn.Linear(expansion * hidden, hidden)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D), same shape back."""
        mixed = self.mix(x.transpose(1, 2)).transpose(1, 2)
        return x + self.down(F.gelu(self.up(rms_norm(mixed, self.norm)), approximate="tanh"))


class MelVAE(nn.Module):
    """Codes log-mel spectrograms (B, M, F) as latents (B, N, C); F is a multiple of `config.frames`."""

    def __init__(self, config: MelVAEConfig) -> None:
        super().__init__()
        self.config = config
        patch, hidden, channels = config.bands * config.frames, config.hidden, config.channels

        def blocks(count: int) -> nn.Sequential:
            return nn.Sequential(*(MelBlock(hidden, config.kernel, config.expansion) for _ in range(count)))

        self.shortcut_in = nn.Linear(patch, channels)
        self.encoder_in = nn.Linear(patch, hidden)
        self.encoder = blocks(config.encoder_blocks)
        self.encoder_out = nn.Linear(hidden, 2 * channels)
        self.shortcut_out = nn.Linear(channels, patch)
        self.decoder_in = nn.Linear(channels, hidden)
        self.decoder = blocks(config.decoder_blocks)
        self.decoder_out = nn.Linear(hidden, patch)
        for layer in (self.encoder_out, self.decoder_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.encoder_out.bias[channels:] = FIRST_LOGVAR

    @property
    def reach(self) -> int:
        """Latent vectors on either side that a decoded one depends on."""
        return self.config.decoder_blocks * (self.config.kernel // 2)

    def patches(self, mel: Tensor) -> Tensor:
        """Scaled values of four frames each: (B, M, F) to (B, N, 4 M)."""
        return ((mel - MIDDLE) / SPREAD).unflatten(2, (-1, self.config.frames)).permute(0, 2, 3, 1).flatten(2)

    def posterior(self, mel: Tensor) -> Posterior:
        """Distribution of latents (B, N, C) of log-mel spectrograms (B, M, F)."""
        x = self.patches(mel)
        mean, logvar = self.encoder_out(self.encoder(self.encoder_in(x))).chunk(2, dim=-1)
        return Posterior(self.shortcut_in(x) + mean, logvar.clamp(*LOGVAR_RANGE))

    def encode(self, mel: Tensor) -> Tensor:
        """Means of the latents (B, N, C)."""
        return self.posterior(mel).mean

    def decode(self, latents: Tensor) -> Tensor:
        """Log-mel spectrograms (B, M, F) of latents (B, N, C)."""
        x = self.shortcut_out(latents) + self.decoder_out(self.decoder(self.decoder_in(latents)))
        x = x.unflatten(2, (self.config.frames, self.config.bands)).permute(0, 3, 1, 2).flatten(2)
        return SPREAD * x + MIDDLE

    @torch.no_grad()
    def init_linear_shortcut(self, mel: Tensor) -> None:
        """Set the linear transforms to the principal components of log-mel spectrograms (B, M, F).

        All channels share one scale, so that latents have unit mean square and weak channels stay weak.
        """
        patches = self.patches(mel).flatten(0, 1).double()
        mean = patches.mean(0)
        values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
        basis = vectors.flip(1)[:, : self.config.channels]
        scale = values.flip(0)[: self.config.channels].mean().sqrt()
        self.shortcut_in.weight.copy_(basis.T / scale)
        self.shortcut_in.bias.copy_(-(mean @ basis) / scale)
        self.shortcut_out.weight.copy_(basis * scale)
        self.shortcut_out.bias.copy_(mean)


def kl_divergence(posterior: Posterior) -> Tensor:
    """Mean divergence of a posterior from the standard normal law, nats a channel."""
    assert posterior.logvar is not None
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
