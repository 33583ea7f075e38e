"""Nets of the preset mini's build, small enough for tests, and a face drawn from the mesh's mean."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from avatar.adapters.audio import AudioAdapterConfig
from avatar.adapters.expression import ExpressionAdapterConfig
from avatar.backbone.decode import DecoderConfig, ReferenceDecoder
from avatar.backbone.dit import DiTConfig, FinalLayer, Modulation
from avatar.backbone.vae import CausalVAE
from avatar.drivers.curves import INDEX
from avatar.drivers.mesh import MOUTH, FaceBasis
from avatar.model import Generator, GeneratorConfig
from avatar.presets import MINI

FEATURES = 384  # of Whisper tiny

TINY = replace(
    MINI,
    vae=replace(MINI.vae, widths=(8, 16)),
    dit=DiTConfig(
        in_channels=16,
        condition_channels=53,
        out_channels=16,
        hidden=32,
        heads=2,
        double_blocks=1,
        single_blocks=2,
        rope_channels=(4, 6, 6),
        scalars=2,
    ),
    audio=AudioAdapterConfig(
        feature_dim=FEATURES,
        width=8,
        tokens_per_frame=2,
        hidden=32,
        heads=2,
        double_blocks=(0,),
        single_blocks=(1,),
    ),
    expression=ExpressionAdapterConfig(
        code=48, width=8, hidden=32, heads=2, every=1, double_blocks=1, single_blocks=2
    ),
    decoder=DecoderConfig(widths=(8, 16, 16), blocks=1, relief=9),
    window=8,
)


def generator(random: bool, config: GeneratorConfig | None = None) -> Generator:
    """A generator as it starts, or with random weights where it starts with zeros."""
    torch.manual_seed(0)
    net = Generator(config or TINY.generator)
    if random:
        layers = [m for m in net.dit.modules() if isinstance(m, Modulation | FinalLayer)]
        for adapter in (net.audio, net.expression):
            layers += [adapter.double_layers, adapter.single_layers]
        for layer in (*layers, net.pose):
            _randomise(layer)
    return net.eval()


def vae(random: bool) -> CausalVAE:
    """A VAE that codes smooth pictures well; `random` weights beside the linear transform make it worse."""
    torch.manual_seed(0)
    net = CausalVAE(TINY.vae)
    pictures = np.stack([picture(64, seed) for seed in range(16)])
    clips = torch.from_numpy(pictures).permute(0, 3, 1, 2)[:, :, None].float() / 127.5 - 1
    net.init_linear_shortcut(net.blocks(clips))
    if random:
        _randomise(net.encoder.conv_out)
        _randomise(net.decoder.conv_out)
    return net.eval()


def decoder(random: bool, plain: bool = False) -> ReferenceDecoder:
    """A reference-aware decode as it starts, or with random weights where it starts with zeros; `plain` makes
    it draw the VAE's decode in place of the driven picture."""
    torch.manual_seed(0)
    assert TINY.decoder is not None
    net = ReferenceDecoder(TINY.decoder)
    if random:
        _randomise(net.head)
    if plain:
        first = sum(net.parts[:3])
        nn.init.constant_(net.head.bias[first : first + net.parts[3]], 30.0)  # type: ignore[index]
    return net.eval()


def _randomise(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.05)


def picture(side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth colours, (side, side, 3)."""
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0].permute(1, 2, 0)
    return np.ascontiguousarray((smooth.clamp(0, 1) * 255).numpy().astype(np.uint8))


def landmarks(side: int) -> NDArray[np.float32]:
    """The mean face with closed lips, 0.43 of a picture's side high, in its middle: (478, 3), px."""
    face = FaceBasis.load().neutral.copy()
    face[list(MOUTH.lower), 1] = face[list(MOUTH.upper), 1]
    return (face * 0.43 * side + side / 2).astype(np.float32)


def motion(frames: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Curves (frames, 52) of a moving mouth and a blinking eye, and a swaying head (frames, 6)."""
    time = np.arange(frames) + 10.0 * seed
    curves, head = np.zeros((frames, len(INDEX)), np.float32), np.zeros((frames, 6), np.float32)
    curves[:, INDEX["jawOpen"]] = 0.25 - 0.25 * np.cos(time / 2)
    curves[:, INDEX["eyeBlinkLeft"]] = (np.sin(time / 5) > 0.9).astype(np.float32)
    head[:, 0], head[:, 2], head[:, 3] = 0.1 * np.sin(time / 7), 0.05 * np.cos(time / 9), 0.01 * np.sin(time)
    return curves, head
