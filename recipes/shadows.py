"""How much of a light reaches a point: depth maps seen from the light."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float32]

FAR = np.float32(1e9)
LIGHT_REACH = 0.30  # m, half the width of a light's screen


def light_basis(direction: Array) -> Array:
    """Rotation (3, 3) whose third row points away from a light that lies in `direction` (3,)."""
    forward = -direction / np.linalg.norm(direction)
    right = np.cross([0.0, 1.0, 0.1], forward)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(forward, right), forward]).astype(np.float32)


def light_screen(side: int) -> Array:
    """Empty depths (side, side) seen from a light; the screen covers LIGHT_REACH around its middle."""
    return np.full((side, side), FAR, np.float32)


@njit(cache=True, fastmath=True, error_model="numpy")
def _from_light(points: Array, middle: Array, basis: Array, side: int) -> Array:
    """Points (n, 3) on a light's screen: pixels, pixels, metres away from the light."""
    out = np.empty(points.shape, np.float32)
    scale, half = np.float32(side / (2 * LIGHT_REACH)), np.float32(side / 2)
    for i in range(points.shape[0]):
        dx, dy, dz = points[i, 0] - middle[0], points[i, 1] - middle[1], points[i, 2] - middle[2]
        out[i, 0] = (dx * basis[0, 0] + dy * basis[0, 1] + dz * basis[0, 2]) * scale + half
        out[i, 1] = (dx * basis[1, 0] + dy * basis[1, 1] + dz * basis[1, 2]) * scale + half
        out[i, 2] = dx * basis[2, 0] + dy * basis[2, 1] + dz * basis[2, 2]
    return out


@njit(cache=True, fastmath=True, error_model="numpy")
def draw_depth(
    vertices: Array,
    middle: Array,
    basis: Array,
    triangles: NDArray[np.int32],
    two_sided: NDArray[np.bool_],
    screen: Array,
) -> None:
    """Nearest depth of triangles (F, 3) of vertices (V, 3) on a light's screen; back faces count only if
    `two_sided` (F,).
    """
    side = screen.shape[0]
    points = _from_light(vertices, middle, basis, side)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        x0, y0, x1, y1, x2, y2 = (
            points[a, 0],
            points[a, 1],
            points[b, 0],
            points[b, 1],
            points[c, 0],
            points[c, 1],
        )
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if area > -1e-6 and not (two_sided[f] and area > 1e-6):
            continue
        low_x, high_x = max(0, int(min(x0, x1, x2))), min(side - 1, int(max(x0, x1, x2)) + 1)
        low_y, high_y = max(0, int(min(y0, y1, y2))), min(side - 1, int(max(y0, y1, y2)) + 1)
        inverse = 1 / area
        z0, z1, z2 = points[a, 2], points[b, 2] - points[a, 2], points[c, 2] - points[a, 2]
        step1, step2 = (y2 - y0) * inverse, (y0 - y1) * inverse
        for y in range(low_y, high_y + 1):
            px, py = low_x + np.float32(0.5), y + np.float32(0.5)
            w1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) * inverse
            w2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) * inverse
            for x in range(low_x, high_x + 1):
                if w1 >= 0 and w2 >= 0 and w1 + w2 <= 1:
                    screen[y, x] = min(screen[y, x], z0 + w1 * z1 + w2 * z2)
                w1 += step1
                w2 += step2


@njit(cache=True, fastmath=True, error_model="numpy")
def draw_depth_strands(strands: Array, middle: Array, basis: Array, screen: Array) -> None:
    """Nearest depth of strands (N, P, 3) on a light's screen, each node a little blot that stands for a
    lock.
    """
    side = screen.shape[0]
    for n in range(strands.shape[0]):
        points = _from_light(strands[n], middle, basis, side)
        for k in range(points.shape[0]):
            x, y = int(points[k, 0]), int(points[k, 1])
            if 0 <= x < side - 1 and 0 <= y < side:
                screen[y, x] = min(screen[y, x], points[k, 2])
                screen[y, x + 1] = min(screen[y, x + 1], points[k, 2])


@njit(cache=True, fastmath=True, error_model="numpy")
def lit_share(
    points: Array,
    middle: Array,
    basis: Array,
    screen: Array,
    margin: float,
    radius: int,
    wanted: NDArray[np.bool_],
    out: Array,
) -> None:
    """Share of a light that reaches points, by depth tests on diamonds around their places on its screen.

    Args:
        points: view axes, (n, 3).
        middle, basis: of the light's screen.
        screen: the light's depths, (side, side).
        margin: metres that a point may lie behind the nearest surface.
        radius: of the largest diamond, pixels.
        wanted: which points, (n,).
        out: multiplied by the share where wanted, (n,).
    """
    side = screen.shape[0]
    scale, half = np.float32(side / (2 * LIGHT_REACH)), np.float32(side / 2)
    for i in range(points.shape[0]):
        if not wanted[i]:
            continue
        dx, dy, dz = points[i, 0] - middle[0], points[i, 1] - middle[1], points[i, 2] - middle[2]
        x = int((dx * basis[0, 0] + dy * basis[0, 1] + dz * basis[0, 2]) * scale + half)
        y = int((dx * basis[1, 0] + dy * basis[1, 1] + dz * basis[1, 2]) * scale + half)
        if x < 0 or y < 0 or x >= side or y >= side:
            continue
        depth = dx * basis[2, 0] + dy * basis[2, 1] + dz * basis[2, 2] - margin
        lit = 1 if depth < screen[y, x] else 0
        for ring in range(1, radius + 1):
            for u, v in ((ring, ring - 1), (-ring, 1 - ring), (1 - ring, ring), (ring - 1, -ring)):
                if depth < screen[min(max(y + v, 0), side - 1), min(max(x + u, 0), side - 1)]:
                    lit += 1
        out[i] *= np.float32(lit) / (4 * radius + 1)
