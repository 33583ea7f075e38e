"""Audio adapter: Whisper features enter the DiT by cross-attention that only the face listens to.

    h <- h + scale * Attn_audio(h, a, a) * M_face        (section 2.2 of the design)

The mask keeps the adapter's own output inside the face. The DiT's self-attention in later blocks may still
carry what it said to other places; the mask is what keeps the body from being driven directly, not a wall.

Shape legend: B batch, T latent frames, F video frames of a latent frame (4), W features of a video frame
(10), N video tokens, K audio tokens of a latent frame, D hidden channels of the DiT.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.attention import Grid, attention, layer_norm, rms_norm

FEATURE_RATE = 50.0  # Hz, of the Whisper encoder
WINDOW = 10  # features around a video frame, +-0.1 s
GROUP = 4  # video frames of every latent frame but the first, which has one


@dataclass(frozen=True, kw_only=True)
class AudioAdapterConfig:
    """Sizes of an `AudioAdapter`.

    Attributes:
        feature_dim: channels of the speech features.
        width: channels of the audio tokens.
        tokens_per_frame: audio tokens of each video frame; a latent frame has four times as many.
        hidden: of the DiT.
        heads: of the cross-attention.
        double_blocks: indices of the dual-stream blocks that are followed by cross-attention.
        single_blocks: the same for single-stream blocks.
    """

    feature_dim: int
    width: int
    tokens_per_frame: int
    hidden: int
    heads: int
    double_blocks: tuple[int, ...]
    single_blocks: tuple[int, ...]


def align(
    features: Tensor, latent_frames: int, fps: float, first_frame: int = 0, start: float = 0.0
) -> Tensor:
    """The speech features around every video frame behind some latent frames, by time.

    Latent frame 0 of a video stands for video frame 0, latent frame i for frames 4i - 3 to 4i. A video frame
    hears the ten features whose centres lie within 0.1 s of its own; beyond the ends of the sound the end
    itself is repeated.

    Args:
        features: (..., n, C) at 50 Hz.
        latent_frames: how many are wanted.
        fps: of the video.
        first_frame: index in the whole video of the first latent frame wanted.
        start: time in the features, in seconds, at which the video begins.

    Returns:
        (..., latent frames, 4, 10, C); the four places of latent frame 0 are the same.
    """
    slots = GROUP * (first_frame + torch.arange(latent_frames))[:, None] - GROUP + 1 + torch.arange(GROUP)
    indices = frame_windows(slots.clamp(min=0), fps, start).clamp(0, features.shape[-2] - 1)
    return features[..., indices, :]


def frame_windows(frames: Tensor | Sequence[int], fps: float, start: float = 0.0) -> Tensor:
    """Rows (..., 10) of the features whose centres lie within 0.1 s of each video frame's, unclamped."""
    times = start + (torch.as_tensor(frames).double() + 0.5) / fps
    # Round half up: half to even would step unevenly at 50 fps. The small term absorbs rounding errors.
    firsts = (times * FEATURE_RATE + 0.5 + 1e-6).floor().long() - WINDOW // 2
    return firsts[..., None] + torch.arange(WINDOW)


class _CrossAttention(nn.Module):
    """Video tokens ask the audio tokens of their own latent frame; zero at the start."""

    def __init__(self, config: AudioAdapterConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.to_q = nn.Linear(config.hidden, config.hidden)
        self.to_kv = nn.Linear(config.width, 2 * config.hidden)
        self.q_norm = nn.Parameter(torch.ones(config.hidden // config.heads))
        self.k_norm = nn.Parameter(torch.ones(config.hidden // config.heads))
        self.proj = nn.Linear(config.hidden, config.hidden)
        for parameter in self.proj.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        """x: (B * T, h * w, D), audio: (B * T, K, width). Returns (B * T, h * w, D)."""
        q = self.to_q(layer_norm(x)).unflatten(-1, (self.heads, -1))
        k, v = self.to_kv(audio).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return self.proj(attention(rms_norm(q, self.q_norm), rms_norm(k, self.k_norm), v))


class AudioAdapter(nn.Module):
    """Turns aligned features into tokens and lets the blocks of a DiT attend them.

    A fresh adapter changes nothing. Its parameters are its own, so they can be trained and saved without the
    DiT's.
    """

    def __init__(self, config: AudioAdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.feature_dim)
        self.project = nn.Sequential(
            nn.Linear(WINDOW * config.feature_dim, 2 * config.width),
            nn.SiLU(),
            nn.Linear(2 * config.width, config.tokens_per_frame * config.width),
        )
        self.token_norm = nn.LayerNorm(config.width)
        self.places = nn.Parameter(torch.empty(GROUP * config.tokens_per_frame, config.width))
        nn.init.uniform_(self.places, -0.03, 0.03)
        self.null = nn.Parameter(torch.zeros(GROUP * config.tokens_per_frame, config.width))
        self.double_layers = nn.ModuleDict({str(i): _CrossAttention(config) for i in config.double_blocks})
        self.single_layers = nn.ModuleDict({str(i): _CrossAttention(config) for i in config.single_blocks})

    def tokens(self, windows: Tensor, drop: Tensor | None = None) -> Tensor:
        """Audio tokens of aligned features.

        Args:
            windows: (B, T, 4, 10, C) from `align`.
            drop: (B,) booleans, True for samples that hear the learned "no audio" instead.

        Returns:
            (B, T, K, width).
        """
        frames = self.project(self.norm(windows).flatten(3))
        tokens = self.token_norm(frames.unflatten(-1, (self.config.tokens_per_frame, -1)).flatten(2, 3))
        if drop is not None:
            tokens = torch.where(drop[:, None, None, None], self.null.to(tokens.dtype), tokens)
        return tokens + self.places

    def bind(
        self,
        windows: Tensor | None,
        face: Tensor,
        scale: float | Tensor = 1.0,
        drop: Tensor | None = None,
    ) -> "BoundAudio":
        """This adapter with its condition, ready to be given to a DiT.

        Args:
            windows: (B, T, 4, 10, C) from `align`; None for the learned "no audio", the other branch of
                classifier-free guidance.
            face: (B or 1, 1, T or 1, h, w) in [0, 1], at the size of latents or of tokens.
            scale: strength, a number or (B or 1, T); 0 turns the audio off.
            drop: (B,) booleans, see `tokens`.
        """
        tokens = (self.null + self.places)[None, None] if windows is None else self.tokens(windows, drop)
        return BoundAudio(self, tokens, face, scale)


class BoundAudio:
    """An `AudioAdapter` holding the audio and the face of one batch; a `BlockAdapter` of the DiT."""

    def __init__(self, adapter: AudioAdapter, tokens: Tensor, face: Tensor, scale: float | Tensor) -> None:
        self.adapter, self.tokens, self.face = adapter, tokens, face
        self.scale = torch.as_tensor(scale)

    def after_double(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Video tokens (B, N, D) after dual-stream block `index`."""
        return self._after(self.adapter.double_layers, index, tokens, grid)

    def after_single(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Video tokens (B, N, D) after single-stream block `index`."""
        return self._after(self.adapter.single_layers, index, tokens, grid)

    def _after(self, layers: nn.ModuleDict, index: int, x: Tensor, grid: Grid) -> Tensor:
        if str(index) not in layers or not self.scale.any():
            return x
        frames, height, width = grid
        asked = x.reshape(x.shape[0] * frames, height * width, -1)
        audio = self.tokens.expand(x.shape[0], frames, -1, -1).flatten(0, 1)
        heard = layers[str(index)](asked, audio).reshape(x.shape)
        face = F.adaptive_avg_pool3d(self.face.to(x.dtype), (None, height, width)).expand(
            -1, -1, frames, -1, -1
        )
        scale = self.scale.to(x)
        if scale.dim():
            scale = scale[:, :, None].expand(-1, -1, height * width).flatten(1)[..., None]
        return x + scale * heard * face.flatten(1)[..., None]
