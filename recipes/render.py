"""Z-buffer rasteriser for triangles and hair strands, shadow maps and exact optical flow, on one core.

Screens are square, `side` pixels; a screen point is (x, y, depth) with x, y in pixels and depth in metres
from the
camera. A pixel remembers which primitive it shows: -1 none, 0..F-1 a triangle, F.. a strand segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float32]

FAR = np.float32(1e9)
THINNEST = np.float32(0.7)  # px, of a strand: less looks like dust
HIDDEN = np.float32(0.002)  # m, a piece of hair with both ends this far behind what is drawn is left out


@dataclass(frozen=True, kw_only=True)
class Camera:
    """A pinhole camera that looks along Z.

    Attributes:
        focal: focal length in pixels of the square screen.
        distance: from the plane z = 0, metres.
        place: x and y of the camera, metres.
        centre: screen position of the axis, (2,) pixels.
        roll: clockwise turn of the picture, radians.
        side: of the screen, pixels.
    """

    focal: float
    distance: float
    place: tuple[float, float]
    centre: tuple[float, float]
    roll: float
    side: int

    @property
    def eye(self) -> Array:
        """Where the camera is, view axes, (3,)."""
        return np.array([*self.place, -self.distance], np.float32)

    def project(self, points: Array) -> Array:
        """View axes (..., 3) -> screen (..., 3)."""
        depth = points[..., 2] + np.float32(self.distance)
        scale = np.float32(self.focal) / depth
        x = (points[..., 0] - np.float32(self.place[0])) * scale
        y = (points[..., 1] - np.float32(self.place[1])) * scale
        c, s = np.float32(np.cos(self.roll)), np.float32(np.sin(self.roll))
        out = np.empty(points.shape, np.float32)
        out[..., 0] = c * x - s * y + np.float32(self.centre[0])
        out[..., 1] = s * x + c * y + np.float32(self.centre[1])
        out[..., 2] = depth
        return out


@dataclass
class Screen:
    """What every pixel shows: `ids`, depth `z` and two barycentric weights `bary`, (side, side[, 2])."""

    ids: NDArray[np.int32]
    z: Array
    bary: Array

    @classmethod
    def empty(cls, side: int) -> Screen:
        return cls(
            ids=np.full((side, side), -1, np.int32),
            z=np.full((side, side), FAR, np.float32),
            bary=np.zeros((side, side, 2), np.float32),
        )


@njit(cache=True, fastmath=True, error_model="numpy")
def draw_triangles(
    points: Array,
    triangles: NDArray[np.int32],
    two_sided: NDArray[np.bool_],
    ids: NDArray[np.int32],
    z: Array,
    bary: Array,
) -> None:
    """Draw triangles (F, 3) of screen points (V, 3); back faces are skipped unless `two_sided` (F,)."""
    side = ids.shape[0]
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
        low_x, high_x = max(0, int(min(x0, x1, x2) - 0.5)), min(side - 1, int(max(x0, x1, x2) + 0.5))
        low_y, high_y = max(0, int(min(y0, y1, y2) - 0.5)), min(side - 1, int(max(y0, y1, y2) + 0.5))
        if low_x > high_x or low_y > high_y:
            continue
        inverse = 1 / area
        i0, i1, i2 = 1 / points[a, 2], 1 / points[b, 2], 1 / points[c, 2]
        step1, step2 = (y2 - y0) * inverse, (y0 - y1) * inverse
        for y in range(low_y, high_y + 1):
            py = y + np.float32(0.5)
            px = low_x + np.float32(0.5)
            w1 = ((px - x0) * (y2 - y0) - (x2 - x0) * (py - y0)) * inverse
            w2 = ((x1 - x0) * (py - y0) - (px - x0) * (y1 - y0)) * inverse
            for x in range(low_x, high_x + 1):
                w0 = 1 - w1 - w2
                if w0 >= 0 and w1 >= 0 and w2 >= 0:
                    depth = 1 / (w0 * i0 + w1 * i1 + w2 * i2)
                    if depth < z[y, x]:
                        z[y, x] = depth
                        ids[y, x] = f
                        bary[y, x, 0] = w1 * i1 * depth
                        bary[y, x, 1] = w2 * i2 * depth
                w1 += step1
                w2 += step2


@njit(cache=True, fastmath=True, error_model="numpy")
def draw_strands(
    points: Array,
    width: Array,
    first: int,
    ids: NDArray[np.int32],
    z: Array,
    bary: Array,
) -> None:
    """Draw strands (N, P, 3) as lines `width` (N, P) pixels wide; thinner than a pixel means fewer pixels,
    by a fixed hash.

    Segment k of strand n gets the number first + n * (P - 1) + k; `bary` holds the place along it and across
    it.
    """
    side = ids.shape[0]
    count, nodes = points.shape[0], points.shape[1]
    for n in range(count):
        for k in range(nodes - 1):
            x0, y0, z0 = points[n, k, 0], points[n, k, 1], points[n, k, 2]
            x1, y1, z1 = points[n, k + 1, 0], points[n, k + 1, 1], points[n, k + 1, 2]
            if max(x0, x1) < 0 or min(x0, x1) > side or max(y0, y1) < 0 or min(y0, y1) > side:
                continue
            u, v = min(max(int(x0), 0), side - 1), min(max(int(y0), 0), side - 1)
            if z[v, u] < z0 - HIDDEN:
                u, v = min(max(int(x1), 0), side - 1), min(max(int(y1), 0), side - 1)
                if z[v, u] < z1 - HIDDEN:
                    continue
            dx, dy = x1 - x0, y1 - y0
            steep = abs(dy) > abs(dx)
            steps = int(max(abs(dx), abs(dy))) + 1
            name = first + n * (nodes - 1) + k
            for i in range(steps):
                t = (i + np.float32(0.5)) / steps
                x, y, depth = x0 + t * dx, y0 + t * dy, z0 + t * (z1 - z0)
                wide = max(THINNEST, width[n, k] + t * (width[n, k + 1] - width[n, k]))
                whole = int(wide)
                noise = ((int(x) * 73856093) ^ (int(y) * 19349663) ^ (n * 83492791)) & 1023
                if noise < (wide - whole) * 1024:
                    whole += 1
                for j in range(whole):
                    offset = j - (whole - 1) * np.float32(0.5)
                    u = int(x + (offset if steep else 0))
                    v = int(y + (0 if steep else offset))
                    if 0 <= u < side and 0 <= v < side and x >= 0 and y >= 0 and depth < z[v, u]:
                        z[v, u] = depth
                        ids[v, u] = name
                        bary[v, u, 0] = t
                        bary[v, u, 1] = 2 * offset / max(wide, np.float32(1))


@njit(cache=True, fastmath=True, error_model="numpy")
def vertex_normals(points: Array, triangles: NDArray[np.int32]) -> Array:
    """Area-weighted outward unit normals (V, 3) in view axes."""
    normals = np.zeros(points.shape, np.float32)
    for f in range(triangles.shape[0]):
        a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
        ux, uy, uz = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        vx, vy, vz = points[c, 0] - points[a, 0], points[c, 1] - points[a, 1], points[c, 2] - points[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for i in (a, b, c):
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(points.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + np.float32(1e-12)
        normals[i] /= length
    return normals


@njit(cache=True, fastmath=True, error_model="numpy")
def seen_nodes(ids: NDArray[np.int32], faces: int, seen: NDArray[np.bool_]) -> None:
    """Mark in `seen` (N, P) the strand nodes that bound a visible segment."""
    segments = seen.shape[1] - 1
    for name in ids.ravel():
        if name >= faces:
            n, k = (name - faces) // segments, (name - faces) % segments
            seen[n, k] = True
            seen[n, k + 1] = True


@njit(cache=True, fastmath=True, error_model="numpy")
def merge_samples(picture: Array, background: Array, ids: NDArray[np.int32], samples: int) -> Array:
    """Mean colour of samples x samples pixels, (side / samples, side / samples, 3), the background where
    nothing is drawn.
    """
    side = ids.shape[0] // samples
    out = np.empty((side, side, 3), np.float32)
    share = np.float32(1 / (samples * samples))
    for y in range(side):
        for x in range(side):
            r, g, b = np.float32(0), np.float32(0), np.float32(0)
            for v in range(y * samples, (y + 1) * samples):
                for u in range(x * samples, (x + 1) * samples):
                    from_where = background if ids[v, u] < 0 else picture
                    r += from_where[v, u, 0]
                    g += from_where[v, u, 1]
                    b += from_where[v, u, 2]
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = r * share, g * share, b * share
    return out
