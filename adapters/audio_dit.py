"""A DiT that hears speech and is shown a picture of the speaker, in the layout of the released audio model.

The picture comes in twice: as one more latent frame just before the video (time index -1) through the same
patch embedding, and added to the tokens of every frame through one of its own. Speech enters after some
dual-stream blocks by attention inside each latent frame, where the face mask lets it. Two motion settings and
the frame rate are embedded as times are and added to the condition vector (sections 5.2 to 5.5 and 5.8 of the
reference, which also lists the parameter names). `avatar.adapters.audio` is this project's own design.

Shape legend: B batch, C latent channels, T latent frames, F = 4 (T - 1) + 1 video frames, h w latent height
and width, N video tokens, K audio tokens of a latent frame, D hidden channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.adapters.audio import GROUP
from avatar.backbone.attention import Grid, attention
from avatar.backbone.dit import DiT, DiTConfig, PatchEmbed
from avatar.backbone.embed import ScalarEmbedder


@dataclass(frozen=True, kw_only=True)
class AudioDiTConfig(DiTConfig):
    """Sizes of an `AudioDiT`.

    Attributes:
        speech: features behind one video frame: (positions in time, hidden states of the encoder, channels).
        speech_width: of the layers that project them.
        tokens_per_frame: audio tokens of each video frame; a latent frame has four times as many.
        speech_attention: channels of the one head that attends them.
        speech_blocks: indices of the dual-stream blocks followed by that attention.
        motion_values: how many numbers describe the expression, and how many the pose.
    """

    speech: tuple[int, int, int]
    speech_width: int
    tokens_per_frame: int
    speech_attention: int
    speech_blocks: tuple[int, ...]
    motion_values: int


class SpeechProjection(nn.Module):
    """Features around each video frame, (B, F, *speech), to tokens (B, F, K / 4, D)."""

    def __init__(self, config: AudioDiTConfig) -> None:
        super().__init__()
        positions, states, channels = config.speech
        self.tokens, width = config.tokens_per_frame, config.speech_width
        self.proj1 = nn.Linear(positions * states * channels, width)
        self.proj2 = nn.Linear(width, width)
        self.proj3 = nn.Linear(width, self.tokens * config.hidden)
        self.norm = nn.LayerNorm(config.hidden)

    def forward(self, speech: Tensor) -> Tensor:
        x = self.proj2(self.proj1(speech.flatten(2)).relu()).relu()
        return self.norm(self.proj3(x).unflatten(-1, (self.tokens, -1)))


class SpeechAttention(nn.Module):
    """Video tokens of a latent frame ask its audio tokens, with one head; zero at the start."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.to_q = nn.Linear(hidden, width, bias=False)
        self.to_kv = nn.Linear(hidden, 2 * width, bias=False)
        self.to_out = nn.Linear(width, hidden, bias=False)
        nn.init.zeros_(self.to_out.weight)

    def forward(self, x: Tensor, audio: Tensor) -> Tensor:
        """x: (B * T, h * w, D), audio: (B * T, K, D). Returns (B * T, h * w, D)."""
        q = self.to_q(self.norm2(x))[:, :, None]
        k, v = self.to_kv(self.norm1(audio))[:, :, None].chunk(2, dim=-1)
        return self.to_out(attention(q, k, v))


class AudioDiT(DiT):
    """`DiT` with the released audio model's reference, speech, motion and frame rate."""

    def __init__(self, config: AudioDiTConfig) -> None:
        super().__init__(config)
        self.config: AudioDiTConfig = config
        hidden = config.hidden
        self.ref_in = PatchEmbed(config.in_channels, hidden, config.patch)
        self.before_proj = nn.Linear(hidden, hidden)
        self.audio_proj = SpeechProjection(config)
        self.motion_exp = ScalarEmbedder(hidden // config.motion_values)
        self.motion_pose = ScalarEmbedder(hidden // config.motion_values)
        self.fps_proj = ScalarEmbedder(hidden)
        self.audio_adapter_blocks = nn.ModuleList(
            SpeechAttention(hidden, config.speech_attention) for _ in config.speech_blocks
        )

    def animate(
        self,
        x: Tensor,
        time: Tensor,
        *,
        reference: Tensor,
        speech: Tensor,
        face: Tensor,
        expression: Tensor,
        pose: Tensor,
        fps: Tensor,
        text: Tensor,
        text_mask: Tensor | None,
        pooled: Tensor,
    ) -> Tensor:
        """One evaluation.

        Args:
            x: (B, C, T, h, w), noisy latents.
            time: (B,), 0..1000.
            reference: (B, C, T, h, w), latents of the picture shown in every frame.
            speech: (B, F, *speech); zeros for no speech, as the other branch of guidance wants.
            face: (B, 1, T or 1, h, w), where the speech may act, times its strength.
            expression: (B, motion values), about 30.
            pose: (B, motion values), about 25.
            fps: (B,).
            text: (B, L, text channels), with `text_mask` (B, L), True for tokens that count.
            pooled: (B, pooled channels).

        Returns:
            (B, C, T, h, w).
        """
        frames = x.shape[2]
        seen = self.before_proj(self.ref_in(reference))
        leading = seen.shape[1] // frames
        motion = [
            embed(values.reshape(-1, 1)).reshape(len(values), -1)
            for embed, values in ((self.motion_exp, expression), (self.motion_pose, pose))
        ]
        y = super().forward(
            torch.cat([reference[:, :, :1], x], dim=2),
            time,
            text=text,
            text_mask=text_mask,
            pooled=pooled,
            adapters=[BoundSpeech(self, speech, face)],
            first_frame=-1,
            extra_tokens=F.pad(seen, (0, 0, leading, 0)),
            extra_vector=motion[0] + motion[1] + self.fps_proj(fps[:, None]),
        )
        return y[:, :, 1:]


class BoundSpeech:
    """The speech and the face of one batch; a `BlockAdapter` that leaves the picture's own frame alone."""

    def __init__(self, net: AudioDiT, speech: Tensor, face: Tensor) -> None:
        self.layers = dict(zip(net.config.speech_blocks, net.audio_adapter_blocks, strict=True))
        tokens = net.audio_proj(speech)
        tokens = torch.cat([tokens[:, :1].expand(-1, GROUP - 1, -1, -1), tokens], dim=1)
        self.tokens = tokens.unflatten(1, (-1, GROUP)).flatten(2, 3)  # (B, T, K, D)
        self.face = face

    def after_double(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Video tokens (B, N, D) after dual-stream block `index`."""
        if index not in self.layers:
            return tokens
        (frames, height, width), size = grid, grid[1] * grid[2]
        frames -= 1
        video = tokens[:, size:]
        asked = video.reshape(len(tokens) * frames, size, -1)
        heard = self.layers[index](asked, self.tokens.flatten(0, 1)).reshape(video.shape)
        face = F.interpolate(self.face.to(tokens), (self.face.shape[2], height, width), mode="nearest")
        face = face.expand(-1, -1, frames, -1, -1).flatten(2).transpose(1, 2)
        return torch.cat([tokens[:, :size], video + heard * face], dim=1)

    def after_single(self, index: int, tokens: Tensor, grid: Grid) -> Tensor:
        """Video tokens as they are."""
        return tokens
