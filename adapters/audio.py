"""Audio adapter: Whisper features enter the DiT by cross-attention that only the face listens to.

    h <- h + scale * Attn_audio(h, a, a) * M_face        (section 2.2 of the design)

Shape legend: B batch, T latent frames, F video frames of a latent frame (4), W features of a video frame
(10), K audio tokens of a latent frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avatar.adapters.cross_attention import Bound, layers

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
        sizes = config.hidden, config.width, config.heads
        self.double_layers = layers(config.double_blocks, *sizes)
        self.single_layers = layers(config.single_blocks, *sizes)

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
        self, windows: Tensor | None, face: Tensor, scale: float | Tensor = 1.0, drop: Tensor | None = None
    ) -> Bound:
        """This adapter with its condition, ready to be given to a DiT.

        Args:
            windows: (B, T, 4, 10, C) from `align`; None for the learned "no audio", the other branch of
                classifier-free guidance.
            face: (B or 1, 1, T or 1, h, w) in [0, 1], at the size of latents or of tokens.
            scale: strength, see `Bound`; 0 turns the audio off.
            drop: (B,) booleans, see `tokens`.
        """
        tokens = (self.null + self.places)[None, None] if windows is None else self.tokens(windows, drop)
        return Bound(self.double_layers, self.single_layers, tokens, face, scale)
