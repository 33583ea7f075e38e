"""What is heard over the frames of a video: loudness, speech, and whether a mouth moves with it.

Shapes: T frames at 25 a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.ducking import SPEAKS, STEP, speech_probability
from avatar.media import RATE
from avatar.metrics import lagged_correlation
from avatar.recipes.shots import FPS
from avatar.recipes.sound_tags import Spectrum, listening, tag, tones

Array = NDArray[np.float32]

HOP = RATE // FPS  # samples of a frame
FLOOR = -100.0  # dB of full scale, nothing is quieter
SILENT = -50.0  # dB of full scale, under it a frame counts as silent
SMOOTHED = 3  # frames that an opening follows
LEAST_SPEECH = 25  # frames of speech, fewer say nothing of the mouth


@dataclass(frozen=True)
class Heard:
    """Loudness (T,), dB of full scale, probability of speech (T,), and number of the tag of
    `avatar.recipes.sound_tags` (T,)."""

    level: Array
    speech: Array
    tags: NDArray[np.int8]

    def part(self, first: int, count: int) -> Heard:
        """The frames of a clip; beyond the end of the sound it is silent."""
        missing = max(0, first + count - len(self.level))
        level = np.pad(self.level[first : first + count], (0, missing), constant_values=FLOOR)
        speech, tags = (np.pad(x[first : first + count], (0, missing)) for x in (self.speech, self.tags))
        return Heard(level[-count:], speech[-count:], tags[-count:])

    @property
    def silence(self) -> float:
        """Share of the frames that are silent."""
        return float((self.level < SILENT).mean())

    @property
    def speaking(self) -> float:
        """Share of the frames in which somebody speaks."""
        return float((self.speech > SPEAKS).mean())


def hear(pieces: Iterable[Array]) -> Heard:
    """Listen to a sound that comes in pieces, mono at 16 kHz."""
    levels: list[float] = []

    def measured() -> Iterator[Array]:
        held = np.zeros(0, np.float32)
        for piece in pieces:
            held = np.concatenate([held, piece])
            whole = len(held) // HOP * HOP
            power = (held[:whole].reshape(-1, HOP) ** 2).mean(axis=1)
            levels.extend((10 * np.log10(np.maximum(power, 10 ** (FLOOR / 10)))).tolist())
            held = held[whole:]
            yield piece

    spectrum = Spectrum()
    probability = speech_probability(listening(measured(), spectrum))
    middles = (np.arange(len(levels)) + 0.5) * HOP / STEP - 0.5
    speech = np.interp(middles, np.arange(len(probability)), probability) if len(probability) else np.zeros(0)
    level, spoken = np.array(levels, np.float32), speech.astype(np.float32)
    return Heard(level, spoken, tag(level < SILENT, spoken, *tones(spectrum.finish())))


def consistency(speed: Array, heard: Heard) -> float | None:
    """How what is seen goes with what is heard: best Pearson r within 10 frames of the picture's motion (T,)
    and the strength of onsets, the rise of the level, both smoothed over 3 frames. None where nothing is
    heard, or nothing moves."""
    level = np.maximum(heard.level, SILENT)
    onsets = np.diff(level, prepend=level[:1]).clip(min=0)
    if not onsets.any() or not speed.any():
        return None
    kernel = np.ones(SMOOTHED) / SMOOTHED
    return lagged_correlation(np.convolve(speed, kernel, "same"), np.convolve(onsets, kernel, "same"))[0]


def lip_sync(aperture: Array, heard: Heard) -> tuple[float, int] | None:
    """How a mouth moves with the sound: best Pearson r within 10 frames, and by how many the mouth is late.

    The opening (T,) is compared with the square root of the amplitude, both smoothed over 3 frames. None
    where less than a second is spoken: a closed mouth is then right.
    """
    if (heard.speech > SPEAKS).sum() < LEAST_SPEECH:
        return None
    kernel = np.ones(SMOOTHED) / SMOOTHED
    loud = np.convolve(10 ** (heard.level / 40), kernel, "same")
    return lagged_correlation(np.convolve(aperture, kernel, "same"), loud)
