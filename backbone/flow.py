"""Flow matching: training times, targets, the Euler sampler, guidance and noise, as free functions.

Time runs from noise at 0 to data at 1: x_t = (1 - t) noise + t data, velocity = data - noise (section 1.3 of
the design). Where `reverse` is set, time runs from data at 0 to noise at 1 and the velocity has the other
sign; the public HunyuanVideo weights want that. Latents are (B, C, T, H, W), times (B,) in [0, 1]; networks
see time times 1000.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""Velocity of (B, C, T, H, W) latents at one time in [0, 1]."""

LEAST_REST = 1e-3  # of the way to the data: keeps the velocity finite where time is at its end


def shift_times(times: Tensor, shift: float, reverse: bool = False) -> Tensor:
    """Move times towards the noise: the noise's weight becomes sigma' = s sigma / (1 + (s - 1) sigma)."""
    sigma = times if reverse else 1 - times
    sigma = shift * sigma / (1 + (shift - 1) * sigma)
    return sigma if reverse else 1 - sigma


def training_times(
    n: int,
    generator: torch.Generator,
    shift: float = 1.0,
    mode: Literal["logit_normal", "uniform"] = "logit_normal",
    zero_share: float = 0.0,
    reverse: bool = False,
) -> Tensor:
    """Random times of `n` samples, (n,).

    Args:
        zero_share: share of samples at pure noise exactly, where samplers of one or few steps start. The
        logit-normal
            law alone hardly ever goes there.
    """
    if mode == "logit_normal":
        times = torch.randn(n, generator=generator).sigmoid()
    else:
        times = torch.rand(n, generator=generator)
    times = shift_times(times, shift, reverse)
    at_noise = torch.rand(n, generator=generator) < zero_share
    return torch.where(at_noise, torch.full_like(times, float(reverse)), times)


def interpolate(noise: Tensor, data: Tensor, times: Tensor, reverse: bool = False) -> Tensor:
    """Noisy latents at `times` (B,) on the straight line between noise and data."""
    weight = _spread(1 - times if reverse else times, data)
    return (1 - weight) * noise + weight * data


def velocity_target(noise: Tensor, data: Tensor, reverse: bool = False) -> Tensor:
    """What the net learns: the derivative of `interpolate` by time."""
    return noise - data if reverse else data - noise


def velocity_from_clean(x: Tensor, clean: Tensor, times: Tensor | float, reverse: bool = False) -> Tensor:
    """Velocity at noisy latents `x` that leads straight to the predicted `clean` latents."""
    rest = times if reverse else 1 - times
    if isinstance(rest, Tensor):
        velocity = (clean - x) / _spread(rest, x).clamp(min=LEAST_REST)
    else:
        velocity = (clean - x) / max(rest, LEAST_REST)
    return -velocity if reverse else velocity


def schedule(steps: int, shift: float, reverse: bool = False) -> Tensor:
    """Times of a sampler from noise to data, (steps + 1,), finer near the noise the larger `shift`."""
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return shift_times(1 - times if reverse else times, shift, reverse).float()


def euler(velocity: Velocity, x: Tensor, times: Tensor) -> Tensor:
    """Follow the velocity from `x` at times[0] to times[-1] in straight steps, in float32."""
    x = x.float()
    for now, after in zip(times[:-1].tolist(), times[1:].tolist(), strict=True):
        x = x + (after - now) * velocity(x, now).float()
    return x


def guide(conditional: Tensor, unconditional: Tensor, scale: float, rescale: float = 0.0) -> Tensor:
    """Classifier-free guidance: unconditional + scale * (conditional - unconditional).

    Args:
        rescale: share, 0 to 1, by which each sample's standard deviation is brought back to that of the
            conditional prediction (arXiv:2305.08891, equations 15 and 16).
    """
    guided = unconditional + scale * (conditional - unconditional)
    if rescale == 0:
        return guided
    axes = tuple(range(1, guided.dim()))
    factor = conditional.std(axes, keepdim=True) / guided.std(axes, keepdim=True)
    return guided * (rescale * factor + (1 - rescale))


def noise(shape: tuple[int, ...], seed: int, first_frame: int = 0) -> Tensor:
    """Standard normal latents (B, C, T, H, W), the same on every device.

    The noise of the latent frame with absolute index i depends on (seed, i) alone, so overlapping windows of
    a long video share theirs.
    """
    batch, channels, frames, height, width = shape
    drawn = []
    for index in range(first_frame, first_frame + frames):
        # PyTorch's CPU generator uses 32 bits of its seed, so the pair is hashed, not added up.
        state = np.random.SeedSequence((seed, index)).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        drawn.append(torch.randn(batch, channels, height, width, generator=generator))
    return torch.stack(drawn, dim=2)


def _spread(times: Tensor, like: Tensor) -> Tensor:
    return times.to(like).reshape(-1, *[1] * (like.dim() - 1))
