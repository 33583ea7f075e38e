"""When somebody speaks, and how far other sound steps back for it.

Speech is told by Silero's voice activity detector, which the package `silero-vad` carries with its weights.
Shape legend: P probabilities, one every 32 ms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.errors import UserError

RATE = 16_000  # Hz, what the detector hears
STEP = 512  # samples of a probability, 32 ms
SPEAKS = 0.5  # probability from which on somebody speaks
AHEAD = 4  # steps: sound steps back before the first syllable, not on it
HOLD = 10  # steps: and comes back after a pause of a sentence, not of a word
ATTACK, RELEASE = 0.06, 0.35  # s, time constants of stepping back and of coming back


def load_detector() -> torch.nn.Module:
    """The detector of speech, at the beginning of a recording.

    Raises:
        UserError: the package is missing.
    """
    try:
        from silero_vad import load_silero_vad
    except ImportError as error:
        raise UserError(
            "mixing with speech needs silero-vad: `pip install avatar-toolkit[soundtrack]`"
        ) from error
    detector = load_silero_vad()
    detector.reset_states()
    return detector


def speech_probability(pieces: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Probability of speech in a recording that comes in pieces of any size, mono at 16 kHz, as (P,).

    Raises:
        UserError: the package is missing.
    """
    detector = load_detector()
    found: list[float] = []
    held = np.zeros(0, np.float32)
    with torch.no_grad():
        for piece in pieces:
            held = np.concatenate([held, piece])
            whole = len(held) // STEP * STEP
            found += [_hear(detector, chunk) for chunk in held[:whole].reshape(-1, STEP)]
            held = held[whole:]
        if len(held):
            found.append(_hear(detector, np.pad(held, (0, STEP - len(held)))))
    return np.array(found, np.float32)


def _hear(detector: torch.nn.Module, chunk: NDArray[np.float32]) -> float:
    return float(detector(torch.from_numpy(chunk.copy())[None], RATE))


def speaking(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where speech is, with margins, as 0 and 1, (P,)."""
    active = (probability > SPEAKS).astype(np.float32)
    if not len(active):
        return active
    padded = np.pad(active, (HOLD, AHEAD))
    windows = np.lib.stride_tricks.sliding_window_view(padded, HOLD + AHEAD + 1)
    return windows.max(axis=1)


class Ducking:
    """Gain of a sound that steps back by `depth` dB while `active` (P,), from `speaking`, is 1.

    Args:
        attack: time constant of stepping back, s.
        release: of coming back, s.
    """

    def __init__(
        self, active: NDArray[np.float32], depth: float, attack: float = ATTACK, release: float = RELEASE
    ) -> None:
        level, levels = 0.0, [0.0]
        for wanted in active.tolist():
            constant = attack if wanted > level else release
            level += (wanted - level) * (1 - math.exp(-STEP / RATE / constant))
            levels.append(level)
        self.decibels = -depth * np.array(levels)

    def gain(self, first: int, count: int, rate: int) -> NDArray[np.float32]:
        """Factors (count,) of the samples from `first` on of a sound at `rate`."""
        at = (first + np.arange(count)) / rate * RATE / STEP
        return (10 ** (np.interp(at, np.arange(len(self.decibels)), self.decibels) / 20)).astype(np.float32)

    def apply(self, pieces: Iterable[NDArray[np.float32]], rate: int) -> Iterator[NDArray[np.float32]]:
        """A sound in pieces, changed."""
        place = 0
        for piece in pieces:
            yield piece * self.gain(place, len(piece), rate)
            place += len(piece)
