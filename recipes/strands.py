"""All hair of one person: the scalp's, and eyebrows, beard and lashes that sit on the face and follow its
motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatar.recipes.hair import HeadField, grow_scalp, on_triangles, pick_roots, unit
from avatar.recipes.looks import Look
from avatar.recipes.people import BODY, HeadMesh, Person
from avatar.recipes.skin import BrowShape, beard_zone, smooth_step
from avatar.recipes.styles import Style
from avatar.recipes.surfaces import BROW_PART, HAIR_PART

Array = NDArray[np.float32]

CLEARANCE = 0.0006  # m, of short hair over the skin
BEARDS = {  # share, number of hairs, shortest and longest, m
    "full beard": (0.45, 4000, 0.006, 0.030),
    "goatee": (0.20, 1600, 0.005, 0.020),
    "moustache": (0.15, 1600, 0.007, 0.010),
    "stubble": (0.20, 3000, 0.0015, 0.004),
}


@dataclass(frozen=True, kw_only=True)
class Strands:
    """N strands of P nodes: first the scalp's, then those on triangles, then the lashes.

    Attributes:
        scalp: nodes at rest, (n, P, 3), moved with the head and, lower down, the torso.
        scalp_head: how much each of these nodes follows the head rather than the torso, (n, P).
        triangle, bary, local: triangle, weights of its second and third corner, nodes in its frame: (m,),
            (m, 2), (m, P, 3).
        lash: root and tip vertices of two neighbouring lines, (l, 4), and the weight of the second, (l,).
        colour: linear RGB, (N, 3); air: ambient light at each node, (N, P); part: value of `parts`, (N,);
            width: m, (N, P).
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


@njit(cache=True, fastmath=True, error_model="numpy")
def place_short(
    points: Array, normals: Array, corners: NDArray[np.int32], bary: Array, local: Array, out: Array
) -> None:
    """Nodes (n, P, 3) of strands on triangles with `corners` (n, 3): `local` (n, P, 3) is along an edge,
    across, outward.
    """
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
        for k in range(local.shape[1]):
            u, v, w = local[i, k, 0], local[i, k, 1], local[i, k, 2]
            out[i, k, 0] = (
                w0 * points[a, 0] + w1 * points[b, 0] + w2 * points[c, 0] + u * e0 + v * f0 + w * n0
            )
            out[i, k, 1] = (
                w0 * points[a, 1] + w1 * points[b, 1] + w2 * points[c, 1] + u * e1 + v * f1 + w * n1
            )
            out[i, k, 2] = (
                w0 * points[a, 2] + w1 * points[b, 2] + w2 * points[c, 2] + u * e2 + v * f2 + w * n2
            )


class FaceMap:
    """Finds the triangle under a point of the template's face seen from the front."""

    def __init__(self, mesh: HeadMesh) -> None:
        body = np.flatnonzero((mesh.part == BODY) & (mesh.mouth[mesh.triangles].max(1) < 0.5))
        corner = mesh.template[mesh.triangles[body]]
        outward = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        front = (corner[..., 2].mean(1) < -0.08) & (outward[:, 2] < 0)
        self.triangle = body[front].astype(np.int32)
        self.corner = corner[front][..., :2]
        self.tree = cKDTree(self.corner.mean(1))

    def find(self, place: Array) -> tuple[NDArray[np.int32], Array]:
        """Triangle numbers (n,) and weights (n, 2) of places (n, 2)."""
        _, near = self.tree.query(place, k=6)
        a, b, c = (self.corner[near][:, :, i] for i in range(3))
        e, f, d = b - a, c - a, place[:, None] - a
        area = e[..., 0] * f[..., 1] - e[..., 1] * f[..., 0] + 1e-12
        u = (d[..., 0] * f[..., 1] - d[..., 1] * f[..., 0]) / area
        v = (e[..., 0] * d[..., 1] - e[..., 1] * d[..., 0]) / area
        best = np.maximum(np.maximum(-u, -v), u + v - 1).argmin(1)
        rows = np.arange(len(place))
        weights = np.clip(np.stack([u[rows, best], v[rows, best]], 1), 0, 1)
        weights /= np.maximum(weights.sum(1, keepdims=True), 1)
        return self.triangle[near[rows, best]], weights.astype(np.float32)


def lash_lines(mesh: HeadMesh) -> NDArray[np.int32]:
    """Root and tip vertex of every line of the eyelash strips along each lid, (n, 2); (-1, -1) ends a lid."""
    lines: list[tuple[int, int]] = []
    for eye in mesh.eyes:
        centre = mesh.template[eye].mean(0)
        quads = mesh.lashes[np.sign(mesh.template[mesh.lashes[:, 0], 0]) == np.sign(centre[0])]
        away = np.linalg.norm(mesh.template - centre, axis=1)
        for upper in (True, False):
            longest: dict[int, tuple[float, int]] = {}
            for quad in quads:
                for a, b in zip(quad, np.roll(quad, -1), strict=True):
                    root, tip = (int(a), int(b)) if away[a] < away[b] else (int(b), int(a))
                    grown = float(away[tip] - away[root])
                    rises = mesh.template[tip, 1] < mesh.template[root, 1]
                    if rises == upper and grown > longest.get(root, (0.0015, 0))[0]:
                        longest[root] = (grown, tip)
            order = sorted(longest, key=lambda root: mesh.template[root, 0])
            lines += [(root, longest[root][1]) for root in order] + [(-1, -1)]
    return np.array(lines, np.int32)


@dataclass(frozen=True, kw_only=True)
class Tuft:
    """Short hairs before they are bent into shape; n hairs.

    Attributes:
        triangle, bary: where they sit, (n,), (n, 2).
        heading: direction in which they leave, view axes, (n, 3), and `bend` towards which they curve,
            (n, 3).
        length: m, (n,).
        colour: linear RGB, (3,).
        width: m.
        part: value of `parts`.
    """

    triangle: NDArray[np.int32]
    bary: Array
    heading: Array
    bend: Array
    length: Array
    colour: Array
    width: float
    part: int


def draw_brows(
    rng: np.random.Generator, mesh: HeadMesh, face: FaceMap, normals: Array, look: Look, shape: BrowShape
) -> list[Tuft]:
    """Both eyebrows, alike but for single hairs."""
    count, width = int(rng.uniform(160, 420)), float(rng.uniform(0.0004, 0.0007))
    tufts = []
    for side in (1, -1):
        s = rng.random(count) ** 0.85
        across = rng.uniform(-1, 1, count)
        x = shape.inner + (shape.outer - shape.inner) * s
        middle, half = shape.at(x)
        angle = np.interp(s, (0, 0.25, 0.7, 1), (-1.3, -0.6, -0.1, 0.3)) + 0.5 * across * smooth_step(
            0, 0.3, s
        )
        angle = angle + rng.normal(0, 0.2, count)
        triangle, bary = face.find(np.stack([side * x, middle + half * across], 1))
        normal = on_triangles(normals, mesh, triangle, bary)
        flat = np.stack([side * np.cos(angle), np.sin(angle), np.zeros(count)], 1)
        flat = unit(flat - (flat * normal).sum(1, keepdims=True) * normal)
        tufts.append(
            Tuft(
                triangle=triangle,
                bary=bary,
                heading=flat + 0.25 * normal,
                bend=-0.25 * normal,
                length=rng.uniform(0.004, 0.0075, count).astype(np.float32),
                colour=look.brow,
                width=width,
                part=BROW_PART,
            )
        )
    return tufts


def draw_beard(
    rng: np.random.Generator, person: Person, mesh: HeadMesh, normals: Array, look: Look
) -> tuple[list[Tuft], str]:
    """A beard for those who wear one, and its description."""
    if look.beard < 0.35 or rng.random() < 0.25:
        return [], "shaved" if look.beard else "none"
    name = str(rng.choice(list(BEARDS), p=[share for share, *_ in BEARDS.values()]))
    _, count, shortest, longest = BEARDS[name]
    beard, moustache = (zone * (1 - np.clip(mesh.lips, 0, 1)) for zone in beard_zone(mesh.template))
    middle = smooth_step(0.045, 0.03, np.abs(mesh.template[:, 0]))
    zones = {"moustache": moustache, "goatee": np.maximum(beard * middle, moustache)}
    density = zones.get(name, np.maximum(beard, moustache)) + 1e-9
    triangle, bary = pick_roots(rng, mesh, density, person.rest, count)
    normal = on_triangles(normals, mesh, triangle, bary)
    place = on_triangles(mesh.template, mesh, triangle, bary)
    over_lip = smooth_step(-0.668, -0.673, place[:, 1]) * smooth_step(0.04, 0.03, np.abs(place[:, 0]))
    length = np.minimum(rng.uniform(shortest, longest), 0.006 + (1 - over_lip)) * rng.uniform(0.6, 1.1, count)
    flat = np.stack([np.sign(place[:, 0]) * (0.15 + 0.9 * over_lip), np.ones(count), np.full(count, -0.1)], 1)
    flat = flat + rng.normal(0, 0.35, (count, 3))
    flat = unit(flat - (flat * normal).sum(1, keepdims=True) * normal)
    tuft = Tuft(
        triangle=triangle,
        bary=bary,
        heading=flat + rng.uniform(0.3, 0.8) * normal,
        bend=np.tile([0, 0.35, 0], (count, 1)),
        length=length,
        colour=0.5 * (look.brow + look.hair),
        width=0.0007,
        part=HAIR_PART,
    )
    return [tuft], name


def shape_tuft(tuft: Tuft, mesh: HeadMesh, rest: Array, normals: Array, nodes: int) -> Array:
    """Nodes of short hairs in the frames of their triangles, (n, nodes, 3)."""
    count = len(tuft.triangle)
    axes = np.empty((count, 4, 3), np.float32)
    basis = np.tile(np.concatenate([np.zeros((1, 3)), np.eye(3)]).astype(np.float32), (count, 1, 1))
    place_short(rest, normals, mesh.triangles[tuft.triangle], tuft.bary, basis, axes)
    share = np.linspace(0, 1, nodes)[None, :, None]
    curve = share * unit(tuft.heading)[:, None] + share**2 * tuft.bend[:, None]
    local = np.einsum("nkc,nic->nki", tuft.length[:, None, None] * curve, axes[:, 1:] - axes[:, :1])
    local[..., 2] = np.maximum(local[..., 2], 0) + CLEARANCE
    return local.astype(np.float32)


def grow_hair(
    rng: np.random.Generator,
    person: Person,
    mesh: HeadMesh,
    field: HeadField,
    normals: Array,
    look: Look,
    brows: BrowShape,
    style: Style,
    hat: Array | None,
    face: FaceMap,
    lashes: NDArray[np.int32],
) -> tuple[Strands, str]:
    """All hair of a person, and what the beard is.

    Args:
        rng: source of chance.
        person, mesh, field, look, brows, style: whose hair.
        normals: of the vertices at rest, (V, 3).
        hat: what a hat covers, see `grow_scalp`.
        face, lashes: of the mesh, see `FaceMap` and `lash_lines`.
    """
    short = max(style.top, style.sides) < 0.03
    nodes = 5 if short and style.wave[1] < 0.3 else (14 if style.wave[1] > 0.3 else 9)
    count = 0 if style.top == 0 else (9000 if short else (8000 if style.top < 0.2 else 7000))
    scalp, air = np.zeros((0, nodes, 3), np.float32), np.zeros((0, nodes), np.float32)
    if count:
        scalp, air = grow_scalp(rng, person, mesh, field, style, hat, count, nodes)
    jaw = person.joints[3, 1] + 0.015

    beard, beard_name = draw_beard(rng, person, mesh, normals, look)
    tufts = draw_brows(rng, mesh, face, normals, look, brows) + beard
    pairs = [(i, i + 1) for i in range(len(lashes) - 1) if lashes[i, 0] >= 0 and lashes[i + 1, 0] >= 0]
    lash = np.array([[*lashes[i], *lashes[j]] for i, j in pairs], np.int32)
    lash = np.repeat(lash, int(rng.integers(2, 6)), 0)
    lash_colour = np.minimum(look.brow, 0.05) * (1 - 0.7 * min(look.makeup, 1.0))

    locks = (
        look.hair
        * np.exp(rng.normal(0, 0.28, (len(scalp), 1)))
        * np.exp(rng.normal(0, 0.05, (len(scalp), 3)))
    )
    hairs = [tuft.colour * np.exp(rng.normal(0, 0.25, (len(tuft.triangle), 1))) for tuft in tufts]
    width = np.concatenate(
        [
            np.full(len(scalp), 0.0009 if short else rng.uniform(0.0009, 0.0014)),
            *(np.full(len(tuft.triangle), tuft.width) for tuft in tufts),
            np.full(len(lash), rng.uniform(0.0004, 0.0009)),
        ]
    )
    share = np.linspace(0, 1, nodes)
    rest = sum(len(tuft.triangle) for tuft in tufts) + len(lash)
    parts = [np.full(len(tuft.triangle), tuft.part) for tuft in tufts]
    strands = Strands(
        scalp=scalp,
        scalp_head=smooth_step(jaw + 0.16, jaw, scalp[..., 1]).astype(np.float32),
        triangle=np.concatenate([tuft.triangle for tuft in tufts]),
        bary=np.concatenate([tuft.bary for tuft in tufts]),
        local=np.concatenate([shape_tuft(tuft, mesh, person.rest, normals, nodes) for tuft in tufts]),
        lash=lash,
        lash_weight=rng.random(len(lash)).astype(np.float32),
        colour=np.concatenate([locks, *hairs, np.tile(lash_colour, (len(lash), 1))]).astype(np.float32),
        air=np.concatenate([air, np.tile(0.55 + 0.45 * share, (rest, 1))]).astype(np.float32),
        part=np.concatenate([np.full(len(scalp), HAIR_PART), *parts, np.full(len(lash), BROW_PART)]).astype(
            np.uint8
        ),
        width=(width[:, None] * np.interp(share, (0, 0.6, 1), (1, 0.9, 0.3))).astype(np.float32),
    )
    return strands, beard_name
