"""Encoder and decoder of the causal VAE, and the config both are built from.

Shape legend: B batch, C channels, T frames, H height, W width; lower case for latents.
"""

from dataclasses import dataclass
from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.causal import (
    CausalConv3d,
    CausalState,
    Downsample,
    FrameCausalAttention,
    Kernel,
    NormName,
    PaddingName,
    ResampleName,
    ResnetBlock,
    Upsample,
    make_norm,
)

PIXEL_CHANNELS = 3


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes and operators of a `CausalVAE`. Lists of levels run from the finest to the coarsest.

    Attributes:
        widths: channels of each level.
        kernels: extents in (time, height, width) of both convolutions of the residual blocks of each level.
        layers_per_block: residual blocks per encoder level; the decoder has one more.
        patch: pixels in (time, height, width) grouped into channels before the first convolution.
        edge_kernel: extent of the first and last convolution.
        norm: `group` (volume statistics) or `rms` (each position alone).
        padding: what stands beyond the picture's border.
        resample: how levels are joined; `shuffle` is cheap and knows no time factor.
        mid_attention: attention at the coarsest level.
        causal_attention: whether that attention sees no later frame.
        stochastic: the encoder gives mean and log variance, with a 1x1x1 convolution on each side of the
            latent; otherwise it gives the latent.
        linear_shortcut: a linear transform of whole latent cells is added on both sides, and the other paths
            start at zero, so that the untrained net is that transform.
        scaling_factor: latents are multiplied by it after encoding and divided by it before decoding.
    """

    widths: tuple[int, ...]
    kernels: tuple[tuple[Kernel, Kernel], ...]
    layers_per_block: int
    latent_channels: int = 16
    time_factor: int = 4
    space_factor: int = 8
    patch: Kernel = (1, 1, 1)
    edge_kernel: Kernel = (3, 3, 3)
    norm: NormName = "group"
    padding: PaddingName = "replicate"
    resample: ResampleName = "nearest"
    mid_attention: bool = True
    causal_attention: bool = True
    stochastic: bool = True
    linear_shortcut: bool = False
    scaling_factor: float = 1.0

    @property
    def cell(self) -> Kernel:
        """Pixels in (time, height, width) behind one latent position."""
        return (self.time_factor, self.space_factor, self.space_factor)

    @property
    def streams_exactly(self) -> bool:
        """Whether pieces of a clip coded one after another equal the clip coded as a whole."""
        return self.norm == "rms" and not self.mid_attention

    def stride(self, level: int) -> Kernel:
        """Factor between `level` and the next, counted from the net's input (pixels or latents alike)."""
        if level == len(self.widths) - 1:
            return (1, 1, 1)
        spatial = 2 if level < (self.space_factor // self.patch[1]).bit_length() - 1 else 1
        time_levels = (self.time_factor // self.patch[0]).bit_length() - 1
        return (2 if level >= len(self.widths) - 1 - time_levels else 1, spatial, spatial)


class _Level(nn.Module):
    """Residual blocks of one level; the sampler to the next level, if any, is added by the maker."""

    def __init__(self, c_in: int, level: int, layers: int, config: VAEConfig) -> None:
        super().__init__()
        c_out, kernels = config.widths[level], config.kernels[level]
        self.resnets = nn.ModuleList(
            ResnetBlock(c_out if i else c_in, c_out, kernels, config.norm, config.padding)
            for i in range(layers)
        )
        self.downsamplers: nn.ModuleList | None = None
        self.upsamplers: nn.ModuleList | None = None

    def forward(self, x: Tensor, state: CausalState | None) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x, state)
        for sampler in self.downsamplers or self.upsamplers or ():
            x = sampler(x, state)
        return x


class _Middle(nn.Module):
    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        width = config.widths[-1]
        self.resnets = nn.ModuleList(
            ResnetBlock(width, width, config.kernels[-1], config.norm, config.padding) for _ in range(2)
        )
        self.attentions = nn.ModuleList(
            [FrameCausalAttention(width, config.norm, config.causal_attention)]
            if config.mid_attention
            else []
        )

    def forward(self, x: Tensor, state: CausalState | None) -> Tensor:
        x = self.resnets[0](x, state)
        for attention in self.attentions:
            x = attention(x)
        return self.resnets[1](x, state)


class Encoder(nn.Module):
    """Patches of pixels (B, 3 * patch, T, H, W) to latents or their moments."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.conv_in = CausalConv3d(
            PIXEL_CHANNELS * prod(config.patch), config.widths[0], config.edge_kernel, padding=config.padding
        )
        self.down_blocks = nn.ModuleList()
        for i, width in enumerate(config.widths):
            block = _Level(config.widths[max(i - 1, 0)], i, config.layers_per_block, config)
            if config.stride(i) != (1, 1, 1):
                sampler = Downsample(width, width, config.stride(i), config.resample, config.padding)
                block.downsamplers = nn.ModuleList([sampler])
            self.down_blocks.append(block)
        self.mid_block = _Middle(config)
        self.conv_norm_out = make_norm(config.norm, config.widths[-1])
        moments = config.latent_channels * (2 if config.stochastic else 1)
        self.conv_out = CausalConv3d(config.widths[-1], moments, config.edge_kernel, padding=config.padding)

    def forward(self, x: Tensor, state: CausalState | None = None) -> Tensor:
        """(B, 3 * patch, T, H, W) to (B, 16 or 32, t, h, w)."""
        x = self.conv_in(x, state)
        for block in self.down_blocks:
            x = block(x, state)
        x = self.mid_block(x, state)
        return self.conv_out(F.silu(self.conv_norm_out(x)), state)


class Decoder(nn.Module):
    """Latents to patches of pixels (B, 3 * patch, T, H, W)."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        last = len(config.widths) - 1
        self.conv_in = CausalConv3d(
            config.latent_channels, config.widths[-1], config.edge_kernel, padding=config.padding
        )
        self.mid_block = _Middle(config)
        self.up_blocks = nn.ModuleList()
        c_in = config.widths[-1]
        for i in range(last + 1):
            level = last - i
            width = config.widths[level]
            block = _Level(c_in, level, config.layers_per_block + 1, config)
            c_in = width
            if config.stride(i) != (1, 1, 1):
                # The cheap sampler changes the width too: the finer level never runs at the coarse width.
                c_in = config.widths[level - 1] if config.resample == "shuffle" else width
                sampler = Upsample(width, c_in, config.stride(i), config.resample, config.padding)
                block.upsamplers = nn.ModuleList([sampler])
            self.up_blocks.append(block)
        self.conv_norm_out = make_norm(config.norm, config.widths[0])
        self.conv_out = CausalConv3d(
            config.widths[0], PIXEL_CHANNELS * prod(config.patch), config.edge_kernel, padding=config.padding
        )

    def forward(self, z: Tensor, state: CausalState | None = None) -> Tensor:
        """(B, 16, t, h, w) to (B, 3 * patch, T, H, W)."""
        x = self.mid_block(self.conv_in(z, state), state)
        for block in self.up_blocks:
            x = block(x, state)
        return self.conv_out(F.silu(self.conv_norm_out(x)), state)
