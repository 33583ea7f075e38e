"""Life beside the speech: head sway and nods, blinks, gaze, brows.

Everything is a function of the seed, the time and the speech within a second of it: random values come from
hashing the number of a stretch of time, never from a generator that runs along. So a recording of any
length needs little memory, has no jump where windows meet, and the same seed gives the same motion.

Head pose is yaw, pitch, roll in radians (to the picture's right, down, clockwise) and a shift x, y, z in face
heights (right, down, away), all relative to the reference.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES, INDEX, MOUTH, curve_indices

Array = NDArray[np.float64]

RATE = 50  # Hz, of the curves that come in and of everything that goes out
CONTEXT = 90  # rows, 1.8 s: how far speech acts on motion, both ways
SETTLE = 0.6  # s: a clip starts in the pose of the reference and moves off within this time

# Standard deviations at head_motion = 1: degrees of yaw, pitch, roll; face heights of x, y, z.
SWAY = np.array([1.9, 1.4, 1.2, 0.008, 0.006, 0.006]) * np.array([np.pi / 180] * 3 + [1.0] * 3)
OCTAVES = ((4.3, 1.0), (1.9, 0.55), (0.83, 0.14))  # s between knots, relative size
NOISE_DEVIATION = 0.52  # of `value_noise`
NOD = 2.2 * np.pi / 180  # rad, of a strongly stressed syllable
LEAN_WITH_YAW = 0.12  # face heights per rad: turning the head also carries it sideways

BLINK_SLOT = 3.6  # s: one blink in each, about 17 a minute
BLINK_SKIP, BLINK_TWICE = 0.06, 0.08  # shares of the slots
BLINK_SEARCH = 0.4  # s: a blink moves so far to meet a pause
BLINK_CLOSE, BLINK_HOLD, BLINK_OPEN = 0.07, 0.05, 0.12  # s

EYE_RANGE = 0.55  # rad that a gaze curve of 1 turns the eye
COUNTER_ROLL = 0.8  # share of a head turn that the eyes undo to keep looking at the viewer
GLANCE_SLOT, GLANCE_SHARE, GLANCE_SIZE = 7.2, 0.4, 0.28  # s, share of slots with a look aside, its mean size
FIXATION_SLOT, FIXATION_SIZE = 1.3, 0.035  # s, size of the small saccades
SACCADE = 0.04  # s


def hashed(seed: int, channel: int, index: NDArray[np.int64]) -> Array:
    """Uniform numbers in [0, 1), one for each index: splitmix64 of seed, channel and index."""
    start = (seed * 0x9E3779B97F4A7C15 + channel * 0xD1B54A32D192ED03 + 1) % 2**64
    with np.errstate(over="ignore"):
        x = (index.astype(np.uint64) + np.uint64(start)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) / 2**53


def smoothstep(x: Array) -> Array:
    """0 below 0, 1 above 1, and a slope without corners between."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


def value_noise(time: Array, period: float, seed: int, channel: int) -> Array:
    """Smooth noise in (-1, 1): hashed values at multiples of `period` seconds, joined by smoothsteps."""
    knot = np.floor(time / period).astype(np.int64)
    left, right = (2 * hashed(seed, channel, knot + step) - 1 for step in (0, 1))
    return left + (right - left) * smoothstep(time / period - knot)


@dataclass(frozen=True)
class Prosody:
    """What motion takes from the speech, each (n,) at 50 Hz from `start`.

    Attributes:
        start: row of the recording that comes first.
        speaking: 0 in pauses, 1 in the midst of speech.
        stress: 0 on usual syllables, up to 1 on strong ones.
    """

    start: int
    speaking: Array
    stress: Array

    def at(self, signal: Array, time: Array) -> Array:
        """A signal at any times in seconds; outside the rows the nearest one."""
        return np.interp(time * RATE - self.start, np.arange(len(signal)), signal)


def prosody(curves: NDArray[np.float32], start: int = 0) -> Prosody:
    """Prosody from mouth curves (n, 52) at 50 Hz: an open mouth is a loud one."""
    opening = (curves[:, INDEX["jawOpen"]] - curves[:, INDEX["mouthClose"]]).astype(np.float64)
    syllable, phrase = (_average(opening, width) for width in (9, 41))
    speaking = smoothstep(_average(np.minimum(opening / 0.12, 1), 31) / 0.6)
    stress = smoothstep((syllable - 1.15 * phrase - 0.03) / 0.12)
    return Prosody(start, speaking, _average(stress, 11))


def _average(signal: Array, width: int) -> Array:
    """Mean over `width` rows with Hann weights, the ends held."""
    kernel = np.hanning(width + 2)[1:-1]
    return np.convolve(np.pad(signal, width // 2, mode="edge"), kernel / kernel.sum(), "valid")


def blinks(time: Array, seed: int, speech: Prosody) -> Array:
    """Closed eyelids (n,) in [0, 1]: fast to close, slower to open, rather in pauses than in words."""
    lids = np.zeros_like(time)
    slot = np.floor(time / BLINK_SLOT).astype(np.int64)
    for step in (-1, 0, 1):
        number = slot + step
        wanted = (number + 0.15 + 0.7 * hashed(seed, 0, number)) * BLINK_SLOT
        tries = np.stack([wanted + shift for shift in np.linspace(-BLINK_SEARCH, BLINK_SEARCH, 5)])
        rank = speech.at(speech.speaking, tries) + 0.02 * np.abs(tries - wanted)
        onset = np.take_along_axis(tries, rank.argmin(0)[None], 0)[0]
        kind = hashed(seed, 1, number)
        depth = np.where((kind < BLINK_SKIP) | (onset < 0.3), 0.0, 0.92 + 0.08 * hashed(seed, 2, number))
        again = np.where(kind > 1 - BLINK_TWICE, depth, 0.0)
        for start, size in ((onset, depth), (onset + 0.32, again)):
            since = time - start
            down = smoothstep(since / BLINK_CLOSE)
            up = smoothstep((since - BLINK_CLOSE - BLINK_HOLD) / BLINK_OPEN)
            lids = np.maximum(lids, size * (down - up))
    return lids


def gaze(time: Array, seed: int) -> Array:
    """Where the eyes look beside the viewer, (n, 2): right and down, in units of the gaze curves.

    Mostly at the viewer with small saccades; now and then a longer look aside.
    """
    look = np.zeros((len(time), 2))
    slot = np.floor(time / FIXATION_SLOT).astype(np.int64)
    jump = (slot + 0.7 * hashed(seed, 10, slot)) * FIXATION_SLOT
    moved = smoothstep((time - jump) / SACCADE)
    for axis in range(2):
        before, after = (2 * hashed(seed, 11 + axis, slot + step) - 1 for step in (-1, 0))
        look[:, axis] = FIXATION_SIZE * (before + (after - before) * moved)
    slot = np.floor(time / GLANCE_SLOT).astype(np.int64)
    onset = (slot + 0.1 + 0.5 * hashed(seed, 13, slot)) * GLANCE_SLOT
    length = 0.5 + 1.2 * hashed(seed, 14, slot)
    away = smoothstep((time - onset) / SACCADE) - smoothstep((time - onset - length) / SACCADE)
    away = away * (hashed(seed, 15, slot) < GLANCE_SHARE)
    angle = 2 * np.pi * hashed(seed, 16, slot)
    size = GLANCE_SIZE * (0.5 + hashed(seed, 17, slot))
    look += (away * size)[:, None] * np.stack([np.cos(angle), 0.6 * np.sin(angle)], 1)
    return look


def head_sway(time: Array, seed: int, speech: Prosody, strength: float) -> Array:
    """Head pose (n, 6): slow sway, livelier in speech, with nods on stressed syllables."""
    speaking, stress = speech.at(speech.speaking, time), speech.at(speech.stress, time)
    sizes = np.array([size for _, size in OCTAVES])
    sizes = sizes / np.sqrt((sizes**2).sum()) / NOISE_DEVIATION
    head = np.zeros((len(time), 6))
    for octave, (period, _) in enumerate(OCTAVES):
        alive = sizes[octave] * (1.0 if octave == 0 else 0.35 + 0.65 * speaking)
        for axis in range(6):
            # Periods differ by a few percent, or all axes would turn at the same instants.
            noise = value_noise(time + 17 * axis, period * (1 + 0.07 * axis), seed, 20 + 6 * octave + axis)
            head[:, axis] += alive * noise * SWAY[axis]
    head[:, 1] += NOD * stress
    head[:, 3] += LEAN_WITH_YAW * head[:, 0]
    return head * strength * smoothstep(time / SETTLE)[:, None]


def idle_motion(
    time: Array, seed: int, speech: Prosody, head_motion: float = 1.0, expressiveness: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Head pose and the curves of eyes and brows at any times.

    Args:
        time: (n,) seconds from the start of the recording, rising.
        seed: another seed is another motion.
        speech: of the recording around these times, a second more on each side where there is more.
        head_motion: size of the head's motion; 0 is a still head.
        expressiveness: size of the brows' motion.

    Returns:
        Head pose (n, 6) and curves (n, 52) in [0, 1], nothing but eyes and brows.
    """
    head = head_sway(time, seed, speech, head_motion)
    lids = blinks(time, seed, speech)
    look = gaze(time, seed) * smoothstep(time / SETTLE)[:, None]
    look[:, 0] -= COUNTER_ROLL * head[:, 0] / EYE_RANGE
    look[:, 1] -= COUNTER_ROLL * head[:, 1] / EYE_RANGE
    stress = speech.at(speech.stress, time)
    drift = value_noise(time, 3.1, seed, 50)
    brows = expressiveness * (0.3 * stress + 0.06 * (drift + 1)) * smoothstep(time / SETTLE)

    curves = np.zeros((len(time), len(CURVES)))
    for names, value in (
        (("eyeBlink",), lids),
        (("eyeLookOutLeft", "eyeLookInRight"), look[:, 0]),  # the person's left is the picture's right
        (("eyeLookInLeft", "eyeLookOutRight"), -look[:, 0]),
        (("eyeLookDown",), look[:, 1] + 0.12 * lids),
        (("eyeLookUp",), -look[:, 1] - 0.12 * lids),
        (("browInnerUp",), brows),
        (("browOuterUp",), 0.6 * brows),
        (("eyeWide",), 0.3 * expressiveness * stress * (1 - lids)),
    ):
        curves[:, curve_indices(*names)] = value[:, None]
    return head.astype(np.float32), curves.clip(0, 1).astype(np.float32)


def animate(
    curves: NDArray[np.float32], seed: int, head_motion: float = 1.0, expressiveness: float = 1.0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Head pose (n, 6) and complete curves (n, 52) at 50 Hz for the mouth curves (n, 52) of a recording.

    `expressiveness` scales the mouth's motion, closures kept, and the brows'; the rest as in `idle_motion`.
    """
    heads, faces = zip(*animate_stream([curves], seed, head_motion, expressiveness), strict=True)
    return np.concatenate(heads), np.concatenate(faces)


def animate_stream(
    chunks: Iterable[NDArray[np.float32]], seed: int, head_motion: float = 1.0, expressiveness: float = 1.0
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """`animate` for mouth curves that come in pieces; the results join without a seam."""
    rows = np.zeros((0, len(CURVES)), np.float32)
    start = done = 0  # row of the recording that `rows` begins with; rows given out

    def given(until: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        time = np.arange(done, until) / RATE
        head, face = idle_motion(time, seed, prosody(rows, start), head_motion, expressiveness)
        mouth = rows[done - start : until - start]
        face[:, MOUTH] = (expressiveness * mouth[:, MOUTH]).clip(0, 1)
        return head, face

    for chunk in chunks:
        rows = np.concatenate([rows, chunk])
        until = start + len(rows) - CONTEXT
        if until > done:
            yield given(until)
            done = until
            keep = max(start, done - CONTEXT)
            rows, start = rows[keep - start :], keep
    if start + len(rows) > done:
        yield given(start + len(rows))
