"""Lips that part in the reference and are shut in a frame: no tooth shows between them, but a seam does.

A rim of the lips as the face mesh finds it lies on the outermost pixels of the teeth, so that two rims put
together would still show a row of them. And what meets there is the lit edge of either lip: the shadow in
which closed lips meet, by which a viewer (and a face mesh) knows that they are closed, is in no picture of an
open mouth. Shapes: T frames, n pairs of points on the rims, S side of the picture in pixels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.mesh import MOUTH
from avatar.drivers.mouth import develop, linear

Array = NDArray[np.float32]

APART = (0.5, 2.0)  # px of a reference's pair of rim points: its own seam is seen; there is none
RIM = 0.016  # face heights beyond a rim's landmarks, where lips begin for certain
EDGES = replace(MOUTH, reach=0.03)  # the landmarks that lie as near to a rim go with it
# Where closed lips meet they have 0.29 of the light of the lips around, in the median of six rendered people
# and five photos of closed mouths, and 1.2 to 2.2 px from there half the shadow, at a face height of 112 px.
DARK, WIDTH = 0.7, 0.011  # share of the light, deviation in face heights
REACH = 3  # deviations


def closing(opened: Array, gaps: Array) -> Array:
    """How far each pair is apart in the reference and shut in the frames, (T, n) in [0, 1].

    Args:
        opened: opening of each pair in the reference, (n,) in px.
        gaps: that in the frames, (T, n) in px.
    """
    apart = ((opened - APART[0]) / (APART[1] - APART[0])).clip(0, 1)
    return np.asarray(apart * (1 - gaps / np.maximum(opened, APART[0])).clip(0, 1), np.float32)


def clear_rims(source: Array, shut: Array, height: float, pulls: tuple[Array, Array]) -> None:
    """Take the lips from beside the teeth as they shut, in place; the corners stay.

    Args:
        source: places of landmarks in the reference, (T, landmarks, 2) in px.
        shut: see `closing`.
        height: of the face, px.
        pulls: of `EDGES`.
    """
    upper, lower = pulls
    source[..., 1] += RIM * height * (shut @ lower.T - shut @ upper.T)


def draw_seam(target: Array, shut: Array, height: float, size: int) -> Array:
    """How much of the seam's shadow lies on each pixel of the frames, (T, S, S) in [0, 1].

    Args:
        target: places in the frames, (T, points, 2) in px.
        shut: see `closing`; a seam comes late, when its lips have almost met.
        height: of the face, px.
        size: S.
    """
    lines = (target[:, list(MOUTH.upper)] + target[:, list(MOUTH.lower)]) / 2
    deviation = WIDTH * height
    out = np.zeros((len(target), size, size), np.float32)
    for seam, line, shown in zip(out, lines, shut**2, strict=True):
        if shown.any():
            left, top = np.clip(line.min(0) - REACH * deviation, 0, size).astype(int)
            right, bottom = np.clip(line.max(0) + REACH * deviation + 1, 0, size).astype(int)
            rows, columns = np.mgrid[top:bottom, left:right] + 0.5
            away, level = _nearest(np.stack([columns, rows], -1), line, shown)
            seam[top:bottom, left:right] = level * np.exp(-0.5 * (away / deviation) ** 2)
    return out


def _nearest(places: NDArray, line: Array, values: Array) -> tuple[NDArray, NDArray]:
    """Distance of places (..., 2) from a line (n, 2), and what its values (n,) are where it is nearest."""
    step = np.diff(line, axis=0)
    away = places[..., None, :] - line[:-1]
    along = ((away * step).sum(-1) / (step**2).sum(-1).clip(1e-6)).clip(0, 1)
    distance = np.linalg.norm(away - along[..., None] * step, axis=-1)
    nearest = distance.argmin(-1)[..., None]
    level = values[:-1] + along * np.diff(values)
    return tuple(np.take_along_axis(found, nearest, -1)[..., 0] for found in (distance, level))  # type: ignore[return-value]


def shade_seam(picture: NDArray[np.uint8], seam: Array) -> None:
    """Lay the shadow of a seam (S, S) on a picture (S, S, 3), in place.

    Its light has been on the other lip before, so that it is redder than the lips' by about the root of their
    hue: in ten of the people above the exponent is 0.57 in the median.
    """
    place = seam > 1 / 255
    light = linear(picture[place])
    hue = np.sqrt(light / np.maximum(light.mean(1, keepdims=True), 1e-4))
    share = seam[place][:, None]
    shaded = light * (1 - share + share * (1 - DARK) * hue)
    picture[place] = (develop(shaded) + 0.5).clip(0, 255).astype(np.uint8)
