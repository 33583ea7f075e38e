"""Clothes of the clip factory's people: garments, collars, ties, as meshes that move with the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatar.recipes.hair import HeadField
from avatar.recipes.people import BODY, HeadMesh, Person
from avatar.recipes.skin import noise_bank, smooth_step
from avatar.recipes.surfaces import CLOTH, HARD, METAL

Array = NDArray[np.float32]

EDGE_REACH = 0.02  # m from a garment's edge within which its mesh is refined
GARMENT, SHIRT, TIE = range(3)  # numbers of cloth tiles
TILE = 256  # texels, side of a cloth tile
TILE_SIZE = 0.18  # m
NECK_POINT, NECK_RADIUS = (
    -0.592,
    0.07,
)  # m, template height of the neck's narrowest part, and what is neck there
CUTS = {
    "crew neck": 0.22,
    "v-neck": 0.14,
    "wide neck": 0.12,
    "shirt": 0.16,
    "suit": 0.14,
    "turtleneck": 0.07,
    "scarf": 0.05,
    "high collar": 0.04,
    "ring collar": 0.06,
}
PATTERNS = ("plain", "plain", "plain", "striped", "pinstriped", "checked", "dotted", "mottled")
FORMAL = ("plain", "plain", "plain", "pinstriped", "checked")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A mesh that is worn.

    Attributes:
        points: at rest, view axes, (V, 3).
        triangles: (F, 3).
        weights: for torso and joints, (V, 5).
        texel: place on the cloth, in tiles, (V, 2).
        air: share of ambient light, (V,).
        kind: CLOTH or HARD.
        which: number of its cloth tile or its paint.
    """

    points: Array
    triangles: NDArray[np.int32]
    weights: Array
    texel: Array
    air: Array
    kind: int = CLOTH
    which: int = 0


def grid_triangles(rows: int, columns: int, closed: bool) -> NDArray[np.int32]:
    """Triangles of a grid of rows x columns points; `closed` joins the last column to the first."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns if closed else columns - 1), indexing="ij")
    a, b = r * columns + c, r * columns + (c + 1) % columns
    quads = np.stack([a, b, b + columns, a + columns], -1).reshape(-1, 4)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def subdivide(
    values: Array, triangles: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.int64]]:
    """Cut the `chosen` (F,) triangles (F, 3) in four; `values` (V, n) of new vertices are the means of their
    edge's ends.
    """
    fine = triangles[chosen]
    edges = np.sort(np.stack([fine, np.roll(fine, -1, 1)], -1).reshape(-1, 2), 1)
    ends, middle = np.unique(edges, axis=0, return_inverse=True)
    ab, bc, ca = middle.reshape(-1, 3).T + len(values)
    a, b, c = fine.T
    quarters = np.stack([a, ab, ca, ab, b, bc, ca, bc, c, ab, bc, ca], 1).reshape(-1, 3)
    return np.concatenate([values, values[ends].mean(1)]), np.concatenate([triangles[~chosen], quarters])


def neckline(template: Array, cut: str, depth: float) -> Array:
    """Metres below the edge of a garment, negative above it, for template points (..., 3)."""
    x, y, z = np.abs(template[..., 0]), template[..., 1], template[..., 2]
    below = np.hypot(x, (z + 0.045) * 1.1) - (0.078 if cut == "wide neck" else 0.064)
    if cut in ("v-neck", "suit", "wide neck"):
        if cut == "wide neck":
            opening = np.sqrt(np.maximum(0, 1 - (x / 0.1) ** 2))
        else:
            opening = np.maximum(0, 1 - x / (0.055 + 0.25 * depth))
        edge = -0.53 + smooth_step(-0.06, -0.075, z) * opening * depth
        below = np.where((edge > -0.53) & (y < edge), np.minimum(below, y - edge), below)
    return below.astype(np.float32)


def garment(
    rng: np.random.Generator,
    person: Person,
    mesh: HeadMesh,
    normals: Array,
    cut: str,
    thick: float,
    which: int = 0,
) -> Piece:
    """A top: the body's own skin blown up by `thick` metres below the neckline and sunk below the skin above
    it.
    """
    body = mesh.triangles[mesh.part == BODY]
    body = body[(mesh.template[:, 1] > -0.60)[body].all(1)]
    used, triangles = np.unique(body, return_inverse=True)
    triangles = triangles.reshape(-1, 3)
    depth = float(rng.uniform(0.10, 0.16) if cut == "suit" else rng.uniform(0.03, 0.10))
    values = np.concatenate([person.rest, normals, mesh.template, mesh.joint_weights], 1)[used]
    for _ in range(2):  # the mesh is too coarse for a clean edge
        near = np.abs(neckline(values[:, 6:9], cut, depth)) < EDGE_REACH
        values, triangles = subdivide(values, triangles, near[triangles].any(1))
    rest, normals, template, weights = np.split(values, (3, 6, 9), 1)
    edge = neckline(template, cut, depth)
    phase, pitch = rng.uniform(0, 6.28, 3), rng.uniform(25, 70, 3)
    waves = [np.sin(template @ (rng.normal(0, 1, 3) * pitch[i]) + phase[i]) for i in range(3)]
    folds = np.sum(waves, 0) * rng.uniform(0, 0.0015) * np.clip(edge / 0.05, 0, 1)
    # Straight through the edge, so that the border does not show the mesh.
    lift = np.interp(edge, (-0.03, 0.03), (-thick, thick)) + folds
    texel = np.stack([template[:, 0], template[:, 1] + 0.5 * template[:, 2]], 1) / TILE_SIZE
    return Piece(
        points=(rest + normals * lift[:, None]).astype(np.float32),
        triangles=triangles.astype(np.int32),
        weights=weights.astype(np.float32),
        texel=texel.astype(np.float32),
        air=np.interp(template[:, 1], (-0.58, -0.50), (0.6, 1.0)).astype(np.float32),
        which=which,
    )


def tube(
    person: Person,
    mesh: HeadMesh,
    profile: Array,
    kind: int = CLOTH,
    which: int = 0,
    opening: float = 0.0,
    drop: float = 0.0,
    round_off: float = 0.0,
) -> Piece:
    """A band around the neck.

    Args:
        person, mesh: whose neck.
        profile: distance from the skin and height above the band's foot, m, (n, 2).
        kind, which: see `Piece`.
        opening: half the gap at the throat, radians.
        drop: how much lower the band sits in front than behind, m.
        round_off: 0 follows the neck's outline, 1 is a perfect circle.
    """
    columns = 64
    angle = np.linspace(opening, 2 * np.pi - opening, columns)  # from the throat
    if not opening:
        angle = np.arange(columns) / columns * 2 * np.pi
    body = np.unique(mesh.triangles[mesh.part == BODY])
    x, y, z = mesh.template[body].T
    at = person.rest[body[(np.abs(y - NECK_POINT) < 0.012) & (np.hypot(x, z + 0.02) < NECK_RADIUS)]]
    middle = (at[:, 2].max() + at[:, 2].min()) / 2
    around = np.arctan2(at[:, 0], middle - at[:, 2])
    radius = np.hypot(at[:, 0], at[:, 2] - middle)
    apart = np.abs((angle[:, None] - around[None] + np.pi) % (2 * np.pi) - np.pi)
    outline = np.array([np.sort(radius[np.argsort(row)[:6]])[2:].mean() for row in apart])
    outline = np.convolve(np.concatenate([outline[-2:], outline, outline[:2]]), np.ones(5) / 5, "valid")
    outline += round_off * (outline.max() - outline)
    spread = outline[None] + profile[:, :1]
    foot = person.joints[0, 1] + 0.012 + drop * (0.5 + 0.5 * np.cos(angle[None]))
    columns_of = (spread * np.sin(angle), foot - profile[:, 1:], middle - spread * np.cos(angle))
    points = np.stack(np.broadcast_arrays(*columns_of), -1).reshape(-1, 3)
    _, nearest = cKDTree(person.rest[body]).query(points)
    texel = np.stack(np.broadcast_arrays(angle[None] * 0.07, profile[:, 1:]), -1).reshape(-1, 2) / TILE_SIZE
    return Piece(
        points=points.astype(np.float32),
        triangles=grid_triangles(len(profile), columns, opening == 0),
        weights=mesh.joint_weights[body[nearest]],
        texel=texel.astype(np.float32),
        air=np.full(len(points), 0.85, np.float32),
        kind=kind,
        which=which,
    )


def tie(rng: np.random.Generator, person: Person, field: HeadField, which: int) -> Piece:
    """A tie down the chest: a strip with a knot."""
    rows = 14
    down = np.linspace(0, 1, rows)
    top = person.joints[0, 1] + 0.03
    y = top + 0.24 * down
    half = np.interp(down, (0, 0.08, 0.14, 1), (0.014, 0.011, 0.010, rng.uniform(0.02, 0.034)))
    across = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    x = half[:, None] * across
    row = np.clip(((y - field.low[1]) / 0.02).astype(int), 0, field.front.shape[0] - 1)
    column = int(-field.low[0] / 0.02)
    chest = np.minimum(
        field.front[row, column], np.minimum(field.front[row, column - 1], field.front[row, column + 1])
    )
    chest = np.convolve(np.pad(chest, 2, "edge"), np.ones(5) / 5, "valid")
    z = chest[:, None] - 0.014 - 0.006 * (1 - across**2) - 0.006 * (down[:, None] < 0.1)
    points = np.stack(np.broadcast_arrays(x, y[:, None], z), -1).reshape(-1, 3).astype(np.float32)
    texel = (
        np.stack([points[:, 0] + 0.7 * points[:, 1], points[:, 1] - 0.7 * points[:, 0]], 1) * 2 / TILE_SIZE
    )
    return Piece(
        points=points,
        triangles=grid_triangles(rows, len(across), False),
        weights=np.tile(np.array([1, 0, 0, 0, 0], np.float32), (len(points), 1)),
        texel=texel.astype(np.float32),
        air=np.full(len(points), 0.95, np.float32),
        which=which,
    )


def shirt_collar(
    rng: np.random.Generator, person: Person, mesh: HeadMesh, which: int, opening: float
) -> Piece:
    """A standing collar that folds over."""
    tall = rng.uniform(0.022, 0.036)
    fold = np.array(
        [(0.003, -0.02), (0.003, tall), (0.006, tall + 0.003), (0.010, tall * 0.6), (0.02, -0.016)]
    )
    return tube(person, mesh, fold, which=which, opening=opening, drop=rng.uniform(0.018, 0.03))


def dress(
    rng: np.random.Generator, person: Person, mesh: HeadMesh, field: HeadField, normals: Array
) -> tuple[list[Piece], str]:
    """Random clothes and their description."""
    cut = str(rng.choice(list(CUTS), p=list(CUTS.values())))
    thick = float(rng.uniform(0.006, 0.014))
    turn = np.linspace(0, 2 * np.pi, 11)
    if cut == "suit":
        tied = rng.random() < 0.7
        pieces = [
            garment(rng, person, mesh, normals, "crew neck", 0.005, SHIRT),
            garment(rng, person, mesh, normals, "suit", 0.014),
        ]
        pieces.append(shirt_collar(rng, person, mesh, SHIRT, 0.1 if tied else rng.uniform(0.15, 0.45)))
        return pieces + ([tie(rng, person, field, TIE)] if tied else []), "suit and tie" if tied else "suit"
    if cut == "ring collar":  # of a space or diving suit
        thick, wide = float(rng.uniform(0.02, 0.035)), rng.uniform(0.05, 0.085)
        rim = rng.uniform(0.008, 0.018)
        profile = np.stack([wide + rim * np.cos(turn), rim * np.sin(turn) - 0.01], 1)
        ring = tube(person, mesh, profile, HARD, METAL, drop=rng.uniform(0.02, 0.05), round_off=1.0)
        return [garment(rng, person, mesh, normals, "crew neck", thick), ring], cut
    base = "crew neck" if cut in ("shirt", "turtleneck", "scarf", "high collar") else cut
    pieces = [garment(rng, person, mesh, normals, base, thick)]
    if cut == "shirt":
        pieces.append(shirt_collar(rng, person, mesh, GARMENT, rng.uniform(0.12, 0.6)))
    elif cut == "turtleneck":
        tall = rng.uniform(0.035, 0.06)
        profile = [
            (0.004, -0.025),
            (0.005, 0),
            (0.005, tall),
            (0.008, tall + 0.004),
            (0.011, tall),
            (0.012, 0.0),
        ]
        pieces.append(tube(person, mesh, np.array(profile), drop=0.012))
    elif cut == "high collar":
        tall = rng.uniform(0.03, 0.06)
        profile = np.array([(0.01, -0.03), (0.012, 0), (0.016, tall), (0.02, tall + 0.002), (0.02, 0)])
        pieces.append(tube(person, mesh, profile, opening=rng.uniform(0, 0.3), drop=0.02, round_off=0.4))
    elif cut == "scarf":
        profile = np.stack([0.018 + 0.02 * np.cos(turn), 0.03 * np.sin(turn) + 0.008], 1)
        pieces.append(tube(person, mesh, profile, drop=0.02, which=SHIRT, round_off=0.5))
    return pieces, cut


def cloth_tile(
    rng: np.random.Generator, pattern: str | None = None, light: float | None = None
) -> tuple[Array, str]:
    """A tile of cloth, linear RGB and two slopes (TILE, TILE, 5), and its pattern; random unless given."""
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32)
    level = rng.choice([0.02, 0.15, 0.45, 0.8], (2, 1)) if light is None else np.array([[light], [0.2]])
    hue = rng.normal(0, rng.choice([0.08, 0.6]) if light is None else 0.05, (2, 3))
    colours = np.clip(level * np.exp(hue), 0.008, 0.9)
    pattern = pattern or str(rng.choice(PATTERNS if light is None else FORMAL))
    period = TILE / int(rng.choice([2, 3, 4, 6, 8]))
    if pattern == "striped":
        mix = ((y if rng.random() < 0.6 else x) % period < period * rng.uniform(0.3, 0.7)).astype(np.float32)
    elif pattern == "pinstriped":
        mix = (x % (TILE / 12) < 2).astype(np.float32) * 0.7
    elif pattern == "checked":
        mix = 0.5 * (x % period < period / 2) + 0.5 * (y % period < period / 2)
    elif pattern == "dotted":
        mix = (np.hypot(x % period - period / 2, y % period - period / 2) < period * 0.25).astype(np.float32)
    elif pattern == "mottled":
        mix = smooth_step(-0.5, 0.5, noise_bank()[16][:TILE, :TILE])
    else:
        mix = np.zeros_like(x)
    weave = 0.06 * np.sin(x * np.pi / 2) * np.sin(y * np.pi / 2) + 0.05 * noise_bank()[1][:TILE, :TILE]
    rough = rng.uniform(0.3, 2.0)
    tile = np.empty((TILE, TILE, 5), np.float32)
    tile[..., :3] = (colours[0] + mix[..., None] * (colours[1] - colours[0])) * (1 + rough * weave[..., None])
    relief = rough * (weave + 0.02 * noise_bank()[8][:TILE, :TILE])
    tile[..., 3] = np.roll(relief, -1, 1) - np.roll(relief, 1, 1)
    tile[..., 4] = np.roll(relief, -1, 0) - np.roll(relief, 1, 0)
    return np.clip(tile, -1, 1), pattern
