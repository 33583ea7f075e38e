"""Scenes that sound: one or two acts before a backdrop, perhaps something that is only heard, in a room.

What is heard follows from what is seen, so captions, classes and the times of blows are known exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatar.recipes.blows import BLOWS
from avatar.recipes.flows import FLOWS
from avatar.recipes.modal import RATE, Sound
from avatar.recipes.rooms import ROOMS, hear, response
from avatar.recipes.stage import Act, Backdrop, Brush, Camera, Frame, Spot
from avatar.recipes.textures import level

SAMPLES = 131_072  # of a scene: 512 frames of the mel spectrogram, 5.94 s
SECONDS = SAMPLES / RATE
FPS = 25  # of what the net sees
FRAMES = 149  # 4n + 1, the last begins at 5.92 s
MAKERS = BLOWS | FLOWS
CLASSES = (*BLOWS, "drum", *FLOWS)
UNSEEN = ("rain", "wind", "crowd", "music", "engine", "fan", "waves", "fire")  # what may be heard only
WIDE = ("rain", "wind", "waves", "crowd")  # fill the picture
FILMED = (25, 25, 25, 30, 24, 15, 50)  # frames a second of the camera


@dataclass(frozen=True)
class Scene:
    """A finished clip.

    Attributes:
        sound: (SAMPLES,) at 22.05 kHz.
        frames: (FRAMES, 64, 64, 3), uint8 RGB at 25 frames a second.
        captions: ways to say what is heard.
        classes: of what is heard, that of the first act first.
        seen: those that are in the picture.
        hits: times of visible blows, s.
    """

    sound: Sound
    frames: NDArray[np.uint8]
    captions: tuple[str, ...]
    classes: tuple[str, ...]
    seen: tuple[str, ...]
    hits: tuple[float, ...]


def make(seed: int, held_out: bool = False) -> Scene:
    """The scene of a seed; `held_out`: of materials that training never meets."""
    rng = np.random.default_rng((seed, int(held_out)))
    kinds = [str(k) for k in rng.choice(list(MAKERS), 2, replace=False)]
    outside = any(kind in ("waves", "wind") for kind in kinds)
    room = ROOMS[rng.integers(1 if outside else len(ROOMS))]
    seen = [MAKERS[kinds[0]](SECONDS, rng, held_out)]
    heard: list[Act] = []
    drawn = rng.uniform()
    if drawn < 0.22 and not (kinds[0] in BLOWS and kinds[1] in BLOWS):
        seen.append(MAKERS[kinds[1]](SECONDS, rng, held_out))
    elif drawn < 0.42:
        other = str(rng.choice([kind for kind in UNSEEN if kind != kinds[0]]))
        heard.append(_unseen(MAKERS[other](SECONDS, rng, held_out)))
    elif drawn < 0.47:  # nothing to see: words alone decide
        seen = [_unseen(seen[0])]
    acts = [act for act in seen if act.draw is not None]
    impulse = response(room, rng)
    sound = np.zeros(SAMPLES, np.float32)
    for i, act in enumerate((*seen, *heard)):
        gain = 10 ** ((rng.uniform(-4, 4) - (0 if i == 0 else rng.uniform(3, 12))) / 20)
        dry = act.sound if len(act.hits) else level(act.sound)
        sound += np.float32(gain) * hear(_even(dry), impulse)
    floor = 10 ** (rng.uniform(-75, -50) / 20)
    sound = normalise(sound + np.float32(floor) * rng.standard_normal(SAMPLES).astype(np.float32))
    everything = [*seen, *heard]
    return Scene(
        sound,
        _film(acts, Backdrop(room.indoors, rng), rng),
        tuple(_caption(everything, room.words, rng) for _ in range(3)),
        tuple(act.kind for act in everything),
        tuple(act.kind for act in acts),
        tuple(sorted(hit for act in acts for hit in act.hits)),
    )


def _unseen(act: Act) -> Act:
    return replace(act, draw=None, hits=())


def _even(sound: Sound) -> Sound:
    """Bring different acts to one loudness: that of their louder moments."""
    short = np.sqrt(np.mean(np.square(sound[: len(sound) // 1024 * 1024].reshape(-1, 1024)), 1))
    return (sound * (0.1 / (np.quantile(short, 0.97) + 1e-6))).astype(np.float32)


def normalise(sound: Sound) -> Sound:
    """The same, with peaks below full scale."""
    even = _even(sound)
    peak = np.abs(even).max()
    return (even * min(1.0, 0.95 / (peak + 1e-9))).astype(np.float32)


def _caption(acts: list[Act], rooms: tuple[str, ...], rng: np.random.Generator) -> str:
    words = [str(rng.choice(act.words)) for act in acts]
    rng.shuffle(words)
    text = str(rng.choice((" and ", ", "))).join(words)
    return " ".join(filter(None, (text, str(rng.choice(rooms)) if rng.uniform() < 0.6 else "")))


def _film(acts: list[Act], backdrop: Backdrop, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Frames at 25 a second of what a camera of its own rate has filmed."""
    camera, rate = Camera(SECONDS, rng), int(rng.choice(FILMED))
    spots = _spots(acts, backdrop.horizon, rng)
    count = int(np.ceil(SECONDS * rate))
    filmed: list[Frame] = []
    for index in range(count):
        frame, now = backdrop.frame.copy(), index / rate
        for act, spot in zip(acts, spots, strict=True):
            assert act.draw is not None
            act.draw(Brush(frame, spot), now)
        filmed.append(camera.see(frame, now))
    return np.stack([filmed[min(int(k * rate / FPS + 1e-6), count - 1)] for k in range(FRAMES)])


def _spots(acts: list[Act], horizon: float, rng: np.random.Generator) -> list[Spot]:
    """Side by side on the floor; what fills the picture behind all else."""
    acts.sort(key=lambda act: act.kind not in WIDE)
    narrow = sum(act.kind not in WIDE for act in acts)
    spots, index = [], 0
    for act in acts:
        if act.kind in WIDE:
            foot = {"rain": 1.0, "waves": 1.0}.get(act.kind, horizon + 0.15)
            spots.append(Spot(0.5, foot, 1.0 if act.kind == "rain" else rng.uniform(0.6, 0.9)))
            continue
        size = rng.uniform(0.5, 0.9) / (1.3 if narrow > 1 else 1)
        middle = 0.5 + rng.uniform(-0.15, 0.15) if narrow == 1 else (0.27, 0.73)[index]
        foot = max(horizon + rng.uniform(0.02, 0.2), size + 0.01)
        spots.append(Spot(middle, min(foot, 0.97), size))
        index += 1
    return spots
