"""What the camera does, told by the optical flow of the background and of the person in front of it.

Fourteen movements. Flow knows three things apart: a background that grows or shrinks (zoom), one that moves
(the camera turns, slides or goes around), and one that trembles. Which of the three a moving background means
follows from how fast the person in front moves with it, the ratio q of the two speeds:

    q about 1    everything moves alike, whatever its distance: the camera turns (tilt)
    q over 1     what is near moves faster: the camera itself moves (pan)
    q about 0    the person keeps their place: the camera goes around them (around)

The names are those of HunyuanVideo's captions, whose pan is a shift and whose tilt is a turn. A background
without texture moves unseen. Shapes: H x W pixels of the flow, N steps in time.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOVEMENTS = (
    *("static shot", "handheld shot", "zoom in", "zoom out"),
    *("pan left", "pan right", "pan up", "pan down"),
    *("tilt left", "tilt right", "tilt up", "tilt down"),
    *("around left", "around right"),
)
SECONDS = 0.2  # of a step: slow movements are then longer than what flow mistakes
WIDE = 160  # px, longer side of the pictures that flow is computed on
STRIDE = 4  # px between the places that the background is asked at
TEXTURE = 2.0  # levels a pixel of gradient, less shows no motion
LEAST = 24  # textured places, fewer tell nothing
PASSES = 3  # of the fit, each without what lay far off in the last
MOVES = 0.012  # picture widths a second, from there on a background moves
TREMBLES = 0.0035  # picture widths a step, r.m.s. about the smooth movement
AHEAD, BESIDE = 1.35, 0.45  # q over the one is a pan, under the other goes around


class Motion(NamedTuple):
    """Motion of one step, in widths of the picture: shift of the background, growth, shift of the person."""

    x: float
    y: float
    growth: float  # share by which the background grows
    person_x: float
    person_y: float


class Flow:
    """Dense optical flow between pictures that come one after the other (DIS, Kroeger et al. 2016)."""

    def __init__(self) -> None:
        self._method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.picture: NDArray[np.uint8] | None = None

    def reset(self) -> None:
        self.picture = None

    def __call__(self, frame: NDArray[np.uint8]) -> Array | None:
        """How far everything moved since the last frame, (H, W, 2) in px of `picture`; None at first."""
        scale = min(1.0, WIDE / max(frame.shape[:2]))
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        last, self.picture = self.picture, grey
        return None if last is None else np.asarray(self._method.calc(last, grey, None), float)


def textured(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a grey picture (H, W) has enough gradient to show motion."""
    x, y = (cv2.Sobel(picture, cv2.CV_32F, dx, dy, scale=1 / 8) for dx, dy in ((1, 0), (0, 1)))
    return np.asarray(
        cv2.dilate((np.hypot(x, y) > TEXTURE).astype(np.uint8), np.ones((5, 5), np.uint8)), bool
    )


def measure(flow: Array, seen: NDArray[np.bool_], person: NDArray[np.bool_]) -> Motion:
    """Motion of a step from its flow (H, W, 2).

    Args:
        seen: where the picture shows motion, (H, W).
        person: where the person is, (H, W); the rest is background.
    """
    height, width = seen.shape
    rows, columns = np.mgrid[0:height:STRIDE, 0:width:STRIDE]
    places = (rows.ravel(), columns.ravel())
    moved, kept = flow[places], (seen & ~person)[places]
    x, y = places[1] - (width - 1) / 2, places[0] - (height - 1) / 2
    shift = _fit(x[kept], y[kept], moved[kept]) if kept.sum() >= LEAST else np.zeros(3)
    inside = (seen & person)[places]
    own = np.median(moved[inside], axis=0) if inside.sum() >= LEAST else np.zeros(2)
    return Motion(*(float(v) for v in (shift[0] / width, shift[1] / width, shift[2], *(own / width))))


def _fit(x: Array, y: Array, moved: Array) -> Array:
    """Shift x, shift y and growth of the similarity that best explains the flow (N, 2) at x, y."""
    # In complex numbers u + i v = shift + (growth + i turn) (x + i y): least squares in closed form.
    place, moves = x + 1j * y, moved[:, 0] + 1j * moved[:, 1]
    kept = np.ones(len(x), bool)
    shift = growth = 0j
    for _ in range(PASSES):
        middle = place[kept].mean()
        away = place[kept] - middle
        growth = np.vdot(away, moves[kept]) / max(np.vdot(away, away).real, 1e-12)
        shift = moves[kept].mean() - growth * middle
        off = np.abs(shift + growth * place - moves)
        kept = off <= max(2.5 * float(np.median(off)), 0.05)
    return np.array([shift.real, shift.imag, growth.real])


def movement(motions: Array) -> str:
    """One of MOVEMENTS for the steps (N, 5) of a clip, rows as `Motion`."""
    if len(motions) == 0:
        return MOVEMENTS[0]
    smooth = np.stack(
        [np.convolve(np.pad(m, 2, "edge"), np.ones(5) / 5, "valid") for m in motions[:, :2].T], 1
    )
    trembling = float(np.sqrt(((motions[:, :2] - smooth) ** 2).sum(1).mean()))
    x, y, growth, person_x, person_y = motions.mean(0) / SECONDS
    edge = abs(growth) / 2  # what growth moves at the left and the right edge of the picture
    if max(np.hypot(x, y), edge) < MOVES:
        return "handheld shot" if trembling > TREMBLES else "static shot"
    if edge > np.hypot(x, y):
        return "zoom in" if growth > 0 else "zoom out"
    sideways = abs(x) >= abs(y)
    q = person_x / x if sideways else person_y / y
    if sideways and q < BESIDE:  # far things slide the way that the camera goes
        return "around right" if x > 0 else "around left"
    # Contents move against the camera.
    way = ("left" if x > 0 else "right") if sideways else ("up" if y > 0 else "down")
    return f"{'tilt' if BESIDE <= q <= AHEAD else 'pan'} {way}"
