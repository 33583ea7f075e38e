"""HiFi-GAN (arXiv:2010.05646): log-mel spectrograms to waveforms, and the two discriminators that train it.

Shape legend: B batch, M mel bands, F spectrogram frames, C channels, S samples. Parameter names are those of
the public files `generator_v1`, `generator_v2` and `generator_v3`.
"""

import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from avatar.backbone.checkpoint import differences, fill

SLOPE = 0.1  # of the leaky ReLUs inside
LAST_SLOPE = 0.01  # of the one before the last convolution
PERIODS = (2, 3, 5, 7, 11)


@dataclass(frozen=True, kw_only=True)
class HiFiGANConfig:
    """Sizes of a generator.

    Attributes:
        width: channels before the first upsampling; every upsampling halves them.
        rates: upsampling factors; their product is the hop of the spectrogram.
        kernels: of the upsamplings.
        paired: whether each dilated convolution is followed by a plain one: residual block 1 of the paper,
            otherwise 2.
        block_kernels: of the residual blocks that run side by side after each upsampling.
        dilations: of each of these blocks.
    """

    bands: int = 80
    width: int
    rates: tuple[int, ...]
    kernels: tuple[int, ...]
    paired: bool
    block_kernels: tuple[int, ...]
    dilations: tuple[tuple[int, ...], ...]


_LARGE = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
V1 = HiFiGANConfig(
    width=512,
    rates=(8, 8, 2, 2),
    kernels=(16, 16, 4, 4),
    paired=True,
    block_kernels=(3, 7, 11),
    dilations=_LARGE,
)
V2 = HiFiGANConfig(
    width=128,
    rates=(8, 8, 2, 2),
    kernels=(16, 16, 4, 4),
    paired=True,
    block_kernels=(3, 7, 11),
    dilations=_LARGE,
)
V3 = HiFiGANConfig(
    width=256,
    rates=(8, 8, 4),
    kernels=(16, 16, 8),
    paired=False,
    block_kernels=(3, 5, 7),
    dilations=((1, 2), (2, 6), (3, 12)),
)
PUBLIC = {"v1": V1, "v2": V2, "v3": V3}


class ResidualBlock(nn.Module):
    """Dilated convolutions, each with a shortcut; `paired` ones are followed by a plain one before it."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...], paired: bool) -> None:
        super().__init__()
        dilated = nn.ModuleList(_same(channels, kernel, dilation) for dilation in dilations)
        if paired:
            self.convs1 = dilated
            self.convs2 = nn.ModuleList(_same(channels, kernel, 1) for _ in dilations)
        else:
            self.convs = dilated
        self.paired = paired

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, S), same shape back."""
        if not self.paired:
            for conv in self.convs:
                x = x + conv(F.leaky_relu(x, SLOPE))
            return x
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class HiFiGAN(nn.Module):
    """Log-mel spectrogram to waveform; every frame becomes `hop` samples."""

    def __init__(self, config: HiFiGANConfig) -> None:
        super().__init__()
        self.config = config
        self.conv_pre = nn.Conv1d(config.bands, config.width, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        channels = config.width
        for rate, kernel in zip(config.rates, config.kernels, strict=True):
            self.ups.append(
                nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            )
            channels //= 2
            for size, dilations in zip(config.block_kernels, config.dilations, strict=True):
                self.resblocks.append(ResidualBlock(channels, size, dilations, config.paired))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)

    @property
    def reach(self) -> int:
        """Spectrogram frames on either side that a frame's samples depend on, at most."""
        config, rate, frames = self.config, 1, 3.0
        for up, kernel in zip(config.rates, config.kernels, strict=True):
            frames += (kernel / up) / rate
            rate *= up
            wide = max(
                (size - 1) / 2 * (sum(steps) + (len(steps) if config.paired else 0))
                for size, steps in zip(config.block_kernels, config.dilations, strict=True)
            )
            frames += wide / rate
        return math.ceil(frames + 3 / rate)

    def forward(self, mel: Tensor) -> Tensor:
        """(B, M, F) to (B, F * hop) in [-1, 1]."""
        x = self.conv_pre(mel)
        side = len(self.config.block_kernels)
        for i, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            x = torch.stack([block(x) for block in self.resblocks[i * side : (i + 1) * side]]).mean(0)
        return self.conv_post(F.leaky_relu(x, LAST_SLOPE)).tanh()[:, 0]


def load_public(path: Path | str) -> HiFiGAN:
    """A generator from a public file, weight norm folded; which of v1, v2, v3 it is its tensors tell.

    Raises:
        ValueError: not such a file, or its tensors fit none of the three; the message says what differs.
    """
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)["generator"]
    except (pickle.UnpicklingError, KeyError, TypeError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is not a generator file of HiFi-GAN ({error})") from error
    folded = fold_weight_norm(tensors)
    found = {}
    for name, config in PUBLIC.items():
        with torch.device("meta"):
            found[name] = differences(HiFiGAN(config).state_dict(), folded)
        if not found[name]:
            return fill(HiFiGAN, config, folded, str(path))
    name = min(found, key=lambda name: len(found[name]))
    raise ValueError(f"{path} fits none of {', '.join(PUBLIC)}; {name} comes nearest: {found[name]}")


def fold_weight_norm(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Replace each pair `weight_g`, `weight_v` by the weight that they stand for: g v / |v| by first axis."""
    folded = {}
    for name, value in tensors.items():
        if name.endswith("weight_v"):
            length = value.flatten(1).norm(dim=1).reshape(-1, *[1] * (value.dim() - 1))
            folded[name[:-2]] = tensors[name[:-1] + "g"] * value / length
        elif not name.endswith("weight_g"):
            folded[name] = value
    return folded


def _same(channels: int, kernel: int, dilation: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=dilation * (kernel - 1) // 2)


# ---- discriminators ----------------------------------------------------------------------------

Opinion = tuple[list[Tensor], list[list[Tensor]]]
"""Scores (B, any) of each part of a discriminator, and the features of its layers."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Channels of the layers of both discriminators; the defaults are those of the paper."""

    period_widths: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    scale_widths: tuple[int, ...] = (128, 128, 256, 512, 1024, 1024, 1024)
    scale_groups: tuple[int, ...] = (1, 4, 16, 16, 16, 16, 1)


class PeriodDiscriminator(nn.Module):
    """Looks at every `period`-th sample, each phase by itself."""

    def __init__(self, period: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        strides = [3] * (len(widths) - 1) + [1]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(inside, outside, (5, 1), (stride, 1), (2, 0)))
            for inside, outside, stride in zip((1, *widths), widths, strides, strict=False)
        )
        self.conv_post = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Score (B, any) and features of (B, S)."""
        rest = -samples.shape[1] % self.period
        x = F.pad(samples[:, None], (0, rest), mode="reflect").unflatten(2, (-1, self.period))
        return _judge(x, self.convs, self.conv_post)


class ScaleDiscriminator(nn.Module):
    """Looks at the waveform by strided, grouped convolutions."""

    def __init__(self, config: DiscriminatorConfig, spectral: bool) -> None:
        super().__init__()
        norm = spectral_norm if spectral else weight_norm
        widths = config.scale_widths
        kernels, strides = (15, 41, 41, 41, 41, 41, 5), (1, 2, 2, 4, 4, 1, 1)
        self.convs = nn.ModuleList(
            norm(nn.Conv1d(inside, outside, kernel, stride, kernel // 2, groups=groups))
            for inside, outside, kernel, stride, groups in zip(
                (1, *widths), widths, kernels, strides, config.scale_groups, strict=False
            )
        )
        self.conv_post = norm(nn.Conv1d(widths[-1], 1, 3, 1, 1))

    def forward(self, samples: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Score (B, any) and features of (B, S)."""
        return _judge(samples[:, None], self.convs, self.conv_post)


class MultiPeriodDiscriminator(nn.Module):
    """Five `PeriodDiscriminator`s."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(
            PeriodDiscriminator(period, config.period_widths) for period in PERIODS
        )

    def forward(self, samples: Tensor) -> Opinion:
        scores, features = zip(*(part(samples) for part in self.discriminators), strict=True)
        return list(scores), list(features)


class MultiScaleDiscriminator(nn.Module):
    """Three `ScaleDiscriminator`s on the waveform and on its halved and quartered version."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(ScaleDiscriminator(config, i == 0) for i in range(3))

    def forward(self, samples: Tensor) -> Opinion:
        scores, features = [], []
        for i, part in enumerate(self.discriminators):
            if i:
                samples = F.avg_pool1d(samples[:, None], 4, 2, padding=2)[:, 0]
            score, inside = part(samples)
            scores.append(score)
            features.append(inside)
        return scores, features


def _judge(x: Tensor, convs: nn.ModuleList, last: nn.Module) -> tuple[Tensor, list[Tensor]]:
    features = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        features.append(x)
    x = last(x)
    features.append(x)
    return x.flatten(1), features


def discriminator_loss(real: list[Tensor], fake: list[Tensor]) -> Tensor:
    """Least squares: real sounds score 1, made ones 0 (equation 1 of the paper)."""
    return torch.stack(
        [(1 - r.float()).square().mean() + f.float().square().mean() for r, f in zip(real, fake, strict=True)]
    ).sum()


def adversarial_loss(fake: list[Tensor]) -> Tensor:
    """Least squares: made sounds should score 1 (equation 2)."""
    return torch.stack([(1 - score.float()).square().mean() for score in fake]).sum()


def feature_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """L1 between the features of real and made sounds, summed over layers (equation 4)."""
    pairs = [(r, f) for rs, fs in zip(real, fake, strict=True) for r, f in zip(rs, fs, strict=True)]
    return torch.stack([(r.detach().float() - f.float()).abs().mean() for r, f in pairs]).sum()
