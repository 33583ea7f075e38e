"""When somebody speaks, and how far other sound steps back for it.

Speech is told by Silero's voice activity detector, which the package `silero-vad` carries with its weights.
Shape legend: P probabilities, one every 32 ms; F of them told at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from avatar.errors import UserError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

RATE = 16_000  # Hz, what the detector hears
STEP = 512  # samples of a probability, 32 ms
CONTEXT = 64  # samples before them that the detector hears again
STATE = 128  # numbers of either state of its LSTM
SPEAKS = 0.5  # probability from which on somebody speaks
AHEAD = 4  # steps: sound steps back before the first syllable, not on it
HOLD = 10  # steps: and comes back after a pause of a sentence, not of a word
ATTACK, RELEASE = 0.06, 0.35  # s, time constants of stepping back and of coming back


def load_detector() -> InferenceSession:
    """The detector of speech: many steps at once (F, CONTEXT + STEP), and the state between two calls.

    Raises:
        UserError: the package is missing.
    """
    try:
        from silero_vad import load_silero_vad
    except ImportError as error:
        raise UserError(
            "mixing with speech needs silero-vad: `pip install avatar-toolkit[soundtrack]`"
        ) from error
    return load_silero_vad(sequence=True).session


def speech_probability(pieces: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Probability of speech in a recording that comes in pieces of any size, mono at 16 kHz, as (P,).

    Raises:
        UserError: the package is missing.
    """
    detector = load_detector()
    found: list[NDArray[np.float32]] = []
    held = np.zeros(CONTEXT, np.float32)  # of a step, its context and what has come of it
    state = {name: np.zeros((1, 1, STATE), np.float32) for name in ("h", "c")}

    def hear(sound: NDArray[np.float32]) -> None:
        steps = np.lib.stride_tricks.sliding_window_view(sound, CONTEXT + STEP)[::STEP]
        probability, state["h"], state["c"] = detector.run(None, {"input": steps.copy(), **state})
        found.append(probability)

    for piece in pieces:
        held = np.concatenate([held, piece])
        whole = (len(held) - CONTEXT) // STEP * STEP
        if whole:
            hear(held[: CONTEXT + whole])
            held = held[whole:]
    if len(held) > CONTEXT:
        hear(np.pad(held, (0, CONTEXT + STEP - len(held))))
    return np.concatenate(found) if found else np.zeros(0, np.float32)


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
