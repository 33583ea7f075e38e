"""Small nets of the soundtrack's build, with random weights."""

import tiny
import torch
from torch import nn

from avatar.backbone.hifigan import HiFiGAN, HiFiGANConfig
from avatar.backbone.mel_vae import MelVAE, MelVAEConfig
from avatar.backbone.v2a import V2A, Sight, Text, V2AConfig
from avatar.drivers.sight import VAEEyes
from avatar.soundtrack import Soundtrack
from avatar.soundtrack_presets import SoundtrackPreset

TINY = SoundtrackPreset(
    vae=MelVAEConfig(channels=6, hidden=16, encoder_blocks=1, decoder_blocks=1, kernel=3),
    vocoder=HiFiGANConfig(
        width=32,
        rates=(8, 8, 4),
        kernels=(16, 16, 8),
        paired=False,
        block_kernels=(3, 5),
        dilations=((1, 2), (2, 3)),
    ),
    v2a=V2AConfig(
        channels=6,
        hidden=32,
        heads=2,
        triple_blocks=1,
        single_blocks=1,
        mlp_ratio=2.0,
        motion_parts=4,
        motion_cells=8,
        motion_width=4,
        span=5,
        visual_dim=2048,
        visual_width=8,
        text_dim=384,
    ),
)


def v2a(random: bool = True) -> V2A:
    torch.manual_seed(0)
    net = V2A(TINY.v2a)
    if random:
        for parameter in net.parameters():
            nn.init.normal_(parameter, std=0.1)
    return net.eval()


def soundtrack() -> Soundtrack:
    torch.manual_seed(0)
    vae, vocoder = MelVAE(TINY.vae), HiFiGAN(TINY.vocoder)
    for parameter in (*vae.parameters(), *vocoder.parameters()):
        nn.init.normal_(parameter, std=0.1)
    return Soundtrack(VAEEyes(tiny.vae(random=False)), v2a(), vae.eval(), vocoder.eval())


def sight(batch: int = 2, count: int = 7, tokens: int = 4, seed: int = 0) -> Sight:
    generator = torch.Generator().manual_seed(seed)
    return Sight(
        torch.randn(batch, count, TINY.v2a.span, 256, generator=generator),
        torch.rand(count, generator=generator) - 0.5,
        torch.randn(batch, tokens, 2048, generator=generator),
        torch.arange(tokens) * 3.4 - 0.5,
    )


def text(batch: int = 2, length: int = 5, seed: int = 0) -> Text:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(length) < torch.arange(length - batch + 1, length + 1)[:, None]
    return Text(torch.randn(batch, length, 384, generator=generator), mask)
