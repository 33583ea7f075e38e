"""Motion from text: a small DiT that makes tracks of a face and a head from noise, given an encoded prompt.

It is the backbone's DiT on a grid of time alone: four frames of 0.08 s are a patch, its channels are tracks.
As with the generator, the condition is made spatial first: a regression says the mean motion that the words
ask for, and the DiT learns what a mean can not say, such as when and how often a head nods. The net predicts
clean tracks. Long motion is made in windows; the frames that a window shares with the one before are given.

Shapes: B samples, T frames at 12.5 Hz, C tracks; the DiT sees (B, C, T, 1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.backbone.dit import TIME_SCALE, DiT, DiTConfig
from avatar.backbone.embed import ScalarEmbedder, TextRefiner
from avatar.drivers.curves import CURVES, curve_indices
from avatar.drivers.text import CHANNELS, Sentences

Array = NDArray[np.float32]

RATE = Fraction(25, 2)  # Hz, of the tracks
WINDOW = 96  # frames, 7.68 s
CONTEXT = 12  # frames that a window shares with the one before
PATCH = 4  # frames of a token
PAIR = 2  # frames of a value of the mean motion
LONGEST = 20.0  # s, times beyond are the same to the net
POOLED_GAIN = CHANNELS**0.5  # pooled text is of length one; as large as the tokens, it is learnt sooner
TOKEN_GAIN = 2.0  # the tokens' deviation is one half

# What a prompt moves. A curve without its side stands for both.
FACE = (
    "mouthSmileLeft", "mouthSmileRight", "mouthFrown", "mouthDimple", "mouthStretch", "mouthUpperUp",
    "mouthLowerDown", "mouthPress", "mouthPucker", "mouthShrugLower", "jawOpen", "cheekSquint", "cheekPuff",
    "noseSneer", "browDown", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "eyeWide", "eyeSquint",
    "eyeBlinkLeft", "eyeBlinkRight",
)  # fmt: skip
GAZE = ("gazeRight", "gazeDown")  # to the picture's right and down, in units of the gaze curves
HEAD = ("yaw", "pitch", "roll", "right", "down", "away")  # as in `avatar.drivers.mesh.ReferenceMesh.place`
SWAY = ("sway",)  # change of the size of the idle sway: -1 is none at all, 1 is twice as much
TRACKS = (*FACE, *GAZE, *HEAD, *SWAY)
TRACK = {name: index for index, name in enumerate(TRACKS)}
# What counts as a unit of each track: about how far a plain prompt moves it.
UNITS = np.array(
    [0.5] * len(FACE) + [0.5, 0.4, 0.2, 0.13, 0.13, 0.06, 0.03, 0.4, 0.7],
    np.float32,
)


def dit_config(width: int = 128) -> DiTConfig:
    """Sizes of the DiT of a `PromptNet`; `width` is a multiple of 8."""
    return DiTConfig(
        in_channels=len(TRACKS),
        condition_channels=2 * len(TRACKS) + 1,
        out_channels=len(TRACKS),
        hidden=width,
        heads=4,
        double_blocks=1,
        single_blocks=3,
        rope_channels=(width // 4, 0, 0),
        mlp_ratio=2.0,
        patch=(PATCH, 1, 1),
        text_dim=CHANNELS,
        pooled_dim=CHANNELS,
        refiner_blocks=1,
        scalars=2,
    )


@dataclass(frozen=True, kw_only=True)
class MeanConfig:
    """Sizes of a `MeanMotion`; `width` is a multiple of the queries."""

    width: int = 128
    queries: int = 8


class MeanMotion(nn.Module):
    """Mean of the motion that a prompt asks for: refined tokens are read by learned queries.

    Tracks are in units of their deviation over the training motion, which the net keeps.
    """

    deviation: Tensor

    def __init__(self, config: MeanConfig) -> None:
        super().__init__()
        self.config = config
        width, head = config.width, config.width // config.queries
        self.register_buffer("deviation", torch.from_numpy(UNITS.copy()))
        self.refine = TextRefiner(CHANNELS, width, 4, 2.0, 1)
        self.queries = nn.Parameter(torch.randn(config.queries, 1, head) / head**0.5)
        self.keys, self.values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.when = ScalarEmbedder(width, 2)
        self.read = nn.Linear(CHANNELS + 3 * width, 2 * width)
        self.out = nn.Linear(2 * width, len(TRACKS) * WINDOW // PAIR)

    def forward(self, text: Sentences, when: Tensor) -> Tensor:
        """Tracks (B, C, T / 2) of prompts, two frames in one; `when` as in `PromptNet`."""
        start = TIME_SCALE * (when / LONGEST).clamp(0, 1)
        tokens = self.refine(TOKEN_GAIN * text.tokens, start[:, 0], text.mask)
        count = self.config.queries
        keys, values = (
            part.unflatten(-1, (count, -1)).transpose(1, 2)
            for part in (self.keys(tokens), self.values(tokens))
        )
        queries = self.queries.to(keys.dtype).expand(len(tokens), -1, -1, -1)
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=text.mask[:, None, None])
        known = [POOLED_GAIN * text.pooled, found.flatten(1), self.when(start)]
        return self.out(F.gelu(self.read(torch.cat(known, 1)))).unflatten(1, (len(TRACKS), -1))


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """Sizes of a `PromptNet`."""

    mean: MeanConfig = field(default_factory=MeanConfig)
    dit: DiTConfig = field(default_factory=dit_config)


class PromptNet(nn.Module):
    """Clean tracks from noisy ones, a prompt, and what came before; units as in `MeanMotion`."""

    def __init__(self, config: PromptConfig) -> None:
        super().__init__()
        self.config = config
        self.mean = MeanMotion(config.mean)
        self.dit = DiT(config.dit)

    @property
    def deviation(self) -> Tensor:
        """Unit of every track, (C,)."""
        return self.mean.deviation

    def forward(
        self, x: Tensor, time: Tensor, text: Sentences, known: Tensor, given: Tensor, when: Tensor
    ) -> Tensor:
        """Clean tracks (B, C, T, 1, 1), in units of their deviation.

        Args:
            x: (B, C, T, 1, 1), tracks at `time` (B,), 0 noise to 1 clean.
            text: B prompts, see `without_text`.
            known: (B, C, T, 1, 1), the frames that are given; 0 elsewhere.
            given: (B, 1, T, 1, 1), 1 where a frame is given.
            when: (B, 2), seconds from the start of the motion to the window, and of the whole motion.
        """
        mean = self.mean_motion(text, when)[..., None, None]
        change = self.dit(
            x,
            TIME_SCALE * time,
            torch.cat([known, given, mean], dim=1),
            text=text.tokens,
            text_mask=text.mask,
            pooled=POOLED_GAIN * text.pooled,
            scalars=(when / LONGEST).clamp(0, 1),
        )
        return mean + change

    def mean_motion(self, text: Sentences, when: Tensor) -> Tensor:
        """Mean of the tracks (B, C, T) that prompts ask for, in units of their deviation."""
        return F.interpolate(self.mean(text, when).float(), WINDOW, mode="linear")


def without_text(text: Sentences, dropped: Tensor) -> Sentences:
    """Prompts of which those `dropped` (B,) say nothing: one token of zeros, a vector of zeros."""
    first = torch.zeros_like(text.mask)
    first[:, 0] = True
    return Sentences(
        torch.where(dropped[:, None, None], 0, text.tokens),
        torch.where(dropped[:, None], first, text.mask),
        torch.where(dropped[:, None], 0, text.pooled),
    )


def curves_of(tracks: Array) -> Array:
    """Tracks (T, C) as face curves (T, 52), added to those of a face; they may be below 0."""
    curves = np.zeros((len(tracks), len(CURVES)), np.float32)
    for name in FACE:
        curves[:, curve_indices(name)] = tracks[:, TRACK[name], None]
    right, down = (tracks[:, TRACK[name], None] for name in GAZE)
    # The person's left is the picture's right.
    curves[:, curve_indices("eyeLookOutLeft", "eyeLookInRight")] = np.maximum(right, 0)
    curves[:, curve_indices("eyeLookInLeft", "eyeLookOutRight")] = np.maximum(-right, 0)
    curves[:, curve_indices("eyeLookDown")] = np.maximum(down, 0)
    curves[:, curve_indices("eyeLookUp")] = np.maximum(-down, 0)
    return curves


def head_of(tracks: Array) -> Array:
    """Tracks (T, C) as head pose (T, 6), added to that of a head."""
    return tracks[:, [TRACK[name] for name in HEAD]]
