"""Hair on the scalp: some hundred guides grow by comb direction, gravity and the shape of the head, every
other strand
copies its nearest guide. Strands have P nodes; all is at rest, view axes, metres."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatar.recipes.people import BODY, HeadMesh, Person
from avatar.recipes.skin import AXIS, smooth_step
from avatar.recipes.styles import Style, azimuth_degrees, scalp_density

Array = NDArray[np.float32]

GUIDES = 420
CURLS = 7.0  # turns along a strand whose wave count is 1
CELL = 0.02  # m, of the torso's relief
UNDER_HAT = 0.004  # m, room for hair under a hat


def unit(v: Array) -> Array:
    """Vectors (..., 3) of length 1."""
    return v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-9)


class HeadField:
    """The outer surface of the head as a distance from its centre in every direction, and the torso's front
    and back.
    """

    rows, columns = 40, 80  # of the map of distances: from the crown down, from behind around

    def __init__(self, person: Person, mesh: HeadMesh) -> None:
        head = person.rest[mesh.joint_weights[:, 4] > 0.99]
        self.centre = ((head.min(0) + head.max(0)) / 2).astype(np.float32)
        body = np.unique(mesh.triangles[mesh.part == BODY])
        outer = body[(mesh.mouth[body] < 0.1) & (mesh.joint_weights[body, 4] > 0.6)]
        outer = outer[
            np.hypot(mesh.template[outer, 0], mesh.template[outer, 2] - AXIS) > 0.03
        ]  # not the throat
        away = person.rest[outer] - self.centre
        radius = np.linalg.norm(away, axis=1)
        theta = (np.arange(self.rows) + 0.5) / self.rows * np.pi
        phi = np.arange(self.columns) / self.columns * 2 * np.pi - np.pi
        _, near = cKDTree(away / radius[:, None]).query(direction(theta[:, None], phi[None]), k=6)
        self.radius = radius[near].max(-1).astype(np.float32)

        torso = person.rest[body[mesh.joint_weights[body, 4] < 0.6]]
        self.low = torso[:, :2].min(0) - 0.01
        shape = ((torso[:, :2].max(0) - self.low) / CELL).astype(int)[::-1] + 2
        self.front, self.back = np.full(shape, 9.0), np.full(shape, -9.0)
        at = ((torso[:, :2] - self.low) / CELL).astype(int)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                where = (np.clip(at[:, 1] + dy, 0, shape[0] - 1), np.clip(at[:, 0] + dx, 0, shape[1] - 1))
                np.minimum.at(self.front, where, torso[:, 2])
                np.maximum.at(self.back, where, torso[:, 2])

    def surface(self, points: Array) -> tuple[Array, Array, Array]:
        """Unit directions from the centre, distances from it, and the surface's distance there, for points
        (..., 3).
        """
        away = points - self.centre
        distance = np.linalg.norm(away, axis=-1) + 1e-9
        heading = away / distance[..., None]
        v = np.arccos(np.clip(-heading[..., 1], -1, 1)) / np.pi * self.rows - 0.5
        u = (np.arctan2(heading[..., 0], -heading[..., 2]) + np.pi) / (2 * np.pi) * self.columns
        v0, u0 = np.clip(np.floor(v).astype(int), 0, self.rows - 2), np.floor(u).astype(int)
        av, au = np.clip(v - v0, 0, 1), u - u0
        left, right = u0 % self.columns, (u0 + 1) % self.columns
        upper = (1 - au) * self.radius[v0, left] + au * self.radius[v0, right]
        lower = (1 - au) * self.radius[v0 + 1, left] + au * self.radius[v0 + 1, right]
        return heading, distance, (1 - av) * upper + av * lower

    def clear_torso(self, points: Array, before: NDArray[np.bool_], margin: Array) -> Array:
        """Move points (..., 3) that are inside the torso out of its front, where `before` (...), or out of
        its back.
        """
        rows, columns = self.front.shape
        row = np.clip(((points[..., 1] - self.low[1]) / CELL).astype(int), 0, rows - 1)
        column = ((points[..., 0] - self.low[0]) / CELL).astype(int)
        near = (column >= 0) & (column < columns) & (points[..., 1] > self.low[1])
        column = np.clip(column, 0, columns - 1)
        front, back = self.front[row, column] - margin, self.back[row, column] + margin
        inside = near & (points[..., 2] > front) & (points[..., 2] < back)
        out = points.copy()
        out[..., 2] = np.where(inside, np.where(before, front, back), points[..., 2])
        return out


def direction(theta: Array, phi: Array) -> Array:
    """Unit vectors (..., 3) at angle `theta` from straight up and `phi` from the front towards the picture's
    right.
    """
    ring = np.sin(theta)
    return np.stack(np.broadcast_arrays(ring * np.sin(phi), -np.cos(theta), -ring * np.cos(phi)), -1)


def pick_roots(
    rng: np.random.Generator, mesh: HeadMesh, density: Array, rest: Array, count: int
) -> tuple[NDArray[np.int32], Array]:
    """Random places on the body, by area times `density` (V,): triangles (count,), weights (count, 2)."""
    a, b, c = (rest[mesh.triangles[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    total = np.cumsum(area * density[mesh.triangles].mean(1) * (mesh.part == BODY))
    triangle = np.searchsorted(total, rng.random(count) * total[-1]).astype(np.int32)
    u, v = rng.random((2, count))
    over = u + v > 1
    u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
    return triangle, np.stack([u, v], 1).astype(np.float32)


def on_triangles(values: Array, mesh: HeadMesh, triangle: NDArray[np.int32], bary: Array) -> Array:
    """Interpolate vertex values (V, n) at places on triangles, (count, n)."""
    a, b, c = mesh.triangles[triangle].T
    u, v = bary[:, :1], bary[:, 1:]
    return values[a] * (1 - u - v) + values[b] * u + values[c] * v


def grow_guides(
    rng: np.random.Generator,
    field: HeadField,
    style: Style,
    roots: Array,
    comb: Array,
    fall: Array,
    length: Array,
    nodes: int,
) -> Array:
    """Guides (n, nodes, 3) from roots (n, 3) along `comb` (n, 3), pulled down by `fall` (n, 1), of `length`
    (n,).
    """
    step = length[:, None] / (nodes - 1)
    point, path = roots, [roots]
    away, _, _ = field.surface(point)
    heading = unit((0.6 - 0.4 * style.fall) * away + comb)
    down = np.array([0.0, 1.0, 0.0])
    layer = style.lift * rng.uniform(0.25, 1.0, (len(roots), 1))
    knot = knot_place(field, style) if style.bun else None
    loose = rng.normal(0, 0.3, comb.shape)
    for k in range(1, nodes):
        share = k / (nodes - 1)
        away, _, _ = field.surface(point)
        if knot is not None:
            to_knot = knot - point
            comb = unit(to_knot) + 0.3 * loose
            step = np.minimum(step, 0.8 * np.linalg.norm(to_knot, axis=1, keepdims=True))
        along = comb - (comb * away).sum(1, keepdims=True) * away
        gravity = fall * min(1.0, 0.3 + 2.0 * share)
        hanging = fall * smooth_step(field.centre[1] - 0.05, field.centre[1] + 0.03, point[:, 1])[:, None]
        stand = max(0.0, 1 - 2.2 * share) * np.minimum(1.0, layer / 0.03) * (1 - 0.7 * fall)
        wish = (1 - gravity) * (1 - hanging) * along + (gravity + hanging) * down + stand * away
        heading = unit(0.75 * heading + wish)
        point = point + step * heading
        away, distance, ground = field.surface(point)
        floor = ground + layer[:, 0] * min(1.0, 3.0 * share)
        point = np.where((distance < floor)[:, None], field.centre + away * floor[:, None], point)
        path.append(point)
    return np.stack(path, 1)


def grow_scalp(
    rng: np.random.Generator,
    person: Person,
    mesh: HeadMesh,
    field: HeadField,
    style: Style,
    hat: Array | None,
    count: int,
    nodes: int,
) -> tuple[Array, Array]:
    """Strands on the scalp (count, nodes, 3), nearest to the camera first, and the ambient light at their
    nodes (count, nodes).

    `hat`: angle from straight up that a hat covers, by `phi` of `direction` in 64 steps from behind; None
    without a hat.
    """
    triangle, bary = pick_roots(rng, mesh, scalp_density(mesh.template, style), person.rest, count)
    roots = on_triangles(person.rest, mesh, triangle, bary)
    template = on_triangles(mesh.template, mesh, triangle, bary)
    azimuth = azimuth_degrees(template)
    to_side = smooth_step(-0.80, -0.75, template[:, 1])
    length = style.top + to_side * (style.sides - style.top)
    length = length + to_side * smooth_step(80, 125, azimuth) * (style.back - style.sides)
    front = smooth_step(0.022, 0.0, np.abs(template[:, 1] + 0.797)) * smooth_step(55, 40, azimuth)
    is_fringe = (front > 0.3) & (style.fringe > 0)
    length = np.where(is_fringe, style.fringe * rng.uniform(0.85, 1.1, count), length)
    length = length * rng.uniform(0.78, 1.0, count)

    guide = rng.choice(count, min(GUIDES, count), replace=False)
    _, owner = cKDTree(template[guide]).query(template)
    comb = np.tile(style.comb, (len(guide), 1))
    if style.parting is not None:
        comb[:, 0] *= np.sign(template[guide, 0] - style.parting)
    combed_down = np.array([0.0, 0.8, -0.6]) + 0.15 * rng.normal(0, 1, comb.shape)
    comb = np.where(is_fringe[guide, None], combed_down, comb)
    comb = comb + rng.normal(0, 0.12 + 0.2 * style.clump, comb.shape)
    fall = np.where(is_fringe[guide, None], 0.8, style.fall)
    guides = grow_guides(rng, field, style, roots[guide], comb, fall, length[guide], nodes)

    share = np.linspace(0, 1, nodes)[None, :, None]
    stretch = (length / length[guide][owner])[:, None, None]
    gather = (roots - roots[guide][owner])[:, None] * (-0.75 * style.clump * share)
    strands = roots[:, None] + (guides - guides[:, :1])[owner] * stretch + gather
    spread = 0.0006 + 0.05 * length.mean() / nodes
    strands = strands + np.cumsum(rng.normal(0, 1, strands.shape), 1) * spread * share
    if style.wave[0] > 0:
        turns = style.wave[1] * CURLS * 2 * np.pi * (length / style.top)[:, None]
        phase = (rng.uniform(0, 2 * np.pi, len(guide))[owner] + rng.normal(0, 0.5, count))[:, None]
        angle = turns * share[..., 0] + phase
        size = style.wave[0] * np.minimum(1, 3 * share[..., 0]) * rng.uniform(0.6, 1.3, (count, 1))
        curl = np.stack([np.cos(angle), 0.6 * np.sin(2 * angle), np.sin(angle)], -1)
        strands = strands + curl * size[..., None]
    if style.bun:
        in_knot = (rng.random(count) < 0.25)[:, None, None]
        strands = np.where(in_knot, grow_knot(rng, field, style, count, nodes), strands)
    away, distance, ground = field.surface(strands)
    floor = ground + (0.001 + 0.004 * share[..., 0]) * (share[..., 0] > 0)
    strands = strands + away * np.maximum(floor - distance, 0)[..., None]
    if style.back > 0.1:
        before = np.repeat(template[:, 2:] < -0.05, nodes, 1)
        strands = field.clear_torso(strands, before, 0.012 + 0.012 * rng.random((count, 1)))
    if hat is not None:
        away, distance, ground = field.surface(strands)
        phi = np.arctan2(away[..., 0], -away[..., 2])
        covered = np.arccos(np.clip(-away[..., 1], -1, 1)) < np.interp(
            phi, np.linspace(-np.pi, np.pi, 64), hat
        )
        pressed = field.centre + away * np.minimum(distance, ground + UNDER_HAT)[..., None]
        strands = np.where(covered[..., None], pressed, strands)
    over = (np.maximum(distance, floor) - ground) / max(style.lift, 0.006)
    air = np.clip(0.28 + 0.55 * over + 0.25 * share[..., 0], 0.2, 1.0)
    near_first = np.argsort(strands.mean(1)[:, 2])  # what lies behind is then skipped early when drawn
    return strands[near_first].astype(np.float32), air[near_first].astype(np.float32)


def knot_place(field: HeadField, style: Style) -> Array:
    """Middle of the ball into which hair is tied, (3,)."""
    aim = unit(np.array([0.0, *style.comb[1:]]))
    _, _, ground = field.surface((field.centre + aim)[None])
    return field.centre + aim * (ground[0] + 0.6 * style.bun)


def grow_knot(rng: np.random.Generator, field: HeadField, style: Style, count: int, nodes: int) -> Array:
    """Strands wound around the ball into which hair is tied, (count, nodes, 3)."""
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.linspace(0, 2.2, nodes)[None]
    tilt = np.repeat(rng.uniform(-0.95, 0.95, (count, 1)), nodes, 1)
    ring = np.sqrt(1 - tilt**2)
    ball = np.stack([ring * np.cos(angle), tilt, ring * np.sin(angle)], -1)
    return knot_place(field, style) + ball * style.bun * rng.uniform(0.85, 1.05, (count, 1, 1))


@njit(cache=True, fastmath=True, error_model="numpy")
def place_scalp(rest: Array, follow: Array, rotation: Array, offset: Array, torso: Array, out: Array) -> None:
    """Nodes (n, P, 3) in a frame: moved with the head by `follow` (n, P), else shifted with the torso."""
    for i in range(rest.shape[0]):
        for k in range(rest.shape[1]):
            w = follow[i, k]
            x, y, z = rest[i, k, 0], rest[i, k, 1], rest[i, k, 2]
            for c in range(3):
                head = rotation[c, 0] * x + rotation[c, 1] * y + rotation[c, 2] * z + offset[c]
                body = rest[i, k, c] + torso[c]
                out[i, k, c] = body + w * (head - body)
