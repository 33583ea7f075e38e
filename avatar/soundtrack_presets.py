"""Sizes of the soundtrack's nets as data."""

from dataclasses import dataclass
from typing import Literal

from avatar.backbone.hifigan import V1, V3, HiFiGANConfig
from avatar.backbone.mel import MelConfig
from avatar.backbone.mel_vae import MelVAEConfig
from avatar.backbone.v2a import V2AConfig


@dataclass(frozen=True, kw_only=True)
class SoundtrackPreset:
    """Configs of the nets that make a soundtrack together, and what sees and reads for them.

    Attributes:
        eyes: the backbone's VAE, or CLIP's image encoder.
        reader: the sentence encoder of the drive's prompts, or T5's encoder.
    """

    eyes: Literal["vae", "clip"] = "vae"
    reader: Literal["sentences", "t5"] = "sentences"
    vae: MelVAEConfig
    vocoder: HiFiGANConfig
    v2a: V2AConfig


MINI = SoundtrackPreset(
    vae=MelVAEConfig(channels=128, hidden=192, encoder_blocks=3, decoder_blocks=4),
    vocoder=HiFiGANConfig(
        width=192,
        rates=V3.rates,
        kernels=V3.kernels,
        paired=V3.paired,
        block_kernels=V3.block_kernels,
        dilations=V3.dilations,
    ),
    v2a=V2AConfig(
        channels=128,
        hidden=160,
        heads=5,
        triple_blocks=2,
        single_blocks=6,
        mlp_ratio=3.0,
        motion_parts=4,  # see avatar.drivers.sight
        motion_cells=8,
        motion_width=48,
        span=7,
        visual_dim=2048,  # a latent frame's looks and the motion of its four frames
        visual_width=96,
        text_dim=384,  # of all-MiniLM-L6-v2
    ),
)

# The paper tells no sizes. Width and depth are those of the released HunyuanVideo-Foley; CLIP is ViT-L/14,
# whose vectors have 768 numbers, and T5 the encoder of t5-v1_1-large.
FULL = SoundtrackPreset(
    eyes="clip",
    reader="t5",
    vae=MelVAEConfig(channels=128, hidden=512, encoder_blocks=6, decoder_blocks=8),
    vocoder=V1,
    v2a=V2AConfig(
        channels=128,
        hidden=1536,
        heads=12,
        triple_blocks=18,
        single_blocks=36,
        rope_theta=10000.0,
        motion_parts=4,
        motion_cells=8,
        motion_width=256,
        span=7,
        visual_dim=768 + 1024,  # CLIP's vector and the motion of four frames
        visual_width=1536,
        text_dim=1024,
    ),
)

PRESETS = {"mini": MINI, "full": FULL}
LATENT_SECONDS = MINI.vae.frames * MelConfig().hop / MelConfig().rate  # 46.4 ms
