"""What a video would take on other machines: operations, memory by part, time (`avatar plan`).

Operations and sizes follow from the configs; the machines' constants are in `avatar.hardware`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

from avatar.errors import UserError
from avatar.hardware import ACTIVATIONS, DECODE_TILE, DEVICES, TEXT_ENCODERS, WEIGHT_BYTES

TEXT_TOKENS = 256
OVERLAP = (256 / 192) ** 2 * (64 / 48)  # pixels decoded / pixels kept, tiles of 256 px and 64 frames


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Figures of one video. Memory in bytes on each device, times in seconds."""

    tokens: int
    evaluations: int
    linear: float  # operations of one evaluation in matrix products
    attention: float  # and in attention
    decode: float  # operations of the VAE's decode
    memory: dict[str, float]  # by part, all of them resident
    available: float
    sampling_seconds: float
    exchange_seconds: float
    decode_seconds: float
    gpus: int

    @property
    def seconds(self) -> float:
        """Of the whole video."""
        return self.sampling_seconds + self.exchange_seconds + self.decode_seconds

    @property
    def gpu_hours(self) -> float:
        """Time times devices."""
        return self.seconds * self.gpus / 3600


def make(
    preset: str,
    size: tuple[int, int],
    frames: int,
    gpu: str,
    gpus: int = 1,
    *,
    steps: int | None = None,
    weights: str = "bf16",
) -> Plan:
    """Reckon a video.

    Args:
        preset: of `avatar.releases`.
        size: height and width, multiples of 16 px.
        frames: 4n + 1.
        gpu: of `avatar.hardware`.
        steps: of the sampler; the preset's own when None.
        weights: `bf16`, `fp8` or `int8`.

    Raises:
        UserError: no such preset or device, or sizes that do not fit.
    """
    import torch

    from avatar.releases import RELEASES

    if preset not in RELEASES:
        raise UserError(f"--preset {preset}: must be one of {', '.join(RELEASES)}")
    if gpu not in DEVICES:
        raise UserError(f"--gpu {gpu}: must be one of {', '.join(DEVICES)}; others have no published time")
    if frames % 4 != 1:
        raise UserError(f"--frames {frames}: must be 4n + 1, such as {frames // 4 * 4 + 1}")
    if any(side % 16 or side <= 0 for side in size):
        raise UserError(f"--size {size[0]}x{size[1]}: sides must be multiples of 16")
    release, device = RELEASES[preset], DEVICES[gpu]
    config, sampling = release.dit, release.sampling
    latents = ((frames - 1) // 4 + 1, size[0] // 8, size[1] // 8)
    tokens = prod(latents) // prod(config.patch)
    sequence, blocks = tokens + TEXT_TOKENS, config.double_blocks + config.single_blocks
    # Queries, keys, values and output are 4 D^2 weights for each token, the MLP 2 r D^2.
    linear = 2.0 * (4 + 2 * config.mlp_ratio) * config.hidden**2 * sequence * blocks
    attention = 4.0 * sequence**2 * config.hidden * blocks
    evaluations = (steps or sampling.steps) * (2 if sampling.guidance > 1 else 1)
    with torch.device("meta"):
        parameters = sum(p.numel() for p in release.net(config).parameters())
    decode = decode_operations() * frames * prod(size) * OVERLAP
    return Plan(
        tokens=tokens,
        evaluations=evaluations,
        linear=linear,
        attention=attention,
        decode=decode,
        memory={
            "DiT weights": float(parameters * WEIGHT_BYTES[weights]),
            "text encoders": 2 * TEXT_ENCODERS,
            "DiT activations": 2.0 * ACTIVATIONS * config.hidden * sequence / gpus,
            "VAE and one tile": 2 * 246.5e6 + DECODE_TILE,
        },
        available=device.memory,
        sampling_seconds=evaluations * (linear / device.linear + attention / device.attention) / gpus,
        exchange_seconds=evaluations * device.exchange * sequence / 1e5 if gpus > 1 else 0.0,
        decode_seconds=decode / device.convolution,
        gpus=gpus,
    )


def decode_operations() -> float:
    """Operations of the public VAE's decoder for each pixel of each frame."""
    from avatar.releases import TEXT

    widths, total, cells = TEXT.vae.widths, 0.0, 1 / TEXT.vae.time_factor / TEXT.vae.space_factor**2
    before = widths[-1]
    for level in reversed(range(len(widths))):
        width = widths[level]
        convolutions = before * width + (2 * TEXT.vae.layers_per_block + 1) * width**2
        if level == len(widths) - 1:
            convolutions += 4 * width**2  # the middle
        total += 54 * convolutions * cells  # 27 positions of a kernel
        factors = prod(TEXT.vae.stride(len(widths) - 1 - level))
        cells *= factors
        total += 54 * width**2 * cells if factors > 1 else 0.0
        before = width
    return total


def run(
    preset: str,
    size: str,
    frames: int,
    gpu: str,
    gpus: int,
    *,
    steps: int | None = None,
    weights: str = "bf16",
    json_out: Path | None = None,
) -> None:
    """The command: print a plan and write it as JSON.

    Raises:
        UserError: as `make`, or a size that is not HEIGHTxWIDTH.
    """
    height, cross, width = size.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise UserError(f"--size {size}: must be HEIGHTxWIDTH, such as 720x1280")
    plan = make(preset, (int(height), int(width)), frames, gpu, gpus, steps=steps, weights=weights)
    for line in lines(plan):
        print(line)
    if json_out:
        content = asdict(plan) | {"seconds": plan.seconds, "gpu_hours": plan.gpu_hours}
        json_out.write_text(json.dumps(content, indent=2), "utf8")


def lines(plan: Plan) -> list[str]:
    """A plan in words."""
    total, each = sum(plan.memory.values()), plan.linear + plan.attention
    weights = plan.memory["DiT weights"]
    rest = total - weights - plan.memory["text encoders"]
    found = [
        f"tokens         {plan.tokens:,} of video, {TEXT_TOKENS} of text",
        f"operations     {each:.2e} an evaluation ({plan.attention / each:.0%} attention), "
        f"{plan.evaluations} evaluations, {plan.decode:.1e} to decode",
        *(f"memory         {part}: {number / 1e9:.1f} GB" for part, number in plan.memory.items()),
        f"memory         all at once: {total / 1e9:.1f} GB of {plan.available / 1e9:.0f} GB on each device",
        f"time           {plan.seconds:,.0f} s: sampling {plan.sampling_seconds:,.0f}, "
        f"exchange {plan.exchange_seconds:,.0f}, decode {plan.decode_seconds:,.0f}",
        f"cost           {plan.gpu_hours:.2f} GPU hours",
    ]
    if total > plan.available:
        fits = "fits" if rest < plan.available else "does not fit"
        found.append(
            f"does not fit at once; with text encoders and blocks offloaded ({rest / 1e9:.1f} GB) it {fits}"
        )
    return found
