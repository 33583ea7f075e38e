"""What the clip factory's people wear: garments, collars, glasses, as meshes that move with the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from avatar.recipes.materials import noise_bank, smooth_step
from avatar.recipes.people import BODY, HeadMesh, Person
from avatar.recipes.shading import CLOTH, FRAME

Array = NDArray[np.float32]

TILE = 256  # texels, side of a cloth tile
TILE_SIZE = 0.18  # m
NECK_POINT = -0.578  # m, template height of the neck's narrowest part
COLLARS = ("crew", "v-neck", "shirt", "turtleneck", "wide", "ring", "scarf", "suit")


@dataclass
class Piece:
    """A mesh at rest: `points` (V, 3), `triangles` (F, 3), `weights` (V, 5) for torso and joints, `texel` (V, 2) in tiles, `kind`."""

    points: Array
    triangles: NDArray[np.int32]
    weights: Array
    texel: Array
    kind: int
    air: Array


def _grid(rows: int, columns: int, closed: bool) -> NDArray[np.int32]:
    """Triangles of a grid of rows x columns points; `closed` joins the last column to the first."""
    last = columns if closed else columns - 1
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(last), indexing="ij")
    a, b = r * columns + c, r * columns + (c + 1) % columns
    quads = np.stack([a, b, b + columns, a + columns], -1).reshape(-1, 4)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def neckline(template: Array, cut: str, depth: float) -> Array:
    """Metres below the edge of a garment, negative above it, for template points (..., 3)."""
    x, y, z = np.abs(template[..., 0]), template[..., 1], template[..., 2]
    around = np.hypot(x, (z + 0.045) * 1.1)
    below = around - (0.078 if cut == "wide" else 0.064)
    if cut in ("v-neck", "suit", "wide"):
        slope = (
            1 - x / (0.055 + 0.25 * depth) if cut != "wide" else np.sqrt(np.maximum(0, 1 - (x / 0.1) ** 2))
        )
        throat = smooth_step(-0.06, -0.075, z) * np.maximum(0, slope) * depth
        below = below - throat * smooth_step(-0.40, -0.44, y - throat) * 2.0
        below = np.where((throat > 0) & (y < -0.53 + throat), np.minimum(below, y + 0.53 - throat), below)
    return below.astype(np.float32)


def garment(rng: np.random.Generator, person: Person, mesh: HeadMesh, normals: Array, cut: str) -> Piece:
    """A top: the body's own skin blown up below the neckline and sunk below the skin above it."""
    body = mesh.triangles[(mesh.part == BODY)]
    low = mesh.template[:, 1] > -0.60
    body = body[low[body].all(1)]
    used, triangles = np.unique(body, return_inverse=True)
    template = mesh.template[used]
    depth = float(rng.uniform(0.03, 0.10))
    thick = rng.uniform(0.003, 0.012)
    phase, pitch = rng.uniform(0, 6.28, 3), rng.uniform(25, 70, 3)
    folds = sum(
        np.sin(template @ (rng.normal(0, 1, 3) * pitch[i]) + phase[i]) for i in range(3)
    ) * rng.uniform(0, 0.0015)
    edge = neckline(template, cut, depth)
    rib = rng.uniform(0, 0.004) * np.exp(-(((edge - 0.012) / 0.012) ** 2))
    # Straight through the edge, so that the border does not show the mesh.
    lift = np.interp(edge, (-0.03, 0, 0.03), (-0.012, 0, thick)) + (edge > 0) * (
        folds * np.clip(edge / 0.05, 0, 1) + rib
    )
    points = person.rest[used] + normals[used] * lift[:, None]
    texel = np.stack([template[:, 0], template[:, 1] + 0.5 * template[:, 2]], 1) / TILE_SIZE
    return Piece(
        points=points.astype(np.float32),
        triangles=triangles.reshape(-1, 3).astype(np.int32),
        weights=mesh.joint_weights[used],
        texel=texel.astype(np.float32),
        kind=CLOTH,
        air=np.interp(template[:, 1], (-0.58, -0.50), (0.6, 1.0)).astype(np.float32),
    )


def tube(
    person: Person,
    mesh: HeadMesh,
    profile: Array,
    kind: int,
    opening: float = 0.0,
    drop: float = 0.0,
    smooth: bool = False,
) -> Piece:
    """A band around the neck.

    Args:
        person, mesh: whose neck.
        profile: distance from the skin and height above the band's foot, metres, (n, 2).
        kind: CLOTH or FRAME.
        opening: half the gap at the throat, radians.
        drop: how much lower the band sits in front than behind, metres.
        smooth: a perfect circle instead of the neck's outline.
    """
    columns = 64
    angle = (
        np.linspace(opening, 2 * np.pi - opening, columns)
        if opening
        else np.arange(columns) / columns * 2 * np.pi - np.pi
    )
    body = np.unique(mesh.triangles[mesh.part == BODY])
    at = person.rest[body[np.abs(mesh.template[body, 1] - NECK_POINT) < 0.014]]
    axis = np.array([0.0, (at[:, 2].max() + at[:, 2].min()) / 2])
    away = at[:, [0, 2]] - axis
    phi = np.arctan2(away[:, 0], away[:, 1])  # 0 behind, pi in front
    radius = np.linalg.norm(away, axis=1)
    near = np.abs((angle[:, None] + np.pi - phi[None] + np.pi) % (2 * np.pi) - np.pi)
    outline = np.array([np.sort(radius[np.argsort(row)[:6]])[:3].mean() for row in near])
    if smooth:
        outline[:] = outline.max()
    foot = person.joints[0, 1] + 0.012
    front = 0.5 + 0.5 * np.cos(angle)  # the throat is at angle 0
    spread = outline[None] + profile[:, :1]
    x = spread * np.sin(angle + np.pi)[None]
    z = axis[1] + spread * np.cos(angle + np.pi)[None]
    y = foot - profile[:, 1:] + drop * front[None]
    points = np.stack(np.broadcast_arrays(x, y, z), -1).reshape(-1, 3)
    _, nearest = cKDTree(person.rest[body]).query(points)
    weights = mesh.joint_weights[body[nearest]]
    texel = np.stack(
        np.broadcast_arrays(angle[None] * 0.07 / TILE_SIZE, profile[:, 1:] / TILE_SIZE), -1
    ).reshape(-1, 2)
    return Piece(
        points=points.astype(np.float32),
        triangles=_grid(len(profile), columns, opening == 0),
        weights=weights.astype(np.float32),
        texel=texel.astype(np.float32),
        kind=kind,
        air=np.full(len(points), 0.85, np.float32),
    )


def collar(rng: np.random.Generator, person: Person, mesh: HeadMesh, cut: str) -> list[Piece]:
    """The band that belongs to a cut."""
    if cut == "turtleneck":
        tall = rng.uniform(0.04, 0.07)
        return [
            tube(
                person,
                mesh,
                np.array(
                    [
                        [0.004, -0.02],
                        [0.006, 0],
                        [0.006, tall],
                        [0.010, tall + 0.004],
                        [0.013, tall],
                        [0.014, 0.01],
                    ]
                ),
                CLOTH,
            )
        ]
    if cut in ("shirt", "suit"):
        tall = rng.uniform(0.025, 0.04)
        flap = np.array(
            [[0.004, -0.015], [0.004, tall], [0.007, tall + 0.003], [0.012, tall * 0.6], [0.024, -0.012]]
        )
        return [tube(person, mesh, flap, CLOTH, opening=rng.uniform(0.05, 0.5), drop=0.02)]
    if cut == "ring":
        turn = np.linspace(0, 2 * np.pi, 11)
        thick, wide = rng.uniform(0.008, 0.018), rng.uniform(0.04, 0.07)
        profile = np.stack([wide + thick * np.cos(turn), thick * np.sin(turn) - 0.01], 1)
        return [tube(person, mesh, profile, FRAME, drop=0.03, smooth=True)]
    if cut == "scarf":
        turn = np.linspace(0, 2 * np.pi, 11)
        return [
            tube(
                person,
                mesh,
                np.stack([0.02 + 0.022 * np.cos(turn), 0.03 * np.sin(turn) + 0.012], 1),
                CLOTH,
                drop=0.01,
            )
        ]
    return []


def glasses(rng: np.random.Generator, person: Person, mesh: HeadMesh) -> tuple[Piece, str]:
    """Frames with two rims, a bridge and temples, and their description."""
    eyes = [person.rest[eye].mean(0) for eye in mesh.eyes]
    lash = person.rest[np.unique(mesh.lashes)]
    front = float(np.percentile(lash[:, 2], 5)) - 0.004
    gap = (eyes[0][0] - eyes[1][0]) / 2
    thick = float(rng.choice([rng.uniform(0.0007, 0.0012), rng.uniform(0.0018, 0.0032)]))
    wide, tall = gap * rng.uniform(0.66, 0.82), gap * rng.uniform(0.42, 0.72)
    power = rng.uniform(1.8, 4.5)
    drop = rng.uniform(0.001, 0.006)
    lines: list[Array] = []
    turn = np.linspace(0, 2 * np.pi, 41)
    c, s = np.cos(turn), np.sin(turn)
    for eye in eyes:
        outer = np.sign(eye[0]) * gap * 1.03
        x = outer + wide * np.sign(c) * np.abs(c) ** (2 / power)
        y = eye[1] + drop + tall * np.sign(s) * np.abs(s) ** (2 / power)
        z = front + 0.0035 * ((x - outer) / wide) * np.sign(eye[0]) + 0.003
        lines.append(np.stack([x, y, z], 1))
        hinge = np.array([outer + np.sign(eye[0]) * wide, eye[1] - 0.2 * tall, front + 0.006])
        ear = person.rest[
            np.argmax(person.rest[:, 0] * np.sign(eye[0]) - 5 * np.abs(person.rest[:, 1] - eye[1]))
        ]
        end = np.array([ear[0] * 0.97, eye[1] - 0.1 * tall, ear[2] + 0.01])
        lines.append(hinge + (end - hinge) * np.linspace(0, 1, 8)[:, None])
    bridge = np.linspace(-1, 1, 7)
    rim = gap * 1.03 - wide
    lines.append(
        np.stack(
            [
                bridge * rim,
                np.full(7, eyes[0][1] + drop - 0.15 * tall) - 0.002 * (1 - bridge**2),
                np.full(7, front + 0.002) - 0.002 * (1 - bridge**2),
            ],
            1,
        )
    )
    points, triangles, start = [], [], 0
    around = np.arange(6) / 6 * 2 * np.pi
    for line in lines:
        ahead = np.gradient(line, axis=0)
        ahead /= np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9
        aside = np.cross(ahead, [0.0, 0.3, 1.0])
        aside /= np.linalg.norm(aside, axis=1, keepdims=True) + 1e-9
        third = np.cross(ahead, aside)
        ring = line[:, None] + thick * (
            np.cos(around)[None, :, None] * aside[:, None] + np.sin(around)[None, :, None] * third[:, None]
        )
        points.append(ring.reshape(-1, 3))
        triangles.append(_grid(len(line), 6, True) + start)
        start += len(line) * 6
    at = np.concatenate(points).astype(np.float32)
    piece = Piece(
        points=at,
        triangles=np.concatenate(triangles),
        weights=np.tile(np.float32([0, 0, 0, 0, 1]), (len(at), 1)),
        texel=np.zeros((len(at), 2), np.float32),
        kind=FRAME,
        air=np.ones(len(at), np.float32),
    )
    return piece, "thin-rimmed glasses" if thick < 0.0015 else "thick-rimmed glasses"


def cloth_tile(rng: np.random.Generator) -> tuple[Array, str]:
    """A tile of cloth, linear RGB and two slopes (TILE, TILE, 5), and its description."""
    y, x = np.mgrid[:TILE, :TILE].astype(np.float32)
    colours = np.clip(
        rng.choice([0.02, 0.15, 0.45, 0.8], (2, 1)) * np.exp(rng.normal(0, 0.6, (2, 3))), 0.008, 0.9
    )
    pattern = str(
        rng.choice(["plain", "plain", "plain", "striped", "pinstriped", "checked", "dotted", "mottled"])
    )
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
