"""Causal 3D variational autoencoder: 4n + 1 frames become n + 1 latent frames of 16 channels at 1/8 size.

Shape legend: B batch, C channels, T frames, H height, W width; latents are (B, 16, (T - 1) / 4 + 1, H / 8, W
/ 8). Pixels lie in [-1, 1]. Frame 0 is coded alone, so a picture is a video of one frame (section 1.1 of the
design).

One class spans two designs, told apart by the config only: the public HunyuanVideo VAE, whose parameter names
are kept, and small nets that work on pixel patches, add a linear transform as a shortcut and can stream
exactly.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from avatar.backbone import vae_runs
from avatar.backbone.causal import CausalState, starts_clip
from avatar.backbone.precision import tracked
from avatar.backbone.tiling import MapTiles, Tiling, fold, map_space, map_time, unfold, whole_groups
from avatar.backbone.vae_nets import PIXEL_CHANNELS, Decoder, Encoder, VAEConfig

LOGVAR_RANGE = (-30.0, 20.0)


class Posterior(NamedTuple):
    """Gaussian over unscaled latents, both (B, 16, t, h, w); `logvar` is None for a deterministic encoder."""

    mean: Tensor
    logvar: Tensor | None

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw a latent; the mean itself where there is no variance."""
        if self.logvar is None:
            return self.mean
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return self.mean + (0.5 * self.logvar).exp() * noise.to(self.mean.device)


class CausalVAE(nn.Module):
    """Codes video as latents and back; whole, as a stream, or in tiles.

    The stream equals the whole when `config.streams_exactly`. Group norm over the volume (the HunyuanVideo
    layout) cannot stream exactly, so there `encode_stream` and `decode_stream` run temporal tiles of `tiling`
    instead. `map_tiles` runs the tiles of a frame, one by one unless several devices share them.
    """

    def __init__(self, config: VAEConfig, tiling: Tiling | None = None) -> None:
        super().__init__()
        self.config = config
        self.tiling = tiling or Tiling()
        self.map_tiles: MapTiles = map
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        c = config.latent_channels
        if config.stochastic:
            self.quant_conv = nn.Conv3d(2 * c, 2 * c, 1)
            self.post_quant_conv = nn.Conv3d(c, c, 1)
        if config.linear_shortcut:
            size = PIXEL_CHANNELS * prod(config.cell)
            self.shortcut_in = nn.Linear(size, c)
            self.shortcut_out = nn.Linear(c, size)
            for conv in (self.encoder.conv_out.conv, self.decoder.conv_out.conv):
                for parameter in conv.parameters():
                    nn.init.zeros_(parameter)

    def forward(self, x: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Code a clip (B, 3, 4n + 1, H, W) and decode it again; what training compares with the clip."""
        return self.decode(self.encode(x, sample, generator))

    def posterior(self, x: Tensor) -> Posterior:
        """Distribution of unscaled latents of a clip.

        Args:
            x: (B, 3, 4n + 1, H, W) in [-1, 1], H and W multiples of `space_factor`.

        Raises:
            ValueError: the frame count or the size does not fit the factors.
        """
        check_clip(x, self.config)
        return self._posterior(x, None)

    def encode(self, x: Tensor, sample: bool = False, generator: torch.Generator | None = None) -> Tensor:
        """Scaled latents (B, 16, n + 1, H / 8, W / 8) of a clip (B, 3, 4n + 1, H, W): mean or sample."""
        posterior = self.posterior(x)
        return (posterior.sample(generator) if sample else posterior.mean) * self.config.scaling_factor

    def decode(self, z: Tensor) -> Tensor:
        """Clip (B, 3, 4n + 1, H, W) of scaled latents (B, 16, n + 1, h, w); not clamped."""
        return self._decode(z, None)

    @torch.no_grad()
    def encode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Scaled latents of a clip that arrives in pieces (B, 3, any, H, W), 4n + 1 frames in all."""
        if not self.config.streams_exactly:
            yield from self._encode_tiles(chunks)
            return
        state: CausalState = {}
        for piece in whole_groups(chunks, self.config.time_factor):
            yield self._posterior(piece, state).mean * self.config.scaling_factor

    @torch.no_grad()
    def decode_stream(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        """Frames of scaled latents in pieces (B, 16, any, h, w); memory does not grow with length."""
        if not self.config.streams_exactly:
            yield from self._decode_tiles(chunks)
            return
        state: CausalState = {}
        for chunk in chunks:
            yield self._decode(chunk, state)

    def encode_tiled(self, x: Tensor) -> Tensor:
        """As `encode`, in overlapping tiles of space and time."""
        check_clip(x, self.config)
        return torch.cat(list(self._encode_tiles([x])), dim=2)

    def decode_tiled(self, z: Tensor) -> Tensor:
        """As `decode`, in overlapping tiles of space and time."""
        return torch.cat(list(self._decode_tiles([z])), dim=2)

    def blocks(self, x: Tensor) -> Tensor:
        """Pixels of each latent cell of a clip, (cells, 3 * 4 * 8 * 8), for `init_linear_shortcut`."""
        return fold(self._front_pad(x, None), self.config.cell).flatten(0, 3)

    @torch.no_grad()
    def init_linear_shortcut(self, blocks: Tensor) -> None:
        """Set the linear transforms to the principal components of pixel blocks.

        All channels share one scale, chosen so that latents have unit mean square over the blocks: channels
        then keep the loudness they have in pixels, and weak ones are not blown up.

        Args:
            blocks: (N, 3 * 4 * 8 * 8) from `blocks`, N well above the width.
        """
        blocks = blocks.double()
        mean = blocks.mean(0)
        values, vectors = torch.linalg.eigh((blocks - mean).T @ (blocks - mean) / len(blocks))
        count = self.config.latent_channels
        basis = vectors.flip(1)[:, :count]
        scale = values.flip(0)[:count].mean().sqrt()
        self.shortcut_in.weight.copy_(basis.T / scale)
        self.shortcut_in.bias.copy_(-(mean @ basis) / scale)
        self.shortcut_out.weight.copy_(basis * scale)
        self.shortcut_out.bias.copy_(mean)

    def _posterior(self, x: Tensor, state: CausalState | None) -> Posterior:
        x = self._front_pad(x, state)
        moments = self.encoder(channels_first(fold(x, self.config.patch)), state)
        if not self.config.stochastic:
            mean, logvar = moments, None
        else:
            mean, logvar = self.quant_conv(moments).chunk(2, dim=1)
            logvar = logvar.clamp(*LOGVAR_RANGE)
        if self.config.linear_shortcut:
            mean = mean + channels_first(self.shortcut_in(fold(x, self.config.cell)))
        return Posterior(mean, logvar)

    def _decode(self, z: Tensor, state: CausalState | None) -> Tensor:
        first = starts_clip(self, z, state)
        z = z / self.config.scaling_factor
        hidden = self.post_quant_conv(z) if self.config.stochastic else z
        lean = state is None and vae_runs.suits(self.config, z) and not tracked(z, *self.decoder.parameters())
        made = vae_runs.decode_runs(self.decoder, hidden) if lean else self.decoder(hidden, state)
        x = unfold(made.movedim(1, -1), self.config.patch)
        extra = self.config.patch[0] - 1
        if self.config.linear_shortcut:
            x = x + unfold(self.shortcut_out(z.movedim(1, -1)), self.config.cell)
        return x[:, :, extra:] if first else x

    def _front_pad(self, x: Tensor, state: CausalState | None) -> Tensor:
        """Repeat the first frame of a clip so that it fills its time patch alone."""
        extra = self.config.patch[0] - 1
        if not starts_clip(self, x, state):
            return x
        return torch.cat([x[:, :, :1].expand(-1, -1, extra, -1, -1), x], dim=2)

    def _encode_tiles(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        tiling, scale = self.tiling, Fraction(1, self.config.space_factor)

        def in_space(x: Tensor) -> Tensor:
            return map_space(self.encode, x, tiling.size, tiling.stride, scale, self.map_tiles)

        time_scale = Fraction(1, self.config.time_factor)
        return map_time(in_space, chunks, tiling.frames, tiling.frame_stride, time_scale)

    def _decode_tiles(self, chunks: Iterable[Tensor]) -> Iterator[Tensor]:
        tiling, space, time = self.tiling, self.config.space_factor, self.config.time_factor

        def in_space(z: Tensor) -> Tensor:
            size, stride = tiling.size // space, tiling.stride // space
            return map_space(self.decode, z, size, stride, Fraction(space), self.map_tiles)

        return map_time(in_space, chunks, tiling.frames // time, tiling.frame_stride // time, Fraction(time))


def check_clip(x: Tensor, config: VAEConfig) -> None:
    """Refuse a clip (B, 3, T, H, W) that does not fall into whole latent cells."""
    frames, height, width = x.shape[2:]
    if (frames - 1) % config.time_factor or height % config.space_factor or width % config.space_factor:
        raise ValueError(
            f"a clip of {frames} frames of {width}x{height} px does not fit: "
            f"frames must be {config.time_factor}n + 1, sides multiples of {config.space_factor}"
        )


def channels_first(x: Tensor) -> Tensor:
    """(B, t, h, w, C) to (B, C, t, h, w), channels still innermost in memory."""
    return x.movedim(-1, 1)
