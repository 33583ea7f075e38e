"""What kind of sound each frame of a video has: silence, sound, speech, music over which there is something
else, pure music.

Speech is what silero-vad hears. Music is told by its signal, not learnt: tones that stay at their pitch for
longer than voices do (the share of the energy that a median over time keeps and a median over frequency does
not, Fitzgerald 2010), and that are others a second later, which a hum, an engine or a bell are not. Music of
drums alone is sound to this. The limits lie between what the sounds made by this package show (tests).
Shape legend: T frames at 25 a second, R rows of the spectrum at 12.5 Hz, K frequencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.ducking import SPEAKS
from avatar.media import RATE

Array = NDArray[np.float32]
Tag = Literal["silence", "sound", "speech", "music", "pure music"]
TAGS: tuple[Tag, ...] = get_args(Tag)

ROW = RATE * 2 // 25  # samples between rows, two frames
SPAN = 2048  # samples of a row's spectrum, 128 ms, 7.8 Hz apart
LOWEST, HIGHEST = 8, 512  # frequencies that count, 62 Hz to 4 kHz
STEADY = 7  # rows, 0.56 s, for which a tone stays
WIDE = 31  # frequencies, 240 Hz, beyond which a tone does not reach
PEAK = 4.0  # a tone is so many times as strong as what is around it
LATER = 12  # rows, about a second, after which music plays other tones
AROUND = 25  # rows, 2 s, over which figures are averaged
QUIET = 1e-4  # amplitude under which there is nothing to tell
# Least share of tones, and their least likeness to those of a second away: of pure music, of music under
# other sounds, and of music under a voice, which has tones itself, but fewer that come again.
PURE, UNDER, SPOKEN = (0.81, 0.05), (0.62, 0.28), (0.5, 0.2)
SAME = 0.9  # likeness of a tone that goes on


class Spectrum:
    """Magnitudes of a sound that comes in pieces, a row every 80 ms."""

    def __init__(self) -> None:
        self.held = np.zeros(SPAN // 2, np.float32)
        self.rows: list[Array] = []

    def add(self, piece: Array) -> None:
        """Hear a piece, mono at 16 kHz."""
        self.held = np.concatenate([self.held, piece])
        count = (len(self.held) - SPAN) // ROW + 1
        if count > 0:
            spans = np.lib.stride_tricks.sliding_window_view(self.held, SPAN)[::ROW][:count]
            found = np.abs(np.fft.rfft(spans * np.hanning(SPAN))[:, LOWEST:HIGHEST])
            self.rows.append(found.astype(np.float32))
            self.held = self.held[count * ROW :]

    def finish(self) -> Array:
        """All rows (R, K), the end filled up with silence."""
        self.add(np.zeros(SPAN // 2, np.float32))
        return np.concatenate(self.rows) if self.rows else np.zeros((0, HIGHEST - LOWEST), np.float32)


def tones(spectrum: Array) -> tuple[Array, Array]:
    """Share of the energy that is in steady tones, and how alike these are to those of a second later, at the
    end before, both (R,) over about two seconds, of a spectrum (R, K)."""
    from scipy.ndimage import median_filter, uniform_filter1d

    if not len(spectrum):
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    floor = QUIET * SPAN / 4
    level = spectrum + floor
    steady, broad = median_filter(level, (STEADY, 1)), median_filter(level, (1, WIDE))
    kept, energy = steady**2 / (steady**2 + broad**2), level**2
    mean = [uniform_filter1d(x.sum(1), AROUND) for x in (kept * energy, energy)]
    peaks = np.sqrt(np.where(level > PEAK * broad, kept * level, 0))
    peaks /= np.linalg.norm(peaks, axis=1, keepdims=True) + 1e-9
    here = np.arange(len(peaks))
    away = np.where(here + LATER < len(peaks) - 1, here + LATER, here - LATER).clip(0)
    alike = (peaks * peaks[away]).sum(1)
    return (mean[0] / mean[1]).astype(np.float32), uniform_filter1d(alike, AROUND)


def tag(silent: NDArray[np.bool_], speech: Array, share: Array, alike: Array) -> NDArray[np.int8]:
    """Number in TAGS of every frame (T,), of what is silent (T,), the probability of speech (T,), and
    `tones` of the sound (R,)."""
    rows = np.minimum(np.arange(len(silent)) // 2, max(len(share) - 1, 0))
    if not len(share):
        return np.zeros(len(silent), np.int8)
    share, alike = share[rows], alike[rows]
    speaks = speech > SPEAKS
    under = np.where(speaks, _above(share, alike, SPOKEN), _above(share, alike, UNDER))
    found = np.full(len(silent), TAGS.index("sound"), np.int8)
    found[speaks] = TAGS.index("speech")
    found[under] = TAGS.index("music")
    found[_above(share, alike, PURE) & ~speaks] = TAGS.index("pure music")
    found[silent] = TAGS.index("silence")
    return found


def _above(share: Array, alike: Array, least: tuple[float, float]) -> NDArray[np.bool_]:
    return (share > least[0]) & (alike > least[1]) & (alike < SAME)


def listening(pieces: Iterable[Array], spectrum: Spectrum) -> Iterator[Array]:
    """The pieces as they come, heard by a spectrum too."""
    for piece in pieces:
        spectrum.add(piece)
        yield piece


def shares(tags: NDArray[np.int8]) -> dict[str, float]:
    """Share of the frames (T,) of every tag."""
    return {name: round(float((tags == number).mean()), 3) for number, name in enumerate(TAGS)}


def leading(found: dict[str, float]) -> str:
    """The kind of sound of a clip: the most frequent tag but silence, which it is where there is no other."""
    sounds = {name: share for name, share in found.items() if name != "silence"}
    best = max(sounds, key=lambda name: sounds[name])
    return best if sounds[best] > 0 else "silence"
