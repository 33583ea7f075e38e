"""Triangles drawn with values at their corners, as exact spans along rows."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


def nearest_last(points: NDArray, triangles: NDArray) -> NDArray:
    """Triangles (F, 3) of points (V, 3) in the order in which they must be drawn."""
    depth = points[:, 2][triangles].sum(1)
    return np.ascontiguousarray(triangles[np.argsort(-depth, kind="stable")])


@njit(cache=True, nogil=True, fastmath=True)
def draw_triangles(
    target: NDArray, values: NDArray, triangles: NDArray, part: int, out: NDArray, parts: NDArray
) -> None:
    """Write the values (V, k) of the points `target` (V, 2), in pixels, into out (k, S, S) under every
    triangle (F, 3), and the number `part` into parts (S, S)."""
    size = out.shape[1]
    for f in range(len(triangles)):
        a, b, c = triangles[f]
        x0, y0, x1, y1, x2, y2 = (
            target[a, 0],
            target[a, 1],
            target[b, 0],
            target[b, 1],
            target[c, 0],
            target[c, 1],
        )
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-6:
            continue
        # Barycentric weights are w_k = slope_k * x + start_k along a row, so a row's span is found without
        # tests.
        slope1, slope2 = (y2 - y0) / area, (y0 - y1) / area
        for y in range(max(0, int(min(y0, y1, y2) - 0.5)), min(size - 1, int(max(y0, y1, y2) + 0.5)) + 1):
            start1 = ((0.5 - x0) * (y2 - y0) - (x2 - x0) * (y + 0.5 - y0)) / area
            start2 = ((x1 - x0) * (y + 0.5 - y0) - (0.5 - x0) * (y1 - y0)) / area
            low, high = 0.0, size - 1.0
            for slope, start in ((slope1, start1), (slope2, start2), (-slope1 - slope2, 1 - start1 - start2)):
                if slope > 1e-12:
                    low = max(low, -start / slope)
                elif slope < -1e-12:
                    high = min(high, -start / slope)
                elif start < 0:
                    high = -1.0
            for x in range(int(np.ceil(low - 1e-4)), int(np.floor(high + 1e-4)) + 1):
                w1, w2 = slope1 * x + start1, slope2 * x + start2
                w0 = 1 - w1 - w2
                for k in range(values.shape[1]):
                    out[k, y, x] = w0 * values[a, k] + w1 * values[b, k] + w2 * values[c, k]
                parts[y, x] = part
