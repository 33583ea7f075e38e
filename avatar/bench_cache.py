"""What skipping blocks between steps saves and costs, with the preset mini: `avatar bench --cache`.

One video is made twice with the same seed and many steps, with and without `StepCache`. The quality loss is
the PSNR between the two, the saving that of the time in the sampler.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avatar.animator import Animator
from avatar.backbone.step_cache import StepCache
from avatar.render import Renderer

STEPS = 20
SECONDS = 2.0
THRESHOLD = 0.8


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Times in seconds, of the sampler alone."""

    threshold: float
    steps: int
    plain: float
    cached: float
    whole: int  # evaluations that ran all blocks
    skipped: int
    psnr: float  # dB, of all frames, pixels that ever change; infinite where they are equal

    @property
    def speed_up(self) -> float:
        """Time without / time with."""
        return self.plain / self.cached


@contextmanager
def _timed_sampler(cache: StepCache | None) -> Iterator[list[float]]:
    """Seconds of each window; the cache is cleared before it."""
    original, taken = Renderer._sample, []

    def sample(self: Renderer, *arguments: Any) -> Any:
        if cache is not None:
            cache.clear()
        began = time.perf_counter()
        z = original(self, *arguments)
        taken.append(time.perf_counter() - began)
        return z

    Renderer._sample = sample  # type: ignore[method-assign, assignment]
    try:
        yield taken
    finally:
        Renderer._sample = original  # type: ignore[method-assign]


def measure(
    reference: Path, audio: Path, threshold: float = THRESHOLD, steps: int = STEPS, seconds: float = SECONDS
) -> Saving:
    """Make a video of a photo and a recording with and without a cache."""
    animator = Animator.from_pretrained("mini")
    dit = animator.nets.generator.dit
    frames, times, cache = [], [], StepCache(threshold)
    for used in (None, cache):
        dit.cache = used
        with _timed_sampler(used) as taken:
            frames.append(
                np.stack(list(animator.stream(ref=reference, audio=audio, steps=steps, seconds=seconds)))
            )
        times.append(sum(taken))
    moving = (frames[0] != frames[0][:1]).any(axis=(0, 3))  # what stands still would flatter the PSNR
    error = np.square(frames[0].astype(np.float64) - frames[1])[:, moving].mean()
    return Saving(
        threshold=threshold,
        steps=steps,
        plain=times[0],
        cached=times[1],
        whole=cache.whole,
        skipped=cache.skips,
        psnr=float(10 * np.log10(255**2 / error)) if error else float("inf"),
    )


def run(reference: Path, audio: Path, threshold: float = THRESHOLD, json_out: Path | None = None) -> None:
    """The command: print the saving and the loss."""
    found = measure(reference, audio, threshold)
    print(
        f"{found.steps} steps, threshold {found.threshold:g}: {found.skipped} of "
        f"{found.whole + found.skipped} evaluations skipped, sampler {found.speed_up:.2f} times as fast, "
        f"PSNR {found.psnr:.1f} dB (wanted 1.5 or 2 at 35 dB)"
    )
    if json_out:
        json_out.write_text(json.dumps(asdict(found) | {"speed_up": found.speed_up}, indent=2), "utf8")
