"""Video-to-audio transformer: what is seen, what is heard and what is said meet in three-stream blocks.

Sound latents, visual tokens and text tokens have their own modulation, projections and MLP in the first
blocks and are joined in attention only; single-stream blocks on the joined sequence follow (section 3 of
the design). Visual and text features enter through their own linear projections with SwiGLU. Beside the
visual tokens, the motion around the moment of each sound latent is added to its token: that is what puts a
sound on its frame. The same motion is asked whether something is struck; the answer is learned from the times
of blows and is part of what is added.

Shape legend: B batch, N sound latents of C channels, V visual tokens, L text tokens, W frames of motion
around a sound latent, D hidden channels.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.attention import Rotation, attention, rope_frequencies
from avatar.backbone.dit import TIME_SCALE, Attend, DiTConfig, FinalLayer, HeadNorm, SingleBlock, init_weights
from avatar.backbone.embed import MLP, PooledEmbedder, ScalarEmbedder
from avatar.backbone.modulation import Modulation
from avatar.backbone.norm_rope import norm_rope

STREAMS = ("audio", "visual", "text")


@dataclass(frozen=True, kw_only=True)
class V2AConfig:
    """Sizes of a `V2A`.

    Attributes:
        channels: of the sound latents.
        motion_parts: numbers that tell the motion of a cell.
        motion_cells: of a frame on a side.
        motion_width: channels of the convolutions that look at it.
        span: frames of motion around a sound latent.
        visual_dim: numbers of a visual token.
        visual_width: inner channels of its projection.
        text_dim: channels of the text tokens.
    """

    channels: int
    hidden: int
    heads: int
    triple_blocks: int
    single_blocks: int
    mlp_ratio: float = 4.0
    rope_theta: float = 1000.0
    motion_parts: int
    motion_cells: int
    motion_width: int
    span: int
    visual_dim: int
    visual_width: int
    text_dim: int


class Sight(NamedTuple):
    """What is seen around a window of sound latents.

    Attributes:
        motion: (B, N, W, parts * cells^2), frames around the moment of each sound latent.
        phase: (N,), where the middle frame lies from that moment, in frames.
        tokens: (B, V, visual channels).
        moments: (V,), times of the visual tokens in sound latents from the window's first.
    """

    motion: Tensor
    phase: Tensor
    tokens: Tensor
    moments: Tensor


class Heard(NamedTuple):
    """Velocity (B, N, C) of the sound latents, and logits (B, N) of a visible blow at each of them."""

    velocity: Tensor
    blows: Tensor


class Text(NamedTuple):
    """Token states (B, L, text channels) and which of them count, (B, L)."""

    states: Tensor
    mask: Tensor


class SwiGLU(nn.Module):
    """Linear projection with a gate: silu(a x) b x, then to `hidden` channels."""

    def __init__(self, channels: int, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(channels, 2 * width)
        self.out = nn.Linear(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) to (..., D)."""
        gate, value = self.gate(x).chunk(2, dim=-1)
        return self.out(F.silu(gate) * value)


class MotionEncoder(nn.Module):
    """What moves around a moment, wherever in the picture: convolutions over cells, their mean and most.

    A blow looks alike in every place, so weights that are shared by all places need fewer examples.
    """

    def __init__(self, config: V2AConfig) -> None:
        super().__init__()
        width = config.motion_width
        self.grid = (config.span * config.motion_parts, config.motion_cells, config.motion_cells)
        self.conv_in = nn.Conv2d(self.grid[0], width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, width, 3, padding=1)
        self.blow = SwiGLU(2 * width + 1, config.hidden, 1)
        self.project = SwiGLU(2 * width + 2, config.hidden, config.hidden)

    def forward(self, motion: Tensor, phase: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, W, parts * cells^2) and phases (N,) to (B, N, D) and logits of a blow, (B, N)."""
        cells = motion.flatten(2).unflatten(2, self.grid)
        x = F.silu(self.conv_out(F.silu(self.conv_in(cells.flatten(0, 1)))))
        seen = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1).unflatten(0, motion.shape[:2])
        seen = torch.cat([seen, phase[None, :, None].expand(len(seen), -1, 1).to(seen)], dim=-1)
        blows = self.blow(seen)
        return self.project(torch.cat([seen, blows.detach().sigmoid()], dim=-1)), blows[..., 0]


class TripleBlock(nn.Module):
    """Three streams with their own weights, joined in attention only."""

    def __init__(self, config: V2AConfig) -> None:
        super().__init__()
        hidden, head = config.hidden, config.hidden // config.heads
        self.heads = config.heads
        for s in STREAMS:
            self.add_module(f"{s}_mod", Modulation(hidden, 6))
            self.add_module(f"{s}_qkv", nn.Linear(hidden, 3 * hidden))
            self.add_module(f"{s}_q_norm", HeadNorm(head))
            self.add_module(f"{s}_k_norm", HeadNorm(head))
            self.add_module(f"{s}_proj", nn.Linear(hidden, hidden))
            self.add_module(f"{s}_mlp", MLP(hidden, int(hidden * config.mlp_ratio)))

    def forward(
        self, streams: dict[str, Tensor], vector: Tensor, rotations: dict[str, Rotation], attend: Attend
    ) -> dict[str, Tensor]:
        """Tokens (B, any, D) of each stream, same shapes back.

        Args:
            vector: (B, D), condition.
            rotations: of the streams that have a place in time.
            attend: attention that knows which tokens may be looked at.
        """
        parts: dict[str, list] = {"q": [], "k": [], "v": []}
        modulations = {}
        for s, x in streams.items():
            modulations[s] = m = self.get_submodule(f"{s}_mod")(vector)
            q, k, v = (
                self.get_submodule(f"{s}_qkv")(m.norm(x, 0)).unflatten(-1, (3, self.heads, -1)).unbind(2)
            )
            turn = rotations.get(s)
            parts["q"].append((q, self.get_submodule(f"{s}_q_norm").weight, turn))
            parts["k"].append((k, self.get_submodule(f"{s}_k_norm").weight, turn))
            parts["v"].append(v)
        joined = attend(norm_rope(parts["q"]), norm_rope(parts["k"]), torch.cat(parts["v"], dim=1))
        seen = joined.split([x.shape[1] for x in streams.values()], dim=1)
        out = {}
        for (s, x), y in zip(streams.items(), seen, strict=True):
            m = modulations[s]
            x = m.add(x, self.get_submodule(f"{s}_proj")(y), 0)
            out[s] = m.add(x, self.get_submodule(f"{s}_mlp")(m.norm(x, 1)), 1)
        return out


class V2A(nn.Module):
    """Predicts the velocity of noisy sound latents from what is seen and said."""

    def __init__(self, config: V2AConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.audio_in = nn.Linear(config.channels, hidden)
        self.motion_in = MotionEncoder(config)
        self.visual_project = SwiGLU(config.visual_dim, config.visual_width, hidden)
        self.text_project = SwiGLU(config.text_dim, hidden, hidden)
        self.pooled_in = PooledEmbedder(config.text_dim, hidden)
        self.time_in = ScalarEmbedder(hidden)
        self.nothing = nn.ParameterDict(
            {s: nn.Parameter(torch.zeros(hidden)) for s in ("motion", "visual", "text")}
        )
        self.triple_blocks = nn.ModuleList(TripleBlock(config) for _ in range(config.triple_blocks))
        blocks = DiTConfig(
            in_channels=config.channels,
            out_channels=config.channels,
            hidden=hidden,
            heads=config.heads,
            double_blocks=0,
            single_blocks=config.single_blocks,
            rope_channels=(hidden // config.heads, 0, 0),
            mlp_ratio=config.mlp_ratio,
        )
        self.single_blocks = nn.ModuleList(SingleBlock(blocks) for _ in range(config.single_blocks))
        self.final_layer = FinalLayer(hidden, config.channels)
        init_weights(self)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        sight: Sight,
        text: Text,
        blind: Tensor | None = None,
        mute: Tensor | None = None,
    ) -> Heard:
        """Velocity and blows.

        Args:
            x: (B, N, C), noisy latents at `time` (B,), 0 noise to 1 sound.
            blind: (B,), True for samples whose picture is withheld.
            mute: (B,), True for samples whose text is withheld.
        """
        batch, count = x.shape[:2]
        none = torch.zeros(batch, dtype=torch.bool, device=x.device)
        blind, mute = none if blind is None else blind, none if mute is None else mute
        motion, blows = self.motion_in(sight.motion, sight.phase)
        streams = {
            "audio": self.audio_in(x) + self._or_nothing("motion", motion, blind),
            "visual": self._or_nothing("visual", self.visual_project(sight.tokens), blind),
            "text": self._or_nothing("text", self.text_project(text.states), mute),
        }
        weight = (text.mask & ~mute[:, None]).unsqueeze(-1)
        pooled = (text.states * weight).sum(1) / weight.sum(1).clamp(min=1)
        vector = self.time_in(TIME_SCALE * time[:, None]) + self.pooled_in(pooled)
        audio, visual = (self._rotation(m.to(x.device)) for m in (torch.arange(count), sight.moments))
        seen = torch.ones(batch, count + sight.tokens.shape[1], dtype=torch.bool, device=x.device)
        mask = torch.cat([seen, text.mask | mute[:, None]], dim=1)[:, None, None]
        attend = partial(attention, mask=mask)

        for block in self.triple_blocks:
            streams = block(streams, vector, {"audio": audio, "visual": visual}, attend)
        tokens = torch.cat(list(streams.values()), dim=1)
        both = torch.cat([audio, visual])
        for block in self.single_blocks:
            tokens = block(tokens, vector, both, attend)
        return Heard(self.final_layer(tokens[:, :count], vector), blows)

    def _or_nothing(self, stream: str, x: Tensor, withheld: Tensor) -> Tensor:
        return torch.where(withheld[:, None, None], self.nothing[stream].to(x.dtype), x)

    def _rotation(self, moments: Tensor) -> Rotation:
        """Rotations of tokens at times in sound latents."""
        frequencies = rope_frequencies(self.config.hidden // self.config.heads, self.config.rope_theta)
        angles = moments.float().cpu()[:, None] * frequencies
        return torch.complex(angles.cos(), angles.sin()).to(moments.device)
