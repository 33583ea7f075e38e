"""What a face does by itself: it speaks what it hears, and where it hears nothing it idles.

The speech's motion is laid over that of an idle face: at strength 1 it is the speech's, at 0 the idle one's,
and a straight line lies between; beyond 1 the mouth opens wider. Parts that the sound's mask leaves out
idle. Shape legend: n rows at 50 Hz, T frames.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.adapters.audio import frame_windows
from avatar.drivers.audio_signal import Sound
from avatar.drivers.curves import CURVES
from avatar.drivers.expression import PART_CURVES
from avatar.drivers.motion import animate_stream
from avatar.drivers.signal import step_strength
from avatar.drivers.speech import SpeechDriver, resample_stream
from avatar.drivers.whisper import FEATURE_RATE
from avatar.errors import UserError
from avatar.media import RATE, frame_count
from avatar.options import DriveOptions
from avatar.windows import Motion

Array = NDArray[np.float32]

ARTICULATION = 1.3  # the curves of plain reading, made a little clearer: what lips say must be seen
LISTEN = 10.0  # s of sound read at a time


class Voice:
    """The sounds of one face, heard as one.

    The strongest is heard as it is and the others quieter in proportion; the strength of the whole is the
    strongest's. A sound that has ended has none, so that a face that has nothing more to say idles.

    Args:
        sounds: at least one.
        fps, frames: of the video; after the last sound there is silence.

    Attributes:
        articulates: how far the lips are the voice's and not the photo's, in [0, 1]; in the whole video, as
            lips that were parted by a smile may not jump when somebody begins or ends.

    Raises:
        UserError: sounds that differ in their mask or steps.
    """

    def __init__(self, sounds: Sequence[Sound], fps: Fraction, frames: int) -> None:
        self.sounds = sounds
        longest = max(sound.seconds for sound in sounds)
        self.silent = 0 if frame_count(longest, fps) >= frames else math.ceil(frames / fps * RATE)  # samples
        self.mask, self.steps = sounds[0].mask, sounds[0].steps
        loudest = max(float(sound.strength.max()) for sound in sounds)
        self.articulates = min(loudest, 1.0) * ("mouth" in self.mask)
        for name in ("mask", "steps"):
            if len({getattr(sound, name) for sound in sounds}) > 1:
                raise UserError(f"the sounds of one face differ in their {name}, mix them first")

    def schedule(self, time: float) -> float:
        """Strength at a sampling time, see `Signal.over_steps`."""
        return step_strength(self.steps, time)

    def _strengths(self, times: NDArray[np.floating]) -> Array:
        """Of each sound at times in seconds, (sounds, times)."""
        late = times - 1 / FEATURE_RATE  # what comes of a sound is there until the end of its last feature
        return np.stack([sound.strength_at(times) * (late < float(sound.seconds)) for sound in self.sounds])

    def strength_at(self, times: NDArray[np.floating]) -> Array:
        """Strength of the whole at times in seconds, (times,)."""
        return self._strengths(times).max(0)

    def pieces(self) -> Iterator[Array]:
        """The sound in pieces, at least as long as the video."""
        done = 0
        for parts in itertools.zip_longest(
            *(sound.pieces(LISTEN) for sound in self.sounds), fillvalue=np.zeros(0, np.float32)
        ):
            yield parts[0] if len(parts) == 1 else self._mixed(parts, done)
            done += max(map(len, parts))
        chunk = round(LISTEN * RATE)
        for start in range(done, self.silent, chunk):
            yield np.zeros(min(chunk, self.silent - start), np.float32)

    def _mixed(self, parts: Sequence[Array], start: int) -> Array:
        size = max(map(len, parts))
        strengths = self._strengths((start + np.arange(size)) / RATE)
        loudest = strengths.max(0)
        shares = strengths / np.where(loudest > 0, loudest, 1)
        whole = np.stack([np.pad(part, (0, size - len(part))) for part in parts])
        return (shares * whole).sum(0).astype(np.float32)


def idle(rest: Array, options: DriveOptions, frames: int) -> Iterator[Motion]:
    """Motion of a face that says nothing and keeps the mouth of the photo."""
    done = 0
    for rows in resample_stream(_idle_rows(rest, options), options.fps, frames):
        yield Motion(rows[:, :52], rows[:, 52:])
        done += len(rows)
        if done == frames:
            return


def speak(
    driver: SpeechDriver, voice: Voice, rest: Array, options: DriveOptions, frames: int
) -> Iterator[Motion]:
    """Motion heard from a voice piece by piece."""
    heard: list[torch.Tensor] = []  # features not yet turned into windows
    first_row = done = 0
    mouth = float("mouth" in voice.mask)

    def curves() -> Iterator[Array]:
        row = 0
        for features, opened in driver.stream(voice.pieces()):
            heard.append(features[:, -1])
            wider = np.maximum(voice.strength_at(_times(row, len(opened), FEATURE_RATE)), 1)
            row += len(opened)
            yield (ARTICULATION * wider[:, None] * opened.cpu().numpy()).clip(0, 1)

    laid = _over(_idle_rows(rest, options), curves(), voice, options)
    for rows in resample_stream(laid, options.fps, frames):
        features = torch.cat(heard)
        windows = frame_windows(range(done, done + len(rows)), float(options.fps))
        audio = features[(windows - first_row).clamp(0, len(features) - 1)]
        strength = mouth * voice.strength_at(_times(done, len(rows), options.fps))
        done += len(rows)
        keep = max(first_row, int(windows[-1, 0]) - 50)
        heard[:], first_row = [features[keep - first_row :]], keep
        yield Motion(rows[:, :52], rows[:, 52:], audio, torch.from_numpy(strength))
        if done == frames:
            return  # the sound may go on


def _over(
    below: Iterable[Array], curves: Iterable[Array], voice: Voice, options: DriveOptions
) -> Iterator[Array]:
    """Face and head (n, 58) of mouth curves (n, 52), laid over idle ones in the parts of the voice's mask."""
    take, row = _taker(below), 0
    moved = np.zeros(len(CURVES) + 6, np.float32)
    for part in voice.mask:
        moved[list(PART_CURVES[part])] = 1
    moved[len(CURVES) :] = "head" in voice.mask
    for head, face in animate_stream(curves, options.seed, options.head_motion, options.expressiveness):
        strength = voice.strength_at(_times(row, len(face), FEATURE_RATE))
        share = np.minimum(strength, 1)[:, None] * moved
        row += len(face)
        yield (1 - share) * take(len(face)) + share * np.concatenate([face, head], 1)


def _idle_rows(rest: Array, options: DriveOptions) -> Iterator[Array]:
    """Face and head (n, 58) of an idle face, for ever."""
    silent = np.tile(rest, (round(LISTEN * FEATURE_RATE), 1)).astype(np.float32)
    for head, face in animate_stream(itertools.repeat(silent), options.seed, options.head_motion, 1.0):
        yield np.concatenate([face, head], 1)


def _taker(pieces: Iterable[Array]) -> Callable[[int], Array]:
    """A function that gives the next so many rows of a stream."""
    stream, held = iter(pieces), np.zeros((0, len(CURVES) + 6), np.float32)

    def take(count: int) -> Array:
        nonlocal held
        while len(held) < count:
            held = np.concatenate([held, next(stream)])
        given, held = held[:count], held[count:]
        return given

    return take


def _times(first: int, count: int, rate: Fraction | int) -> NDArray[np.float64]:
    """Times in seconds of rows or frames."""
    return (first + np.arange(count)) / float(rate)
