"""When something begins to sound, and whether a blow is seen then: peaks of the spectral flux.

Shape legend: M mel bands, F spectrogram frames.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.backbone.mel import MelConfig

FRAME = MelConfig().hop / MelConfig().rate  # s
NEAR = 0.08  # s, between a blow and its sound
QUIET = 9.0  # bands so far below the loudest do not count, nepers
RISE = 0.9  # rise of the mean log-mel over its surroundings that is an onset, nepers
APART = 5  # frames between onsets, 58 ms
AROUND = 20  # frames on either side that say what is usual


def flux(mel: Tensor) -> NDArray[np.float32]:
    """Mean rise of a log-mel spectrogram (M, F) against two frames before, (F,)."""
    loud = mel.clamp(min=float(mel.max()) - QUIET)
    rise = (loud[:, 2:] - loud[:, :-2]).clamp(min=0).mean(0)
    return torch.cat([torch.zeros(2), rise]).numpy()


def onsets(mel: Tensor) -> NDArray[np.float64]:
    """Times of onsets in a log-mel spectrogram (M, F), s, in order."""
    strength = flux(mel)
    near, wide = (_windows(strength, side) for side in (APART, AROUND))
    peak = (strength == near.max(1)) & (strength > np.median(wide, axis=1) + RISE)
    return (np.flatnonzero(peak) - 0.5) * FRAME


def matched(hits: NDArray[np.float64], found: NDArray[np.float64]) -> int:
    """How many of `hits` have an onset within `NEAR`, each onset used once; both in order."""
    count = used = 0
    for hit in hits:
        while used < len(found) and found[used] < hit - NEAR:
            used += 1
        if used < len(found) and found[used] <= hit + NEAR:
            count, used = count + 1, used + 1
    return count


def _windows(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.lib.stride_tricks.sliding_window_view(np.pad(values, side, mode="reflect"), 2 * side + 1)
