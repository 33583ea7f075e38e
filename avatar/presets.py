"""Sizes of the nets as data: `mini` runs on a CPU, `hunyuan` has the sizes of the public 13 B release."""

from dataclasses import dataclass

from avatar.backbone.causal import Kernel
from avatar.backbone.decode import DecoderConfig
from avatar.backbone.vae_nets import VAEConfig

FULL: Kernel = (3, 3, 3)
SPACE: Kernel = (1, 3, 3)
TIME: Kernel = (3, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Configs of the nets that work together.

    Attributes:
        decoder: of the reference-aware decode; None where the VAE's own decode is good enough.
    """

    vae: VAEConfig
    decoder: DecoderConfig | None


MINI = Preset(
    vae=VAEConfig(
        widths=(64, 128),
        kernels=((SPACE, SPACE), (SPACE, TIME)),
        layers_per_block=1,
        patch=(4, 4, 4),
        edge_kernel=(1, 1, 1),
        norm="rms",
        padding="zeros",
        resample="shuffle",
        mid_attention=False,
        stochastic=False,
        linear_shortcut=True,
    ),
    decoder=DecoderConfig(widths=(40, 80, 160), blocks=1),
)

HUNYUAN = Preset(
    vae=VAEConfig(
        widths=(128, 256, 512, 512),
        kernels=((FULL, FULL),) * 4,
        layers_per_block=2,
        scaling_factor=0.476986,
    ),
    decoder=None,
)

PRESETS = {"mini": MINI, "hunyuan": HUNYUAN}
