"""Plans of moves, drawn at random and acted out.

Shapes: T frames, C tracks of `avatar.drivers.prompt_net`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.motion import smoothstep
from avatar.drivers.prompt_net import CONTEXT, FACE, RATE, TRACK, TRACKS, WINDOW
from avatar.recipes.moves import MOOD_NAMES, MOVES, Motion, Move, Plan, touched

Array = NDArray[np.float32]
Rng = np.random.Generator

HOP = (WINDOW - CONTEXT) / float(RATE)  # s from window to window
LONGEST_STEP = 3.8  # s
REST = 0.6  # s between bouts, at least
SIZES = {"small": 0.5, "usual": 1.0, "large": 1.4}
SPEEDS = {"slow": 2.6, "usual": 1.0, "fast": 0.45}  # factors of the time that a move takes
FURTHEST = {"yaw": 0.34, "pitch": 0.24, "roll": 0.22, "away": 0.7, "sway": 1.0}  # others: 1
WEIGHTS = {"smile": 3.0, "nod": 2.5, "shake": 2.5, "laugh": 1.5, "still": 1.5, "brows": 1.5, "close": 1.5,
           "camera": 1.2, "grin": 1.5, "puff": 0.5, "blinks": 0.6, "blink": 0.6}  # fmt: skip
ACTIONS = tuple(name for name in MOVES if name not in MOOD_NAMES)
_CHANCE = np.array([WEIGHTS.get(name, 2.0 if name.startswith(("turn", "look")) else 1.0) for name in ACTIONS])
SPEEDLESS = {"still", "lively", "blink", "blinks", "camera"}
SIZELESS = {*SPEEDLESS, "close", "open", "ahead", "roll eyes", "glance around", "wink left", "wink right"}


def draw_plan(rng: Rng) -> Plan:
    """A random plan of up to three steps of up to three moves; now and then none."""
    if rng.random() < 0.06:
        return ()
    return tuple(_draw_step(rng) for _ in range(int(rng.choice([1, 2, 3], p=[0.62, 0.3, 0.08]))))


def _draw_step(rng: Rng) -> tuple[Move, ...]:
    moves: list[Move] = []
    if rng.random() < 0.38:
        size = str(rng.choice(["small", "usual", "large"], p=[0.18, 0.64, 0.18]))
        moves.append(Move(str(rng.choice(MOOD_NAMES)), size))
    wanted = int(rng.choice([0, 1, 2], p=[0.45, 0.45, 0.1] if moves else [0, 0.68, 0.32]))
    taken: frozenset[str] = frozenset()
    if moves and moves[0].name == "neutral":
        taken = frozenset(track for track in touched("happy") | touched("surprised"))
    while wanted:
        name = str(rng.choice(ACTIONS, p=_CHANCE / _CHANCE.sum()))
        if touched(name) & taken:
            continue
        taken |= touched(name)
        speed = size = "usual"
        if name not in SPEEDLESS and rng.random() < 0.35:
            speed = str(rng.choice(["slow", "fast"]))
        elif name not in SIZELESS and rng.random() < 0.3:
            size = str(rng.choice(["small", "large"]))
        moves.append(Move(name, size, speed))
        wanted -= 1
    return tuple(moves)


# ---- motion -------------------------------------------------------------------------------------


def act(plan: Plan, seconds: float, time: NDArray[np.float64], rng: np.random.Generator) -> Array:
    """Tracks (T, C) of a plan at rising times from its start, in a video of so many seconds.

    Steps share out the video, but none waits longer than `LONGEST_STEP` for the one before; what swings goes
    on to the end in the last step, in bouts, and before that until the next one. When things happen is left
    to chance by no more than a fraction of a nod, or the mean of all nods would be none.
    """
    tracks = np.zeros((len(time), len(TRACKS)))
    slot = min(seconds / max(1, len(plan)), LONGEST_STEP)
    for number, step in enumerate(plan):
        last = number == len(plan) - 1
        start = number * slot + rng.uniform(0.18, 0.34)
        stop = math.inf if last else (number + 1) * slot + 0.1
        _step(tracks, step, time, start, stop, slot if len(plan) > 1 else seconds, rng)
    return tracks.astype(np.float32)


def _step(
    tracks: NDArray[np.float64],
    step: Sequence[Move],
    time: NDArray[np.float64],
    start: float,
    stop: float,
    room: float,
    rng: np.random.Generator,
) -> None:
    holds: dict[str, tuple[float, float]] = {}  # track -> target, seconds
    for move in step:
        motion, pace = MOVES[move.name], SPEEDS[move.speed] * rng.uniform(0.85, 1.15)
        ramp = min(motion.seconds * pace, 0.85 * room)
        clears = dict.fromkeys(motion.clears, 0.0)
        still = motion.targets if motion.kind == "hold" else motion.base or {}
        for name, value in (clears | dict(still)).items():
            target = _reach(name, value * SIZES[move.size] * rng.uniform(0.9, 1.1))
            if name not in holds or abs(target) > abs(holds[name][0]):
                holds[name] = (target, ramp if motion.kind == "hold" else 0.5)
    for name, (target, ramp) in holds.items():
        column = tracks[:, TRACK[name]]
        column += (target - column) * smoothstep((time - start) / ramp)
    for move in step:
        motion, pace = MOVES[move.name], SPEEDS[move.speed]
        if motion.kind == "hold":
            continue
        size = SIZES[move.size] if "Blink" not in next(iter(motion.targets)) else 1.0
        share = (
            _pulse(time - start, motion.seconds * pace, motion.stay * pace)
            if motion.kind == "pulse"
            else _swings(time - start, motion, pace, stop - start, rng)
        )
        for name, value in motion.targets.items():
            column = tracks[:, TRACK[name]]
            column += share * _reach(name, value * size) * rng.uniform(0.92, 1.08)
            if name in FACE:
                column.clip(0, 1, out=column)


def _reach(name: str, value: float) -> float:
    most = FURTHEST.get(name, 1.0)
    return min(max(value, -most), most)


def _pulse(since: NDArray[np.float64], ramp: float, stay: float) -> NDArray[np.float64]:
    return smoothstep(since / ramp) - smoothstep((since - ramp - stay) / (1.3 * ramp))


def _swings(
    since: NDArray[np.float64], motion: Motion, pace: float, stop: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Bouts of up to three turns with rests between, until `stop`; their cycle divides `HOP`, so that they go
    on in later windows as in the first."""
    period = motion.seconds * (0.5 + 0.5 * pace)
    turns = min(3, max(1, math.floor((HOP - REST) / period)))
    cycle = HOP / max(1, math.floor(HOP / (turns * period + REST)))
    share = np.zeros_like(since)
    for at in np.arange(0, min(stop, since[-1]), cycle):
        start = max(0.0, at + rng.uniform(-0.06, 0.06))
        phase = (since - start) / period
        count = turns if math.isinf(stop) else min(turns, max(1, math.floor((stop - start) / period)))
        wave = (1 - np.cos(2 * np.pi * phase)) / 2
        if motion.kind == "shake":
            wave = np.sin(2 * np.pi * phase) * smoothstep(phase) * smoothstep(count - phase)
        share += np.where((phase >= 0) & (phase < count), wave, 0)
    return share
