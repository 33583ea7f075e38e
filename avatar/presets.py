"""Sizes of the nets as data: `mini` runs on a CPU, `hunyuan` is the public 13 B net with our own adapter."""

from dataclasses import dataclass

from avatar.adapters.audio import AudioAdapterConfig
from avatar.adapters.expression import ExpressionAdapterConfig
from avatar.backbone.causal import Kernel
from avatar.backbone.decode import DecoderConfig
from avatar.backbone.dit import DiTConfig
from avatar.backbone.vae_nets import VAEConfig
from avatar.model import GeneratorConfig
from avatar.releases import TEXT

SPACE: Kernel = (1, 3, 3)
TIME: Kernel = (3, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Configs of the nets that work together.

    Attributes:
        decoder: of the reference-aware decode; None where the VAE's own decode is good enough.
        window: side, in latent cells, of the square around the face that the generator redraws; around it the
            driven reference stays as it is. None redraws everything.
    """

    vae: VAEConfig
    dit: DiTConfig
    audio: AudioAdapterConfig
    expression: ExpressionAdapterConfig
    decoder: DecoderConfig | None
    window: int | None = None

    @property
    def generator(self) -> GeneratorConfig:
        """Config of the DiT with its adapters."""
        return GeneratorConfig(dit=self.dit, audio=self.audio, expression=self.expression)


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
    dit=DiTConfig(
        in_channels=16,
        # Latents of the reference and of the driven reference, hole of four frames, known latents and mask.
        condition_channels=16 + 16 + 4 + 17,
        out_channels=16,
        hidden=256,
        heads=4,
        double_blocks=2,
        single_blocks=6,
        rope_channels=(16, 24, 24),
        scalars=2,  # head motion and expressiveness
    ),
    audio=AudioAdapterConfig(
        feature_dim=384,
        width=128,
        tokens_per_frame=2,
        hidden=256,
        heads=4,
        double_blocks=(0, 1),
        single_blocks=(1, 3),
    ),
    expression=ExpressionAdapterConfig(
        code=48, width=64, hidden=256, heads=4, every=2, double_blocks=2, single_blocks=6
    ),
    decoder=DecoderConfig(widths=(40, 80, 160), blocks=1, relief=9),  # see avatar.drivers.warp.Driven
    window=16,
)

HUNYUAN = Preset(
    vae=TEXT.vae,
    dit=TEXT.dit,
    audio=AudioAdapterConfig(
        feature_dim=384,
        width=1024,
        tokens_per_frame=4,
        hidden=3072,
        heads=24,
        double_blocks=tuple(range(0, 20, 2)),
        single_blocks=tuple(range(0, 40, 4)),
    ),
    expression=ExpressionAdapterConfig(
        code=48, width=1024, hidden=3072, heads=24, every=4, double_blocks=20, single_blocks=40
    ),
    decoder=None,
)

PRESETS = {"mini": MINI, "hunyuan": HUNYUAN}
