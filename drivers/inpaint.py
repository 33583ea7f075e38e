"""Holes of a picture filled from around them, from coarse to fine: smooth, without the colours inside.

Each coarser level holds the mean of what is known under it (push), a hole takes the level above it (pull) and
is relaxed towards the harmonic surface through its rim, the smoothest one there is.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SMALLEST = 4  # px, the side at which the pyramid ends
RELAX = 24  # Jacobi steps at each level
CROSS = np.array([[0, 0.25, 0], [0.25, 0, 0.25], [0, 0.25, 0]], np.float32)


def fill(picture: NDArray, hole: NDArray[np.bool_]) -> Array:
    """The picture (H, W, C) with its hole (H, W) filled; the rest is as it was.

    A picture that is all hole becomes its own mean.
    """
    colours = picture.astype(np.float32)
    if not hole.any():
        return colours
    if hole.all():
        return np.broadcast_to(colours.mean((0, 1)), colours.shape).astype(np.float32)
    return _filled(colours, (~hole).astype(np.float32))


def _filled(colours: Array, known: Array) -> Array:
    """Colours where `known` (H, W) is above 0 count; it is the share of a cell that does."""
    height, width = known.shape
    missing = known <= 0
    if not missing.any():
        return colours
    if min(height, width) <= SMALLEST:
        mean = (colours * known[..., None]).sum((0, 1)) / known.sum()
        return np.where(missing[..., None], mean, colours).astype(np.float32)
    half = ((width + 1) // 2, (height + 1) // 2)
    share = cv2.resize(known, half, interpolation=cv2.INTER_AREA)
    sums = cv2.resize(colours * known[..., None], half, interpolation=cv2.INTER_AREA)
    small = _filled(sums.reshape(*share.shape, -1) / np.maximum(share, 1e-6)[..., None], share)
    guess = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).reshape(colours.shape)
    out = np.where(missing[..., None], guess, colours).astype(np.float32)
    rows, columns = (np.flatnonzero(missing.any(axis)) for axis in (1, 0))
    box = (slice(max(rows[0] - 1, 0), rows[-1] + 2), slice(max(columns[0] - 1, 0), columns[-1] + 2))
    part, inside = out[box], missing[box][..., None]
    for _ in range(RELAX):
        mean = cv2.filter2D(part, -1, CROSS, borderType=cv2.BORDER_REPLICATE).reshape(part.shape)
        part = np.where(inside, mean, part)
    out[box] = part
    return out
