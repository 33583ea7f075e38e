"""Where sounding things are drawn: a wall and a floor, or a sky and a ground, seen by a camera that may move.

An `Act` is one thing that sounds; it draws itself at any time. Positions u, v of an act are relative to its
spot: u to the right, v up from where it stands, 1 is the spot's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.recipes.modal import Sound

SIDE = 128  # px of the drawn picture
SHIFT = 4  # bits of a subpixel
Frame = NDArray[np.uint8]
Colour = tuple[int, int, int]
Point = tuple[float, float]


@dataclass(frozen=True)
class Spot:
    """Where an act stands: x and y of its foot and its size, in shares of the picture."""

    x: float
    y: float
    size: float


class Brush:
    """Draws in an act's own coordinates."""

    def __init__(self, frame: Frame, spot: Spot) -> None:
        self.frame, self.spot = frame, spot

    def _at(self, u: float, v: float) -> tuple[int, int]:
        x, y = self.spot.x + u * self.spot.size, self.spot.y - v * self.spot.size
        return round(x * SIDE * 2**SHIFT), round(y * SIDE * 2**SHIFT)

    def _length(self, length: float) -> float:
        return length * self.spot.size * SIDE

    def disc(self, u: float, v: float, radius: float, colour: Colour, high: float | None = None) -> None:
        """A filled circle, or an ellipse `high` tall from its middle."""
        axes = [round(max(self._length(r), 0.3) * 2**SHIFT) for r in (radius, high or radius)]
        cv2.ellipse(self.frame, self._at(u, v), axes, 0, 0, 360, colour, -1, cv2.LINE_AA, SHIFT)

    def ring(self, u: float, v: float, radius: float, high: float, colour: Colour) -> None:
        """The outline of an ellipse."""
        axes = [round(max(self._length(r), 0.3) * 2**SHIFT) for r in (radius, high)]
        cv2.ellipse(self.frame, self._at(u, v), axes, 0, 0, 360, colour, 1, cv2.LINE_AA, SHIFT)

    def shape(self, points: list[Point], colour: Colour) -> None:
        """A filled polygon."""
        corners = np.array([self._at(u, v) for u, v in points], np.int32)
        cv2.fillPoly(self.frame, [corners], colour, cv2.LINE_AA, SHIFT)

    def box(self, u: float, v: float, width: float, height: float, colour: Colour) -> None:
        """A filled rectangle from its lower left corner."""
        self.shape([(u, v), (u + width, v), (u + width, v + height), (u, v + height)], colour)

    def line(self, points: list[Point], width: float, colour: Colour) -> None:
        """Straight pieces, `width` in the act's units, one pixel at least."""
        corners = np.array([self._at(u, v) for u, v in points], np.int32)
        thick = max(1, round(self._length(width)))
        cv2.polylines(self.frame, [corners], False, colour, thick, cv2.LINE_AA, SHIFT)


Draw = Callable[[Brush, float], None]


@dataclass(frozen=True)
class Act:
    """One thing that sounds.

    Attributes:
        kind: class of its sound.
        words: what a caption may say, most plain first.
        sound: dry, (samples,).
        draw: at a time in seconds; None where it is not in the picture.
        hits: times in seconds at which a blow is seen and heard.
        ground: whether it needs a floor to stand on.
    """

    kind: str
    words: tuple[str, ...]
    sound: Sound
    draw: Draw | None
    hits: tuple[float, ...] = ()


def jitter(colour: Colour, rng: np.random.Generator, amount: float = 25) -> Colour:
    """A colour near another."""
    moved = np.clip(np.array(colour) + rng.normal(0, amount, 3), 0, 255).astype(int)
    return int(moved[0]), int(moved[1]), int(moved[2])


def any_colour(rng: np.random.Generator) -> Colour:
    """A random colour, neither black nor white."""
    return jitter((128, 128, 128), rng, 60)


def darker(colour: Colour, share: float) -> Colour:
    """A colour with `share` of its light."""
    return int(colour[0] * share), int(colour[1] * share), int(colour[2] * share)


class Backdrop:
    """What stands still behind the acts; `horizon` is the height of the floor's edge, share from the top."""

    def __init__(self, indoors: bool, rng: np.random.Generator) -> None:
        self.horizon = float(rng.uniform(0.45, 0.75))
        if indoors:
            upper, lower = any_colour(rng), any_colour(rng)
        else:
            upper = jitter((150, 190, 230) if rng.uniform() < 0.7 else (120, 125, 135), rng)
            lower = jitter(((95, 135, 70), (150, 130, 100), (110, 110, 112))[rng.integers(3)], rng)
        rows = np.linspace(0, 1, SIDE)[:, None, None]
        shade = rng.uniform(-0.25, 0.25)
        frame = np.where(rows < self.horizon, np.array(upper), np.array(lower)) * (1 + shade * (rows - 0.5))
        grain = cv2.GaussianBlur(rng.standard_normal((SIDE, SIDE, 1)), (0, 0), rng.uniform(0.6, 4))
        frame = frame + (rng.uniform(0, 12) * grain / grain.std())[..., None]
        self.frame = np.ascontiguousarray(np.clip(frame, 0, 255).astype(np.uint8))
        for _ in range(rng.integers(0, 5)):
            x, width, height = rng.uniform(0, 1), rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.4)
            foot = self.horizon + (rng.uniform(-0.3, 0) if indoors else 0.01)
            Brush(self.frame, Spot(x, foot, 1)).box(0, 0, width, height, any_colour(rng))


class Camera:
    """Shakes, drifts and zooms a little, or stands still; adds noise and changes of light."""

    def __init__(self, seconds: float, rng: np.random.Generator) -> None:
        self.seconds = seconds
        still = rng.uniform() < 0.45
        self.drift = np.zeros(3) if still else rng.normal(0, (0.03, 0.02, 0.04))
        self.shake = 0.0 if still or rng.uniform() < 0.4 else rng.uniform(0.001, 0.008)
        self.speed, self.phase = rng.uniform(0.5, 2.5, (2, 3)), rng.uniform(0, 6.3, (2, 3))
        self.noise = rng.uniform(0, 5)
        self.light = 0.0 if rng.uniform() < 0.7 else rng.uniform(0.01, 0.06)
        self.mirrored = rng.uniform() < 0.5
        self.rng = rng

    def see(self, frame: Frame, time: float) -> Frame:
        """The frame as the camera films it at a time."""
        waves = np.sin(2 * np.pi * self.speed * time + self.phase).sum(0)
        x, y, zoom = self.drift * (time / self.seconds - 0.5) + self.shake * waves * (1, 1, 0.3)
        scale = 1 + zoom
        middle = SIDE / 2
        matrix = np.array(
            [[scale, 0, middle * (1 - scale) + x * SIDE], [0, scale, middle * (1 - scale) + y * SIDE]]
        )
        seen = cv2.warpAffine(frame, matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)
        seen = cv2.resize(seen, (SIDE // 2, SIDE // 2), interpolation=cv2.INTER_AREA).astype(np.float32)
        if self.mirrored:
            seen = seen[:, ::-1]
        seen = seen * (1 + self.light * waves[2]) + self.noise * self.rng.standard_normal(seen.shape)
        return np.clip(seen, 0, 255).astype(np.uint8)
