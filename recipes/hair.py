"""Hair of the clip factory: strands on the scalp in many styles, eyebrows, eyelashes, beards.

A strand is a line of P nodes. Scalp strands are grown once per person: some hundred guides follow a comb direction, gravity and
the shape of the head, every other strand copies its nearest guide. Short strands sit on triangles of the face and
follow its motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatar.recipes.materials import Look, beard_zone, smooth_step
from avatar.recipes.people import BODY, HeadMesh, Person
from avatar.recipes.shading import BROW_PART, HAIR_PART

Array = NDArray[np.float32]

GUIDES = 420
HAIRLINE = (  # azimuth in degrees from the front, template height of the hair's border
    (0, 25, 40, 52, 62, 70, 78, 86, 96, 108, 122, 140, 180),
    (-0.796, -0.797, -0.790, -0.775, -0.752, -0.733, -0.712, -0.712, -0.757, -0.715, -0.668, -0.650, -0.640),
)
CLEARANCE = 0.0006  # m, of short hair over the skin
CELL = 0.02  # m, of the torso's relief
CURLS = 7.0  # turns of a wave along a strand of full frequency


@dataclass(frozen=True, kw_only=True)
class Style:
    """A haircut. Lengths in metres.

    Attributes:
        name: for the clip's description.
        top, sides, back: lengths of strands by where they grow.
        lift: how far hair stands off the head, metres.
        comb: main direction in view axes before it is laid on the head.
        parting: x of the parting when hair falls to both sides, None to comb all one way.
        fall: weight of gravity, 0 to 1.
        wave: radius of waves in metres, and their number per strand.
        clump: how much strands gather into locks, 0 to 1.
        fringe: length of hair that falls over the forehead, 0 for none.
        recede: how far the hairline has moved back, metres.
        crown: radius of a bald crown, metres.
        bun: radius of a knot, 0 for none.
    """

    name: str
    top: float
    sides: float
    back: float
    lift: float
    comb: tuple[float, float, float] = (0.0, 0.0, 1.0)
    parting: float | None = None
    fall: float = 0.3
    wave: tuple[float, float] = (0.0, 0.0)
    clump: float = 0.5
    fringe: float = 0.0
    recede: float = 0.0
    crown: float = 0.0
    bun: float = 0.0


STYLES = {
    "bald": Style(name="bald", top=0, sides=0, back=0, lift=0),
    "buzz": Style(name="buzz", top=0.006, sides=0.004, back=0.004, lift=0.004, comb=(0, -0.3, -0.5), clump=0.0, fall=0.0),
    "crew": Style(name="crew", top=0.022, sides=0.008, back=0.008, lift=0.014, comb=(0, -0.8, -0.4), clump=0.3, fall=0.0),
    "swept back": Style(name="swept back", top=0.08, sides=0.05, back=0.05, lift=0.014, comb=(0, -0.1, 1), fall=0.1),
    "side part": Style(name="side part", top=0.08, sides=0.025, back=0.03, lift=0.016, comb=(1, 0, 0.25), parting=0.03, fall=0.15),
    "quiff": Style(name="quiff", top=0.06, sides=0.012, back=0.015, lift=0.035, comb=(0, -1.0, 0.2), fall=0.0),
    "fringe": Style(name="fringe", top=0.07, sides=0.05, back=0.05, lift=0.016, comb=(0.2, 0, -1), fall=0.35, fringe=0.05),
    "tousled": Style(name="tousled", top=0.07, sides=0.04, back=0.05, lift=0.028, comb=(0.4, -0.3, -0.5), wave=(0.006, 0.25)),
    "curly": Style(name="curly", top=0.10, sides=0.09, back=0.10, lift=0.045, comb=(0, -0.3, 0.2), wave=(0.009, 0.6), clump=0.85),
    "afro": Style(name="afro", top=0.075, sides=0.07, back=0.075, lift=0.075, comb=(0, 0, 0), wave=(0.007, 1.2), fall=0.0, clump=0.0),
    "bob": Style(name="bob", top=0.22, sides=0.17, back=0.13, lift=0.022, comb=(1, 0.2, 0.1), parting=0.0, fall=0.75),
    "bob with fringe": Style(
        name="bob with fringe", top=0.22, sides=0.17, back=0.13, lift=0.02, comb=(1, 0.2, 0.1), parting=0.0, fall=0.75, fringe=0.065
    ),
    "long": Style(name="long", top=0.42, sides=0.38, back=0.34, lift=0.02, comb=(1, 0.2, 0.3), parting=0.0, fall=0.8),
    "long wavy": Style(
        name="long wavy", top=0.42, sides=0.38, back=0.34, lift=0.032, comb=(1, 0.1, 0.3), parting=0.02, fall=0.75, wave=(0.010, 0.45)
    ),
    "shoulder curls": Style(
        name="shoulder curls", top=0.26, sides=0.24, back=0.24, lift=0.045, comb=(1, 0, 0.2), parting=0.01, fall=0.6,
        wave=(0.012, 0.9), clump=0.9,
    ),
    "tied back": Style(name="tied back", top=0.16, sides=0.13, back=0.08, lift=0.008, comb=(0, -0.05, 1), fall=0.0, clump=0.3),
    "bun": Style(name="bun", top=0.16, sides=0.13, back=0.10, lift=0.009, comb=(0, -0.3, 1), fall=0.0, clump=0.3, bun=0.04),
    "balding": Style(name="balding", top=0.02, sides=0.025, back=0.025, lift=0.012, comb=(0, 0.2, 1), recede=0.03, crown=0.075),
    "long balding": Style(name="long balding", top=0.06, sides=0.06, back=0.06, lift=0.02, comb=(0, 0.3, 1), recede=0.035, crown=0.07),
}  # fmt: skip
MALE = ("bald", "buzz", "crew", "crew", "swept back", "side part", "side part", "quiff", "fringe", "tousled", "curly", "afro",
        "balding", "balding", "long balding", "bob", "long", "tied back")  # fmt: skip
FEMALE = ("buzz", "crew", "side part", "fringe", "tousled", "curly", "afro", "bob", "bob", "bob with fringe", "bob with fringe", "long",
          "long", "long wavy", "long wavy", "shoulder curls", "tied back", "tied back", "bun", "bun", "swept back")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Strands:
    """All hair of one person, N strands of P nodes.

    Attributes:
        scalp: nodes of the first n strands at rest, (n, P, 3), moved with the head and, lower down, the torso.
        scalp_head: how much each of these nodes follows the head rather than the torso, (n, P).
        triangle, bary, local: of the other strands: triangle, weights of its second and third corner, nodes in its frame.
        lash: of the last strands: root and tip vertices of two neighbours, (m, 4), and the weight of the second, (m,).
        colour: (N, 3); air: ambient light at each node, (N, P); part: value of `parts`, (N,); width: metres, (N, P).
    """

    scalp: Array
    scalp_head: Array
    triangle: NDArray[np.int32]
    bary: Array
    local: Array
    lash: NDArray[np.int32]
    lash_weight: Array
    colour: Array
    air: Array
    part: NDArray[np.uint8]
    width: Array


def draw_style(rng: np.random.Generator, person: Person) -> Style:
    """A random haircut that people of this age and gender wear."""
    name = str(rng.choice(MALE if person.gender < 0.5 else FEMALE))
    if person.age < 0.7 and STYLES[name].crown and rng.random() < 0.8:
        name = "crew"
    style, scale = STYLES[name], float(np.exp(rng.normal(0, 0.2)))
    changes: dict[str, object] = {
        "top": style.top * scale,
        "sides": style.sides * scale * float(rng.uniform(0.8, 1.2)),
        "back": style.back * scale,
        "lift": style.lift * float(rng.uniform(0.7, 1.3)),
        "clump": float(np.clip(style.clump + rng.normal(0, 0.2), 0, 1)),
        "recede": style.recede + float(max(0, rng.normal(0.0, 0.006))),
    }
    if style.parting is not None:
        changes["parting"] = style.parting * float(rng.choice([-1, 1])) + float(rng.normal(0, 0.006))
        changes["comb"] = style.comb
    else:
        changes["comb"] = tuple(
            float(v) for v in np.array(style.comb) + rng.normal(0, (0.3, 0.1, 0.1)) * bool(style.fall)
        )
    if style.wave[0] == 0 and rng.random() < 0.4:
        changes["wave"] = (float(rng.uniform(0, 0.004)), float(rng.uniform(0.1, 0.4)))
    return replace(style, **changes)  # type: ignore[arg-type]


def scalp_density(place: Array, style: Style) -> Array:
    """How densely hair grows on template points (..., 3), (...) in [0, 1]."""
    azimuth = np.degrees(np.abs(np.arctan2(place[..., 0], -0.064 - place[..., 2])))
    border = np.interp(azimuth, *HAIRLINE) - style.recede * smooth_step(75, 40, azimuth)
    ragged = 0.0015 * np.sin(azimuth * 1.1) + 0.001 * np.sin(place[..., 0] * 900)
    density = smooth_step(0.004, -0.006, place[..., 1] - border + ragged)
    outside = (np.hypot(place[..., 0], place[..., 2] + 0.064) > 0.045) | (
        place[..., 1] < -0.78
    )  # not the throat
    density = density * outside
    if style.crown:
        away = np.hypot(place[..., 0] / 1.0, (place[..., 2] + 0.075) / 1.15)
        density = density * smooth_step(
            style.crown * 0.85, style.crown * 1.1, away + 2 * np.maximum(place[..., 1] + 0.80, 0)
        )
    return density.astype(np.float32)


class HeadField:
    """The outer surface of the head as a distance from its centre in every direction, and the torso's front and back."""

    def __init__(self, person: Person, mesh: HeadMesh) -> None:
        head = person.rest[mesh.joint_weights[:, 4] > 0.99]
        self.centre = ((head.min(0) + head.max(0)) / 2).astype(np.float32)
        body = np.unique(mesh.triangles[mesh.part == BODY])
        outer = body[(mesh.mouth[body] < 0.1) & (mesh.joint_weights[body, 4] > 0.6)]
        outer = outer[np.hypot(mesh.template[outer, 0], mesh.template[outer, 2] + 0.064) > 0.03]
        away = person.rest[outer] - self.centre
        radius = np.linalg.norm(away, axis=1)
        tree = cKDTree(away / radius[:, None])
        self.rows, self.columns = 40, 80
        theta = (np.arange(self.rows) + 0.5) / self.rows * np.pi
        phi = np.arange(self.columns) / self.columns * 2 * np.pi - np.pi
        grid = np.stack(
            [
                np.sin(theta)[:, None] * np.sin(phi),
                -np.cos(theta)[:, None] + 0 * phi,
                -np.sin(theta)[:, None] * np.cos(phi),
            ],
            -1,
        )
        _, near = tree.query(grid, k=6)
        self.radius = radius[near].max(-1).astype(np.float32)
        torso = person.rest[body[mesh.joint_weights[body, 4] < 0.6]]
        self.low = torso[:, :2].min(0) - 0.01
        self.shape = (
            int((torso[:, 1].max() - self.low[1]) / CELL) + 2,
            int((torso[:, 0].max() - self.low[0]) / CELL) + 2,
        )
        at = ((torso[:, :2] - self.low) / CELL).astype(int)
        self.front, self.back = np.full(self.shape, 9.0), np.full(self.shape, -9.0)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                where = (
                    np.clip(at[:, 1] + dy, 0, self.shape[0] - 1),
                    np.clip(at[:, 0] + dx, 0, self.shape[1] - 1),
                )
                np.minimum.at(self.front, where, torso[:, 2])
                np.maximum.at(self.back, where, torso[:, 2])

    def clear_torso(self, points: Array, before: Array, margin: Array) -> Array:
        """Move points (..., 3) that are inside the torso out of its front, where `before` (...), or out of its back."""
        row = np.clip(((points[..., 1] - self.low[1]) / CELL).astype(int), 0, self.shape[0] - 1)
        column = ((points[..., 0] - self.low[0]) / CELL).astype(int)
        near = (column >= 0) & (column < self.shape[1]) & (points[..., 1] > self.low[1])
        column = np.clip(column, 0, self.shape[1] - 1)
        front, back = self.front[row, column] - margin, self.back[row, column] + margin
        inside = near & (points[..., 2] > front) & (points[..., 2] < back)
        out = points.copy()
        out[..., 2] = np.where(inside, np.where(before, front, back), points[..., 2])
        return out

    def surface(self, points: Array) -> tuple[Array, Array, Array]:
        """Unit directions from the centre, distances from it, and the surface's distance there, for points (..., 3)."""
        away = points - self.centre
        distance = np.linalg.norm(away, axis=-1) + 1e-9
        unit = away / distance[..., None]
        v = np.arccos(np.clip(-unit[..., 1], -1, 1)) / np.pi * self.rows - 0.5
        u = (np.arctan2(unit[..., 0], -unit[..., 2]) + np.pi) / (2 * np.pi) * self.columns
        v0, u0 = np.clip(np.floor(v).astype(int), 0, self.rows - 2), np.floor(u).astype(int)
        av, au = np.clip(v - v0, 0, 1), u - u0
        left, right = u0 % self.columns, (u0 + 1) % self.columns
        r = self.radius
        ground = (1 - av) * ((1 - au) * r[v0, left] + au * r[v0, right]) + av * (
            (1 - au) * r[v0 + 1, left] + au * r[v0 + 1, right]
        )
        return unit, distance, ground


def _unit(v: Array) -> Array:
    return v / (np.linalg.norm(v, axis=-1, keepdims=True) + 1e-9)


def pick_roots(
    rng: np.random.Generator, mesh: HeadMesh, density: Array, rest: Array, count: int
) -> tuple[NDArray[np.int32], Array]:
    """Random places on the body's triangles, by area times `density` (V,): triangle numbers (count,), weights (count, 2)."""
    corners = mesh.triangles
    area = np.linalg.norm(
        np.cross(rest[corners[:, 1]] - rest[corners[:, 0]], rest[corners[:, 2]] - rest[corners[:, 0]]), axis=1
    )
    chance = area * density[corners].mean(1) * (mesh.part == BODY)
    total = np.cumsum(chance)
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


def grow_scalp(
    rng: np.random.Generator, person: Person, mesh: HeadMesh, style: Style, count: int, nodes: int
) -> tuple[Array, Array]:
    """Strands on the scalp at rest, (count, nodes, 3), and the ambient light at their nodes, (count, nodes)."""
    field = HeadField(person, mesh)
    density = scalp_density(mesh.template, style)
    triangle, bary = pick_roots(rng, mesh, density, person.rest, count)
    roots = on_triangles(person.rest, mesh, triangle, bary)
    canonical = on_triangles(mesh.template, mesh, triangle, bary)
    azimuth = np.degrees(np.abs(np.arctan2(canonical[:, 0], -0.064 - canonical[:, 2])))
    to_side = smooth_step(-0.80, -0.75, canonical[:, 1])
    to_back = smooth_step(80, 125, azimuth)
    length = style.top + to_side * (style.sides - style.top)
    length = length + to_side * to_back * (style.back - style.sides)
    front = smooth_step(0.022, 0.0, np.abs(canonical[:, 1] + 0.797)) * smooth_step(55, 40, azimuth)
    is_fringe = (front > 0.3) & (style.fringe > 0)
    length = np.where(is_fringe, style.fringe * rng.uniform(0.85, 1.1, count), length)
    length = length * rng.uniform(0.78, 1.0, count)

    guide = rng.choice(count, min(GUIDES, count), replace=False)
    _, owner = cKDTree(canonical[guide]).query(canonical)
    side = (
        np.sign(canonical[guide, :1] - (style.parting or 0.0))
        if style.parting is not None
        else np.ones((len(guide), 1))
    )
    comb = np.array(style.comb, np.float32) * np.concatenate([side, np.ones((len(guide), 2))], 1)
    comb = np.where(
        is_fringe[guide, None], np.array([0.0, 0.8, -0.6]) + 0.15 * rng.normal(0, 1, (len(guide), 3)), comb
    )
    comb = comb + rng.normal(0, 0.12 + 0.2 * style.clump, comb.shape)
    fall = np.where(is_fringe[guide, None], 0.8, style.fall)
    step = length[guide, None] / (nodes - 1)
    point, path = roots[guide], [roots[guide]]
    unit, _, _ = field.surface(point)
    heading = _unit((0.6 - 0.4 * style.fall) * unit + comb)
    down = np.array([0.0, 1.0, 0.0])
    layer = style.lift * rng.uniform(0.25, 1.0, (len(guide), 1))
    for k in range(1, nodes):
        unit, distance, _ = field.surface(point)
        along = comb - (comb * unit).sum(1, keepdims=True) * unit
        share = k / (nodes - 1)
        gravity = fall * min(1.0, 0.3 + 2.0 * share)
        hanging = fall * smooth_step(field.centre[1] - 0.05, field.centre[1] + 0.03, point[:, 1])[:, None]
        stand = max(0.0, 1 - 2.2 * share) * np.minimum(1.0, layer / 0.03) * (1 - 0.7 * fall)
        heading = _unit(
            0.75 * heading + (1 - gravity) * (1 - hanging) * along + (gravity + hanging) * down + stand * unit
        )
        point = point + step * heading
        unit, distance, ground = field.surface(point)
        floor = ground + layer[:, 0] * min(1.0, 3.0 * share)
        point = np.where((distance < floor)[:, None], field.centre + unit * floor[:, None], point)
        path.append(point)
    guides = np.stack(path, 1)

    share = np.linspace(0, 1, nodes)[None, :, None]
    offset = (roots - roots[guide][owner])[:, None]
    stretch = (length / length[guide][owner])[:, None, None]
    strands = guides[owner] - guides[owner][:, :1]
    strands = roots[:, None] + strands * stretch + offset * (-0.75 * style.clump * share)
    strands = strands + np.cumsum(rng.normal(0, 1, strands.shape), 1) * (0.0006 + 0.05 * step.mean()) * share
    if style.wave[0] > 0:
        turns = style.wave[1] * CURLS * 2 * np.pi * (length / max(style.top, 1e-3))[:, None]
        phase = (rng.uniform(0, 2 * np.pi, len(guide))[owner] + rng.normal(0, 0.5, count))[:, None]
        angle = turns * share[..., 0] + phase
        size = style.wave[0] * np.minimum(1, 3 * share[..., 0]) * rng.uniform(0.6, 1.3, (count, 1))
        strands = strands + np.stack(
            [np.cos(angle) * size, 0.6 * np.sin(2 * angle) * size, np.sin(angle) * size], -1
        )
    if style.bun:
        strands = np.where(
            (rng.random(count) < 0.25)[:, None, None], knot(rng, field, style.bun, count, nodes), strands
        )
    unit, distance, ground = field.surface(strands)
    deep = np.maximum(ground + 0.001 + 0.004 * share[..., 0] - distance, 0) * (share[..., 0] > 0)
    strands = strands + unit * deep[..., None]
    if style.back > 0.1:
        before = (canonical[:, 2] < -0.05)[:, None] & np.ones(nodes, bool)
        strands = field.clear_torso(strands, before, 0.012 + 0.012 * rng.random((count, 1)))
    over = (distance + deep - ground) / max(style.lift, 0.006)
    air = np.clip(0.28 + 0.55 * over + 0.25 * share[..., 0], 0.2, 1.0)
    near_first = np.argsort(strands.mean(1)[:, 2])  # what lies behind is then skipped early when drawn
    return strands[near_first].astype(np.float32), air[near_first].astype(np.float32)


def knot(rng: np.random.Generator, field: HeadField, radius: float, count: int, nodes: int) -> Array:
    """Strands wound around a ball high on the back of the head, (count, nodes, 3)."""
    direction = _unit(np.array([0.0, -1.0, 0.35]))
    unit = direction[None]
    _, _, ground = field.surface(field.centre + unit)
    middle = field.centre + direction * (ground[0] + 0.6 * radius)
    angle = rng.uniform(0, 2 * np.pi, (count, 1)) + np.linspace(0, 2.2, nodes)[None]
    tilt = rng.uniform(-1, 1, (count, 1)) * 0.95 + np.zeros((1, nodes))
    ring = np.sqrt(1 - tilt**2)
    ball = np.stack([ring * np.cos(angle), tilt, ring * np.sin(angle)], -1)
    return middle + ball * radius * rng.uniform(0.85, 1.05, (count, 1, 1))


@njit(cache=True, fastmath=True, error_model="numpy")
def place_scalp(rest: Array, follow: Array, rotation: Array, offset: Array, torso: Array, out: Array) -> None:
    """Nodes of scalp strands at rest (n, P, 3) in a frame: moved with the head by `follow` (n, P), else with the torso."""
    for i in range(rest.shape[0]):
        for k in range(rest.shape[1]):
            w = follow[i, k]
            x, y, z = rest[i, k, 0], rest[i, k, 1], rest[i, k, 2]
            for c in range(3):
                head = rotation[c, 0] * x + rotation[c, 1] * y + rotation[c, 2] * z + offset[c]
                body = rest[i, k, c] + torso[c]
                out[i, k, c] = body + w * (head - body)


@njit(cache=True, fastmath=True, error_model="numpy")
def place_short(
    points: Array, normals: Array, corners: NDArray[np.int32], bary: Array, local: Array, out: Array
) -> None:
    """Nodes (n, P, 3) of strands that sit on triangles with `corners` (n, 3): `local` (n, P, 3) is (edge, across, normal)."""
    for i in range(corners.shape[0]):
        a, b, c = corners[i, 0], corners[i, 1], corners[i, 2]
        w1, w2 = bary[i, 0], bary[i, 1]
        w0 = 1 - w1 - w2
        n0 = w0 * normals[a, 0] + w1 * normals[b, 0] + w2 * normals[c, 0]
        n1 = w0 * normals[a, 1] + w1 * normals[b, 1] + w2 * normals[c, 1]
        n2 = w0 * normals[a, 2] + w1 * normals[b, 2] + w2 * normals[c, 2]
        s = 1 / np.sqrt(n0 * n0 + n1 * n1 + n2 * n2 + np.float32(1e-12))
        n0, n1, n2 = n0 * s, n1 * s, n2 * s
        e0, e1, e2 = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1], points[b, 2] - points[a, 2]
        s = e0 * n0 + e1 * n1 + e2 * n2
        e0, e1, e2 = e0 - s * n0, e1 - s * n1, e2 - s * n2
        s = 1 / np.sqrt(e0 * e0 + e1 * e1 + e2 * e2 + np.float32(1e-12))
        e0, e1, e2 = e0 * s, e1 * s, e2 * s
        f0, f1, f2 = n1 * e2 - n2 * e1, n2 * e0 - n0 * e2, n0 * e1 - n1 * e0
        r0 = w0 * points[a, 0] + w1 * points[b, 0] + w2 * points[c, 0]
        r1 = w0 * points[a, 1] + w1 * points[b, 1] + w2 * points[c, 1]
        r2 = w0 * points[a, 2] + w1 * points[b, 2] + w2 * points[c, 2]
        for k in range(local.shape[1]):
            u, v, w = local[i, k, 0], local[i, k, 1], local[i, k, 2]
            out[i, k, 0] = r0 + u * e0 + v * f0 + w * n0
            out[i, k, 1] = r1 + u * e1 + v * f1 + w * n1
            out[i, k, 2] = r2 + u * e2 + v * f2 + w * n2


def short_local(
    rest: Array,
    normals: Array,
    corners: NDArray[np.int32],
    bary: Array,
    heading: Array,
    length: Array,
    bend: Array,
    nodes: int,
) -> Array:
    """Nodes of short strands in their triangles' frames.

    Args:
        rest, normals: of the vertices, (V, 3).
        corners, bary: where the strands sit, (n, 3), (n, 2).
        heading: direction in which they leave the skin, view axes, (n, 3).
        length: metres, (n,).
        bend: direction towards which they curve, (n, 3).
        nodes: P.

    Returns:
        (n, P, 3).
    """
    axes = np.empty((len(corners), 4, 3), np.float32)
    basis = np.tile(np.float32([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]), (len(corners), 1, 1))
    place_short(rest, normals, corners, bary, basis, axes)
    axes = axes[:, 1:] - axes[:, :1]
    share = np.linspace(0, 1, nodes)[None, :, None]
    world = length[:, None, None] * (share * _unit(heading)[:, None] + share**2 * bend[:, None])
    local = np.einsum("nkc,nic->nki", world, axes).astype(np.float32)
    local[..., 2] = np.maximum(local[..., 2], 0) + CLEARANCE
    return local


def brow_points(rng: np.random.Generator, count: int) -> tuple[Array, Array, Array]:
    """Places of brow hairs on the template's face (count, 2), their directions (count, 2), and lengths (count,), one brow at x > 0."""
    lift, thick, arch = rng.uniform(-0.001, 0.004), rng.uniform(0.0022, 0.0052), rng.uniform(0.001, 0.006)
    s = rng.random(count) ** 0.85
    inner, outer = rng.uniform(0.010, 0.014), rng.uniform(0.049, 0.055)
    x = inner + (outer - inner) * s
    middle = (
        -0.7475
        - lift
        - arch * np.sin(np.clip(s * 1.25, 0, 1) * np.pi * 0.75)
        + 0.006 * np.maximum(s - 0.7, 0) / 0.3
    )
    half = thick * np.interp(s, (0, 0.1, 0.6, 1.0), (0.55, 1.0, 0.8, 0.18))
    across = rng.uniform(-1, 1, count)
    angle = (
        np.interp(s, (0, 0.25, 0.7, 1), (-1.3, -0.6, -0.1, 0.3))
        + 0.5 * across * smooth_step(0, 0.3, s)
        + rng.normal(0, 0.2, count)
    )
    direction = np.stack([np.cos(angle), np.sin(angle)], 1)
    return np.stack([x, middle + half * across], 1), direction, rng.uniform(0.004, 0.0075, count)


class FaceMap:
    """Finds the triangle under a point of the template's face seen from the front."""

    def __init__(self, mesh: HeadMesh) -> None:
        body = np.flatnonzero(mesh.part == BODY)
        centre = mesh.template[mesh.triangles[body]].mean(1)
        normal = np.cross(
            mesh.template[mesh.triangles[body, 1]] - mesh.template[mesh.triangles[body, 0]],
            mesh.template[mesh.triangles[body, 2]] - mesh.template[mesh.triangles[body, 0]],
        )
        front = (centre[:, 2] < -0.08) & (normal[:, 2] < 0) & (mesh.mouth[mesh.triangles[body]].max(1) < 0.5)
        self.triangle = body[front].astype(np.int32)
        self.corner = mesh.template[mesh.triangles[self.triangle]][..., :2]
        self.tree = cKDTree(self.corner.mean(1))

    def find(self, place: Array) -> tuple[NDArray[np.int32], Array]:
        """Triangle numbers (n,) and weights (n, 2) of places (n, 2)."""
        _, near = self.tree.query(place, k=6)
        a, b, c = (self.corner[near][:, :, i] for i in range(3))
        e, f, d = b - a, c - a, place[:, None] - a
        area = e[..., 0] * f[..., 1] - e[..., 1] * f[..., 0] + 1e-12
        u = (d[..., 0] * f[..., 1] - d[..., 1] * f[..., 0]) / area
        v = (e[..., 0] * d[..., 1] - e[..., 1] * d[..., 0]) / area
        outside = np.maximum(np.maximum(-u, -v), u + v - 1)
        best = outside.argmin(1)
        rows = np.arange(len(place))
        weights = np.clip(np.stack([u[rows, best], v[rows, best]], 1), 0, 1)
        weights /= np.maximum(weights.sum(1, keepdims=True), 1)
        return self.triangle[near[rows, best]], weights.astype(np.float32)


def lash_lines(mesh: HeadMesh) -> NDArray[np.int32]:
    """Root and tip vertex of every line of the eyelash strips, ordered along each lid: runs of (root, tip), ended by (-1, -1)."""
    lines: list[tuple[int, int]] = []
    for eye in mesh.eyes:
        centre = mesh.template[eye].mean(0)
        quads = mesh.lashes[(np.sign(mesh.template[mesh.lashes[:, 0], 0]) == np.sign(centre[0]))]
        away = np.linalg.norm(mesh.template - centre, axis=1)
        for upper in (True, False):
            seen = {}
            for quad in quads:
                for a, b in zip(quad, np.roll(quad, -1), strict=True):
                    root, tip = (a, b) if away[a] < away[b] else (b, a)
                    rise = mesh.template[tip, 1] - mesh.template[root, 1]
                    grown = away[tip] - away[root]
                    if grown > 0.0015 and grown > seen.get(int(root), (0.0, 0))[0] and (rise < 0) == upper:
                        seen[int(root)] = (float(grown), int(tip))
            order = sorted(seen, key=lambda root: mesh.template[root, 0])
            lines += [(root, seen[root][1]) for root in order] + [(-1, -1)]
    return np.array(lines, np.int32)


def grow_hair(
    rng: np.random.Generator,
    person: Person,
    mesh: HeadMesh,
    normals: Array,
    look: Look,
    style: Style,
    face: FaceMap,
    lines: NDArray[np.int32],
) -> Strands:
    """All hair of a person. `normals` (V, 3) at rest; `face` and `lines` belong to the mesh."""
    short = max(style.top, style.sides) < 0.03
    nodes = 5 if short else (14 if style.wave[1] > 0.3 else 9)
    count = 0 if style.top == 0 else (9000 if short else (8000 if style.top < 0.2 else 7000))
    scalp, air = np.zeros((0, nodes, 3), np.float32), np.zeros((0, nodes), np.float32)
    if count:
        scalp, air = grow_scalp(rng, person, mesh, style, count, nodes)
    jaw = person.joints[3, 1] + 0.015
    follow = smooth_step(jaw + 0.16, jaw, scalp[..., 1]).astype(np.float32)

    bary, corners, heading, length, bend, colours, widths, parts = [], [], [], [], [], [], [], []

    def add(
        triangle: NDArray,
        weights: Array,
        direction: Array,
        size: Array,
        curve: Array,
        colour: Array,
        width: float,
        part: int,
    ) -> None:
        (
            corners.append(triangle),
            bary.append(weights),
            heading.append(direction),
            length.append(size),
            bend.append(curve),
        )
        strand_colour = colour * np.exp(rng.normal(0, 0.25, (len(triangle), 1)))
        (
            colours.append(strand_colour),
            widths.append(np.full(len(triangle), width)),
            parts.append(np.full(len(triangle), part)),
        )

    brow_count = int(rng.uniform(160, 420))
    for side in (1, -1):
        place, direction, size = brow_points(rng, brow_count)
        triangle, weights = face.find(place * np.array([side, 1]))
        normal = on_triangles(normals, mesh, triangle, weights)
        flat = np.stack([direction[:, 0] * side, direction[:, 1], np.zeros(brow_count)], 1)
        flat = flat - (flat * normal).sum(1, keepdims=True) * normal
        add(
            triangle,
            weights,
            _unit(flat) + 0.25 * normal,
            size,
            -0.25 * normal,
            look.brow,
            rng.uniform(0.0005, 0.001),
            BROW_PART,
        )
    beard, moustache = beard_zone(mesh.template, mesh.lips)
    if look.beard > 0.35 and rng.random() < 0.75:
        kind = rng.choice(["full", "goatee", "moustache", "stubble"], p=[0.45, 0.2, 0.15, 0.2])
        middle = smooth_step(0.045, 0.03, np.abs(mesh.template[:, 0]))
        zone = {
            "full": np.maximum(beard, moustache),
            "goatee": np.maximum(beard * middle, moustache),
            "moustache": moustache,
        }
        density = zone.get(str(kind), np.maximum(beard, moustache)) + 1e-9
        size = {"stubble": 0.0025, "moustache": 0.009}.get(str(kind), float(rng.uniform(0.006, 0.03)))
        hairs = {"full": 4000, "stubble": 3000}.get(str(kind), 1600)
        triangle, weights = pick_roots(rng, mesh, density, person.rest, hairs)
        normal = on_triangles(normals, mesh, triangle, weights)
        place = on_triangles(mesh.template, mesh, triangle, weights)
        lip = smooth_step(-0.668, -0.673, place[:, 1]) * smooth_step(0.04, 0.03, np.abs(place[:, 0]))
        sizes = np.minimum(size, 0.007 + (1 - lip) * 1) * rng.uniform(0.6, 1.1, hairs)
        flat = np.stack(
            [np.sign(place[:, 0]) * (0.15 + 0.9 * lip), np.ones(hairs), -0.1 * np.ones(hairs)], 1
        ) + rng.normal(0, 0.35, (hairs, 3))
        flat = flat - (flat * normal).sum(1, keepdims=True) * normal
        down = np.tile(np.float32([0, 0.35, 0]), (hairs, 1))
        colour = 0.5 * (look.brow + look.hair)
        add(
            triangle,
            weights,
            _unit(flat) + rng.uniform(0.3, 0.8) * normal,
            sizes,
            down,
            colour,
            0.0007,
            HAIR_PART,
        )
    corner = np.concatenate(corners)
    weight = np.concatenate(bary).astype(np.float32)
    local = short_local(
        person.rest,
        normals,
        mesh.triangles[corner],
        weight,
        np.concatenate(heading),
        np.concatenate(length),
        np.concatenate(bend),
        nodes,
    )

    per_gap = int(rng.integers(2, 6))
    pairs = [(i, i + 1) for i in range(len(lines) - 1) if lines[i, 0] >= 0 and lines[i + 1, 0] >= 0]
    lash = np.repeat(np.array([[*lines[i], *lines[j]] for i, j in pairs], np.int32), per_gap, 0)
    lash_weight = rng.random(len(lash)).astype(np.float32)
    colour = np.minimum(look.brow, 0.05) * (1 - 0.7 * min(look.makeup, 1.0))

    locks = (
        look.hair
        * np.exp(rng.normal(0, 0.28, (len(scalp), 1)))
        * np.exp(rng.normal(0, 0.05, (len(scalp), 3)))
    )
    taper = np.interp(np.linspace(0, 1, nodes), (0, 0.6, 1), (1, 0.9, 0.3))
    thick = rng.uniform(0.0009, 0.0014) if not short else 0.0009
    width = np.concatenate(
        [np.full(len(scalp), thick), *widths, np.full(len(lash), rng.uniform(0.0004, 0.0009))]
    )
    short_air = np.interp(np.linspace(0, 1, nodes), (0, 1), (0.55, 1.0))
    return Strands(
        scalp=scalp,
        scalp_head=follow,
        triangle=corner,
        bary=weight,
        local=local,
        lash=lash,
        lash_weight=lash_weight,
        colour=np.concatenate([locks, *colours, np.tile(colour, (len(lash), 1))]).astype(np.float32),
        air=np.concatenate([air, np.tile(short_air, (len(corner) + len(lash), 1))]).astype(np.float32),
        part=np.concatenate([np.full(len(scalp), HAIR_PART), *parts, np.full(len(lash), BROW_PART)]).astype(
            np.uint8
        ),
        width=(width[:, None] * taper).astype(np.float32),
    )
