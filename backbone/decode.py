"""Reference-aware decode: sharp frames from soft latents, by warping the reference's own pixels.

A small U-Net looks at a frame's latents, the reference's latents, three pictures of the frame (the driven
reference, the plain decode of the latents, masks) and the relief of what moves in it, and says how to correct
the known flow, where to trust it, and what to add elsewhere (section 1.4 of the design):

    image = mask * (warp(reference, flow) + shade) + (1 - mask) * rgb

Shade is the change of light on skin that bends: a known factor and a bounded correction, both coarse, so that
the reference's fine detail stays. The mask falls only around what the reference cannot fill, the hole and
closing lids: four frames share their latents, and what one of them shows in an open mouth must not be drawn
on the closed lips of the next.
Here rgb is the driven reference, whose mouth is drawn frame by frame, the plain decode, or between the two,
with a correction. Untrained it gives the driven reference.

Shape legend: B frames, C channels, H height, W width, h w latent height and width (1/8).
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELL = 4  # px, side of the cells the net works on
LATENT_CELL = 8  # px
GROUP = 4  # video frames behind each latent frame but the first
PICTURE_CHANNELS = 9  # driven picture 3, plain decode 3, masks 3
TRUST = 4.0  # logit of the untrained net's trust in the reference and in the driven picture: 98 %
AROUND = 4  # px around the hole in which the mask may fall
FAINT = 0.3  # of the range from -1 to 1, the largest correction of the light
LIGHT_CELL = 2  # px
BRIGHT = 4.0  # the factor of the light enters the net as its logarithm times this
EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """Widths at 1/4, 1/8 and 1/16 of the picture's size, residual blocks per level and direction, channels of
    the relief."""

    widths: tuple[int, int, int]
    blocks: int
    relief: int
    latent_channels: int = 16


class Decoded(NamedTuple):
    """One result per frame.

    Attributes:
        image: (B, 3, H, W) in [-1, 1], not clamped.
        flow: (B, 2, H, W), right and down, in pixels: the picture at p comes from the reference at p + flow.
        mask: (B, 1, H, W) in [0, 1], the reference's share.
        rgb: (B, 3, H, W), what is shown where the mask is 0.
        shade: (B, 3, H, W), added to the reference where it is shown.
    """

    image: Tensor
    flow: Tensor
    mask: Tensor
    rgb: Tensor
    shade: Tensor


class ReferenceDecoder(nn.Module):
    """The net described at the head of this file; each frame stands alone."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        fine, middle, coarse = config.widths
        self.pictures_in = nn.Conv2d(PICTURE_CHANNELS, fine, CELL, CELL)
        self.relief_in = nn.Conv2d(config.relief + 1, fine, 1)
        self.latents_in = nn.Conv2d(2 * config.latent_channels + GROUP, middle, 1)
        self.fine_down = _blocks(fine, config.blocks)
        self.to_middle = nn.Conv2d(fine, middle, 2, 2)
        self.middle_down = _blocks(middle, config.blocks)
        self.to_coarse = nn.Conv2d(middle, coarse, 2, 2)
        self.coarse = _blocks(coarse, 2 * config.blocks)
        self.from_coarse = nn.Conv2d(coarse, middle, 1)
        self.middle_up = _blocks(middle, config.blocks)
        self.from_middle = nn.Conv2d(middle, fine, 1)
        self.fine_up = _blocks(fine, config.blocks)
        self.parts = [2, 3 * (CELL // LIGHT_CELL) ** 2, CELL**2, CELL**2, 3 * CELL**2]
        self.head = nn.Conv2d(fine, sum(self.parts), 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(
        self,
        latents: Tensor,
        positions: Tensor,
        reference_latents: Tensor,
        reference: Tensor,
        driven: Tensor,
        prior_flow: Tensor,
        rgb: Tensor,
        masks: Tensor,
        relief: Tensor,
        gain: Tensor,
    ) -> Decoded:
        """Decode frames.

        Args:
            latents: (B, 16, h, w), the latent frame each frame belongs to.
            positions: (B,), 0 to 3, place of the frame in its latent frame (see `frame_slots`).
            reference_latents: (B or 1, 16, h, w).
            reference: (B or 1, 3, H, W) in [-1, 1], the picture that is warped.
            driven: (B, 3, H, W), the reference warped by the prior flow, holes painted.
            prior_flow: (B, 2, any, any), in pixels of (H, W); enlarged when it is smaller.
            rgb: (B, 3, H, W), the plain decode.
            masks: (B, 3, H, W) in [0, 1]: the hole that the reference cannot fill, lids that close, the face.
            relief: (B, n, H / 4, W / 4), shape and motion of what is shown.
            gain: (B, 1, H / 4, W / 4), by what factor its light is known to be another than the reference's.
        """
        size = driven.shape[-2:]
        pictures = torch.cat([driven, rgb, masks], dim=1)
        shape = torch.cat([relief, BRIGHT * gain.log()], dim=1)
        cells = self._net(latents, positions, reference_latents, pictures, shape)
        shift, light, logit, plain, extra = cells.split(self.parts, dim=1)
        flow = enlarge(prior_flow, size) + enlarge(CELL * shift, size)
        trust = TRUST * (1 - 2 * masks[:, :1])
        mask = torch.sigmoid(F.pixel_shuffle(logit, CELL) + trust)
        hole = F.max_pool2d(masks[:, :1], 2 * AROUND + 1, 1, AROUND)
        mask = 1 - torch.maximum(hole, masks[:, 1:2]) * (1 - mask)
        rgb = driven + torch.sigmoid(F.pixel_shuffle(plain, CELL) - TRUST) * (rgb - driven)
        rgb = rgb + F.pixel_shuffle(extra, CELL)
        warped = warp(reference.expand(len(flow), -1, -1, -1), flow)
        light = enlarge(F.pixel_shuffle(light, CELL // LIGHT_CELL), size)
        shade = (warped + 1) * (enlarge(gain, size) - 1) + FAINT * torch.tanh(light / FAINT)
        return Decoded(rgb + mask * (warped + shade - rgb), flow, mask, rgb, shade)

    def _net(
        self,
        latents: Tensor,
        positions: Tensor,
        reference_latents: Tensor,
        pictures: Tensor,
        relief: Tensor,
    ) -> Tensor:
        """Numbers per cell, (B, 2 + 3 + 5 * 16, H / 4, W / 4)."""
        slot = F.one_hot(positions, GROUP).to(latents)[:, :, None, None].expand(-1, -1, *latents.shape[-2:])
        known = torch.cat([latents, reference_latents.expand_as(latents), slot], dim=1)
        # Channels innermost in memory: a quarter faster on a CPU.
        cells = self.pictures_in(pictures) + self.relief_in(relief)
        fine = self.fine_down(cells.contiguous(memory_format=torch.channels_last))
        middle = self.middle_down(self.to_middle(fine) + self.latents_in(known))
        coarse = self.coarse(self.to_coarse(middle))
        middle = self.middle_up(middle + F.interpolate(self.from_coarse(coarse), scale_factor=2.0))
        fine = self.fine_up(fine + F.interpolate(self.from_middle(middle), scale_factor=2.0))
        return self.head(F.silu(fine))


class PlainDecode(nn.Module):
    """Takes the place of `ReferenceDecoder` where there is none: what it shows is the VAE's own decode."""

    def forward(
        self,
        latents: Tensor,
        positions: Tensor,
        reference_latents: Tensor,
        reference: Tensor,
        driven: Tensor,
        prior_flow: Tensor,
        rgb: Tensor,
        masks: Tensor,
        relief: Tensor,
        gain: Tensor,
    ) -> Decoded:
        """Arguments as in `ReferenceDecoder.forward`."""
        nothing = torch.zeros_like(rgb)
        return Decoded(rgb, enlarge(prior_flow, rgb.shape[-2:]), nothing[:, :1], rgb, nothing)


class _Block(nn.Module):
    """RMS norm over channels, convolution, SiLU, convolution, added to the input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.Parameter(torch.ones(width))
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x.movedim(1, -1), self.norm.shape, self.norm.to(x.dtype), EPS).movedim(-1, 1)
        return x + self.conv2(F.silu(self.conv1(y)))


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(_Block(width) for _ in range(count)))


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Picture (B, C, H, W) whose value at p is that of `image` at p + flow(p); beyond the border the border
    itself.

    Args:
        flow: (B, 2, H, W), right and down, in pixels.
    """
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + 0.5
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + 0.5
    grid = torch.stack([(flow[:, 0] + x) * (2 / width) - 1, (flow[:, 1] + y) * (2 / height) - 1], dim=-1)
    return F.grid_sample(image, grid.to(image.dtype), padding_mode="border", align_corners=False)


def enlarge(field: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Bring a field (B, C, h, w) to (H, W) bilinearly; its values keep their unit."""
    if field.shape[-2:] == torch.Size(size):
        return field
    return F.interpolate(field, tuple(size), mode="bilinear", align_corners=False)


def frame_slots(latent_frames: int, starts_clip: bool = True) -> tuple[Tensor, Tensor]:
    """Latent frame and place in it of every video frame of a piece of a clip.

    The first latent frame of a clip stands for one video frame, the last of its four places.

    Returns:
        indices (T,) into the piece's latent frames and positions (T,), 0 to 3.
    """
    slots = torch.arange(GROUP * latent_frames)[GROUP - 1 if starts_clip else 0 :]
    return slots // GROUP, slots % GROUP
