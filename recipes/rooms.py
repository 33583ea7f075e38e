"""Rooms around sounds: early reflections of the walls, then a tail that decays sooner at high frequencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import fftconvolve

from avatar.recipes.modal import RATE, Sound


@dataclass(frozen=True)
class Room:
    """A kind of place.

    Attributes:
        words: how a caption may say it; "" says nothing.
        decay: least and greatest time of the tail to fall by 60 dB, s; 0 for open air.
        tail: least and greatest level of what the room adds, relative to the direct sound.
        indoors: whether it has walls and a floor.
    """

    words: tuple[str, ...]
    decay: tuple[float, float]
    tail: tuple[float, float]
    indoors: bool


ROOMS = (
    Room(("outdoors", "outside", "in the open", ""), (0.0, 0.0), (0.0, 0.0), False),
    Room(("", "in a street", "in a yard"), (0.3, 0.8), (0.05, 0.15), False),
    Room(("in a room", "indoors", ""), (0.2, 0.45), (0.15, 0.4), True),
    Room(("in a large hall", "in a church", "with a long echo"), (1.0, 2.2), (0.25, 0.6), True),
    Room(("in a small bathroom", "in a tiled room"), (0.5, 0.9), (0.3, 0.7), True),
)


def response(room: Room, rng: np.random.Generator) -> Sound:
    """Impulse response: the direct sound first, at 1."""
    decay = rng.uniform(*room.decay)
    if decay == 0:
        return np.ones(1, np.float32)
    time = np.arange(int(decay * RATE)) / RATE
    low, high = rng.standard_normal((2, len(time)))
    low = np.convolve(low, np.ones(8) / 8**0.5, "same")
    tail = low * 10 ** (-3 * time / decay) + high * 10 ** (-3 * time / (0.5 * decay))
    tail[: int(rng.uniform(0.004, 0.02) * RATE)] = 0
    tail *= rng.uniform(*room.tail) / np.sqrt(np.sum(tail**2))
    for delay in rng.uniform(0.002, 0.03, 4):
        tail[int(delay * RATE)] += rng.uniform(-0.25, 0.25) * room.tail[1]
    tail[0] = 1
    return tail.astype(np.float32)


def hear(sound: Sound, impulse: Sound) -> Sound:
    """A sound in a room, as long as it was."""
    return fftconvolve(sound, impulse)[: len(sound)].astype(np.float32)
