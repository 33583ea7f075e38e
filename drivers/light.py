"""The light on a face, read from one picture: skin that bends turns towards the light or away from it.

Brightness of skin is taken as albedo x (ambient + direction . normal), the first two bands of spherical
harmonics (Ramamoorthi and Hanrahan 2001), fitted to the whole face without lips and eyes. What follows for a
place that turns is a factor, the same for all colours.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.mesh import LEFT_EYE, RIGHT_EYE

Array = NDArray[np.float32]

OUTER_LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
MARGIN = 0.03  # face heights around lips and eyes that are no plain skin
EVEN = 0.005  # pull towards light without direction, in shares of the pixels
PASSES, STRANGE = 5, 0.15  # of the robust fit; beyond this error, of the mean, a pixel counts less and less
DIMMEST = 0.25  # of the face's mean: no place is darker before or after
BOUNDS = (0.5, 1.8)  # of the factor in linear light
GAMMA = 2.2


def skin_mask(landmarks: Array, height: float, side: int, cells: int) -> NDArray[np.bool_]:
    """Where no lips and no eyes are, (cells, cells).

    Args:
        landmarks: (478, 3) in px of a picture with sides of `side` px.
        height: of the face, px.
        cells: per side of the mask.
    """
    scale = cells / side
    mask = np.ones((cells, cells), np.uint8)
    grown = round(MARGIN * height * scale)
    eyes = ([*eye.upper, *eye.lower] for eye in (LEFT_EYE, RIGHT_EYE))
    for part in (OUTER_LIPS, *eyes):
        hull = cv2.convexHull((landmarks[list(part), :2] * scale).astype(np.int32))
        cv2.fillConvexPoly(mask, hull, 0)
        cv2.polylines(mask, [hull], True, 0, 2 * grown + 1)
    return mask > 0


def fit_light(normals: Array, brightness: Array) -> Array:
    """Ambient light and direction, (4,), such that their mean brightness is 1.

    Args:
        normals: of skin, (n, 3), unit length.
        brightness: of the same places in linear light, (n,).
    """
    wanted = brightness / max(float(brightness.mean()), 1e-6)
    terms = np.column_stack([np.ones(len(normals)), normals])
    pull, weight = EVEN * len(normals) * np.diag([0.0, 1, 1, 1]), np.ones(len(normals))
    for _ in range(PASSES):
        light = np.linalg.solve((terms.T * weight) @ terms + pull, (terms.T * weight) @ wanted)
        weight = 1 / (np.abs(terms @ light - wanted) + STRANGE)
        weight /= weight.mean()
    return light.astype(np.float32)


def gain(light: Array, before: Array, after: Array) -> Array:
    """By what factor display values (after gamma) of skin change that turns from the normals `before`
    (..., 3) to `after` (..., 3)."""
    first, then = (np.maximum(light[0] + normals @ light[1:], DIMMEST) for normals in (before, after))
    return ((then / first).clip(*BOUNDS) ** (1 / GAMMA)).astype(np.float32)
