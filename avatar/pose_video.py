"""A pose for the public nets: the skeleton video's latents, and the trained adapter that adds them.

The public weights were trained without poses, so an adapter begins where they end: it must have been trained
with them (section 2.3 of the design).

Shape legend: B = 1, C latent channels, T latent frames, F video frames, h w latent height and width, H W px.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from avatar.adapters.pose import PoseAdapter
from avatar.backbone.dit import DiTConfig
from avatar.backbone.vae import CausalVAE
from avatar.drivers.pose import PoseSignal
from avatar.errors import UserError
from avatar.framing import as_clip, cover
from avatar.mixing import fitted
from avatar.weight_files import locate, read


@dataclass(frozen=True)
class Posed:
    """An adapter, the latents (1, C, T, h, w) of its skeleton video, and their strength."""

    adapter: PoseAdapter
    latents: Tensor
    scale: float

    def __call__(self, x: Tensor, condition: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Noisy latents (1, C, T, h, w) and what is joined to them on the channel axis, the pose added."""
        joined = x if condition is None else torch.cat([x, condition], 1)
        joined = self.adapter(joined, self.latents.to(x), self.scale)
        return joined[:, : x.shape[1]], None if condition is None else joined[:, x.shape[1] :]


def load_pose_adapter(path: Path, config: DiTConfig, latent_channels: int) -> PoseAdapter:
    """The adapter in a safetensors file, `proj.weight` and `proj.bias`.

    Raises:
        UserError: no such file, or it is for another net.
    """
    channels = config.in_channels + config.condition_channels
    adapter, found = PoseAdapter(latent_channels, channels), read(locate(path))
    expected = {name: tuple(value.shape) for name, value in adapter.state_dict().items()}
    if {name: tuple(value.shape) for name, value in found.items()} != expected:
        raise UserError(
            f"--pose-adapter {path}: does not fit this net, it must hold "
            + " and ".join(f"{name} {shape}" for name, shape in expected.items())
        )
    adapter.load_state_dict(found)
    return adapter.requires_grad_(False).eval()


def skeleton_latents(
    vae: CausalVAE, signal: PoseSignal, size: tuple[int, int], fps: Fraction, frames: int
) -> Tensor:
    """Scaled latents (1, C, T, h, w) of the skeletons of a pose, in the frames of a video.

    Args:
        signal: cut to the video's length; one that ends earlier holds its last frame.
        size: (H, W) of the video; the middle of the pose's frames is shown.
    """
    weight = next(vae.parameters())

    def drawn() -> Iterator[Tensor]:
        for picture in fitted(signal, fps, frames, "hold").skeletons():
            yield as_clip(cover(picture, size)).to(weight)

    return torch.cat(list(vae.encode_stream(drawn())), dim=2).float()
