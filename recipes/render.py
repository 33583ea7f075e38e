"""Z-buffer rasteriser for triangles and hair strands, shadow maps and exact optical flow, on one core.

Screens are square, `side` pixels; a screen point is (x, y, depth) with x, y in pixels and depth in metres from the
camera. A pixel remembers which primitive it shows: -1 none, 0..F-1 a triangle, F.. a strand segment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float32]

FAR = np.float32(1e9)
LIGHT_REACH = 0.30  # m, half the width of a light's screen
THINNEST = np.float32(0.7)  # px, of a strand: less looks like dust
HIDDEN = np.float32(0.002)  # m, a piece of hair with both ends this far behind what is drawn is left out
SKIN_MARGIN, HAIR_MARGIN = (
    0.004,
    0.02,
)  # m, how far behind the nearest surface a point still counts as visible


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
    """Draw strands (N, P, 3) as lines `width` (N, P) pixels wide; thinner than a pixel means fewer pixels, by a fixed hash.

    Segment k of strand n gets the number first + n * (P - 1) + k; `bary` holds the place along it and across it.
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
    """Nearest depth of triangles (F, 3) of vertices (V, 3) on a light's screen; back faces count only if `two_sided` (F,)."""
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
    """Nearest depth of strands (N, P, 3) on a light's screen, each node a little blot that stands for a lock."""
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
    """Mean colour of samples x samples pixels, (side / samples, side / samples, 3), the background where nothing is drawn."""
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


@njit(cache=True, fastmath=True, error_model="numpy")
def flow_to_reference(
    ids: NDArray[np.int32],
    bary: Array,
    triangles: NDArray[np.int32],
    skin_points: Array,
    hair_points: Array,
    reference_ids: NDArray[np.int32],
    reference_z: Array,
    cell: int,
) -> tuple[Array, NDArray[np.uint8]]:
    """Where each cell's surface point lies in the reference picture.

    Args:
        ids, bary: the frame's screen.
        triangles: (F, 3).
        skin_points: screen points of all vertices in the reference, (V, 3).
        hair_points: screen points of all strands in the reference, (N, P, 3).
        reference_ids, reference_z: the reference's screen.
        cell: pixels per side of an output cell.

    Returns:
        Backward flow (2, side / cell, side / cell) in screen pixels: of the sample in the cell that lies nearest to the cell's mean flow.
        Whether that point is visible in the reference, (side / cell, side / cell).
    """
    side = ids.shape[0]
    cells = side // cell
    flow = np.zeros((2, cells, cells), np.float32)
    visible = np.zeros((cells, cells), np.uint8)
    faces, segments = triangles.shape[0], hair_points.shape[1] - 1
    step = max(1, cell // 4)
    here = np.zeros((64, 4), np.float32)
    for cy in range(cells):
        for cx in range(cells):
            count = 0
            mean_x, mean_y = np.float32(0), np.float32(0)
            for y in range(cy * cell + step // 2, (cy + 1) * cell, step):
                for x in range(cx * cell + step // 2, (cx + 1) * cell, step):
                    name = ids[y, x]
                    u, v, seen = np.float32(0), np.float32(0), np.float32(0)
                    if name < 0:
                        seen = 1 if reference_ids[y, x] < 0 else 0
                    else:
                        if name < faces:
                            a, b, c = triangles[name, 0], triangles[name, 1], triangles[name, 2]
                            w1, w2 = bary[y, x, 0], bary[y, x, 1]
                            w0 = 1 - w1 - w2
                            px = w0 * skin_points[a, 0] + w1 * skin_points[b, 0] + w2 * skin_points[c, 0]
                            py = w0 * skin_points[a, 1] + w1 * skin_points[b, 1] + w2 * skin_points[c, 1]
                            pz = w0 * skin_points[a, 2] + w1 * skin_points[b, 2] + w2 * skin_points[c, 2]
                            margin = SKIN_MARGIN
                        else:
                            n, k, t = (name - faces) // segments, (name - faces) % segments, bary[y, x, 0]
                            px = hair_points[n, k, 0] + t * (hair_points[n, k + 1, 0] - hair_points[n, k, 0])
                            py = hair_points[n, k, 1] + t * (hair_points[n, k + 1, 1] - hair_points[n, k, 1])
                            pz = hair_points[n, k, 2] + t * (hair_points[n, k + 1, 2] - hair_points[n, k, 2])
                            margin = HAIR_MARGIN
                        u, v = px - (x + np.float32(0.5)), py - (y + np.float32(0.5))
                        if 0 <= px < side and 0 <= py < side and pz < reference_z[int(py), int(px)] + margin:
                            seen = 1
                    here[count, 0], here[count, 1], here[count, 2] = u, v, seen
                    mean_x += u
                    mean_y += v
                    count += 1
            mean_x /= count
            mean_y /= count
            best, least = 0, np.float32(1e9)
            for i in range(count):
                miss = (here[i, 0] - mean_x) ** 2 + (here[i, 1] - mean_y) ** 2
                if miss < least:
                    best, least = i, miss
            flow[0, cy, cx], flow[1, cy, cx] = here[best, 0], here[best, 1]
            visible[cy, cx] = np.uint8(here[best, 2])
    return flow, visible
