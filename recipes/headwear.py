"""Hats, headscarves and glasses of the clip factory's people, as meshes fixed to the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar.recipes.hair import HeadField, direction
from avatar.recipes.outfit import TILE_SIZE, Piece, grid_triangles, tube
from avatar.recipes.people import HeadMesh, Person
from avatar.recipes.skin import smooth_step
from avatar.recipes.surfaces import CLOTH, GLASSES, HARD, PEAK

Array = NDArray[np.float32]

HATS = {
    "none": 0.85,
    "beanie": 0.03,
    "cap": 0.035,
    "peaked cap": 0.025,
    "brimmed hat": 0.025,
    "headscarf": 0.035,
}
HAT_TILE = 3  # number of the cloth tile
ROWS, COLUMNS = 22, 72
HEAD_ONLY = np.array([0, 0, 0, 0, 1], np.float32)


def _piece(
    points: Array, triangles: NDArray[np.int32], texel: Array, kind: int, which: int, air: float = 1.0
) -> Piece:
    return Piece(
        points=points.reshape(-1, 3).astype(np.float32),
        triangles=triangles,
        weights=np.tile(HEAD_ONLY, (points.size // 3, 1)),
        texel=texel.reshape(-1, 2).astype(np.float32),
        air=np.full(points.size // 3, air, np.float32),
        kind=kind,
        which=which,
    )


def _around() -> Array:
    """`phi` of the columns, (COLUMNS,), from behind through the front."""
    return np.arange(COLUMNS) / COLUMNS * 2 * np.pi - np.pi


def _brim(field: HeadField, edge: Array, length: Array, droop: float, kind: int, which: int) -> Piece:
    """A rim that sticks out below the edge (COLUMNS,) of a hat by `length` (COLUMNS,) metres."""
    rim = field.centre + direction(edge, _around()) * (_ground(field, edge) + 0.008)[:, None]
    out = np.stack([np.sin(_around()), np.full(COLUMNS, droop), -np.cos(_around())], -1)
    share = np.linspace(0, 1, 5)[:, None]
    bow = np.array([0, 1, 0]) * 0.25 * (np.abs(np.sin(_around()))[:, None] * length[:, None])
    points = rim[None] + (share * length[None])[..., None] * out[None] + (share**2)[..., None] * bow[None]
    texel = np.stack(np.broadcast_arrays(_around()[None] * 0.1, share * 0.05), -1) / TILE_SIZE
    return _piece(points, grid_triangles(5, COLUMNS, True), texel, kind, which)


def _ground(field: HeadField, theta: Array) -> Array:
    """Distance of the head's surface at angles `theta` (..., COLUMNS)."""
    return field.surface(field.centre + direction(theta, _around()) * 0.1)[2]


def draw_hat(
    rng: np.random.Generator, person: Person, mesh: HeadMesh, field: HeadField
) -> tuple[list[Piece], Array | None, str]:
    """A hat's meshes, the angle from straight up that it covers (64,) by `phi` from behind, and its name."""
    name = str(rng.choice(list(HATS), p=list(HATS.values())))
    if name == "none":
        return [], None, name
    if name == "headscarf":
        return draw_headscarf(rng, person, mesh, field), np.full(64, np.pi), name
    front, back = {
        "beanie": (rng.uniform(58, 74), rng.uniform(100, 115)),
        "cap": (rng.uniform(60, 70), rng.uniform(88, 98)),
        "peaked cap": (rng.uniform(58, 66), rng.uniform(80, 92)),
        "brimmed hat": (rng.uniform(58, 68), rng.uniform(82, 95)),
    }[name]
    edge = np.radians(front + (back - front) * (0.5 - 0.5 * np.cos(_around())))
    share = np.linspace(0.02, 1, ROWS)[:, None]
    theta = share * edge
    high = np.cos(theta)
    lift = 0.011 + 0.0 * high
    if name == "beanie":
        lift = lift + 0.007 * (share > 0.72) + rng.uniform(0, 0.03) * np.maximum(high - 0.6, 0) * 2.5
    elif name == "peaked cap":
        lift = 0.012 + rng.uniform(0.03, 0.05) * np.sin(np.pi * np.clip((1 - share) / 0.75, 0, 1)) ** 1.2
    elif name == "brimmed hat":
        lift = 0.012 + rng.uniform(0.015, 0.05) * smooth_step(0.05, 0.6, high)
    radius = _ground(field, theta) + lift
    points = field.centre + direction(theta, _around()) * radius[..., None]
    texel = np.stack(np.broadcast_arrays(_around()[None] * 0.09, theta * 0.11), -1) / TILE_SIZE
    pieces = [_piece(points, grid_triangles(ROWS, COLUMNS, True), texel, CLOTH, HAT_TILE)]
    ahead = np.maximum(np.cos(_around()), 0)
    if name == "cap":
        pieces.append(_brim(field, edge, rng.uniform(0.05, 0.075) * ahead**0.6, 0.25, CLOTH, HAT_TILE))
    elif name == "peaked cap":
        pieces.append(_brim(field, edge, rng.uniform(0.03, 0.05) * ahead**0.6, 0.6, HARD, PEAK))
    elif name == "brimmed hat":
        pieces.append(
            _brim(
                field,
                edge,
                np.full(COLUMNS, rng.uniform(0.04, 0.09)),
                rng.uniform(-0.2, 0.2),
                CLOTH,
                HAT_TILE,
            )
        )
    columns = np.linspace(-np.pi, np.pi, 64)
    return pieces, np.interp(columns, _around(), edge, period=2 * np.pi) - 0.06, name


def draw_headscarf(rng: np.random.Generator, person: Person, mesh: HeadMesh, field: HeadField) -> list[Piece]:
    """A scarf around hair, ears and neck that leaves the face free."""
    opening, rows = np.radians(rng.uniform(38, 46)), 26
    round_face = np.arange(COLUMNS) / COLUMNS * 2 * np.pi
    share = np.linspace(0, 1, rows)[:, None]
    tall = 1 + 0.18 * np.abs(np.cos(round_face))  # the opening is an upright oval
    angle = opening * tall + share * (np.pi * 0.98 - opening * tall)
    ring = np.sin(angle)
    away = np.stack([ring * np.sin(round_face), -ring * np.cos(round_face), -np.cos(angle)], -1)
    ground = field.surface(field.centre + away * 0.1)[2]
    folds = 0.003 * np.sin(round_face * 9 + 6 * share) + 0.004 * np.sin(round_face * 4 + 2)
    radius = np.maximum(ground, 0.075) + 0.010 + folds * smooth_step(0, 0.2, share)
    texel = np.stack(np.broadcast_arrays(round_face[None] * 0.09, angle * 0.11), -1) / TILE_SIZE
    points = field.centre + away * radius[..., None]
    wrap = np.array([(0.016, -0.06), (0.018, -0.02), (0.014, 0.015), (0.011, 0.04), (0.007, 0.055)])
    neck = tube(person, mesh, wrap, which=HAT_TILE, drop=0.03, round_off=0.4)
    return [_piece(points, grid_triangles(rows, COLUMNS, True), texel, CLOTH, HAT_TILE), neck]


@dataclass(frozen=True, kw_only=True)
class Lenses:
    """Glass that is laid over the finished picture.

    Attributes:
        points: at rest, (V, 3), fixed to the head.
        triangles: (F, 3).
        height: -1 at the lower edge to 1 at the upper, (V,).
        tint: colour that passes, (3,).
        mirror: light that the glass reflects at its upper edge, linear RGB, (3,).
    """

    points: Array
    triangles: NDArray[np.int32]
    height: Array
    tint: Array
    mirror: Array


def _pipe(line: Array, thick: float) -> Array:
    """Points (n, 6, 3) around a line (n, 3)."""
    ahead = np.gradient(line, axis=0)
    aside = np.cross(ahead, [0.0, 0.3, 1.0])
    aside /= np.linalg.norm(aside, axis=1, keepdims=True) + 1e-9
    third = np.cross(ahead / (np.linalg.norm(ahead, axis=1, keepdims=True) + 1e-9), aside)
    angle = np.arange(6)[None, :, None] / 6 * 2 * np.pi
    return line[:, None] + thick * (np.cos(angle) * aside[:, None] + np.sin(angle) * third[:, None])


def draw_glasses(rng: np.random.Generator, person: Person, mesh: HeadMesh) -> tuple[Piece, Lenses, str]:
    """Frames with two rims, a bridge and temples; their glass; their description."""
    eyes = [person.rest[eye].mean(0) for eye in mesh.eyes]
    front = float(np.percentile(person.rest[np.unique(mesh.lashes), 2], 5)) - 0.004
    gap = (eyes[0][0] - eyes[1][0]) / 2 * 1.03
    thin = rng.random() < 0.5
    thick = float(rng.uniform(0.0007, 0.0012) if thin else rng.uniform(0.0018, 0.0032))
    wide, tall = gap * rng.uniform(0.64, 0.80), gap * rng.uniform(0.40, 0.72)
    power, drop = rng.uniform(1.8, 4.5), rng.uniform(0.001, 0.006)
    turn = np.linspace(0, 2 * np.pi, 41)
    c = np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** (2 / power)
    s = np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** (2 / power)
    lines, glass, glass_triangles, heights = [], [], [], []
    for k, eye in enumerate(eyes):
        side = np.sign(eye[0])
        x, y = side * gap + wide * c, eye[1] + drop + tall * s
        rim = np.stack([x, y, front + 0.003 + 0.0035 * c * side], 1)
        lines.append(rim)
        middle = rim[:-1].mean(0, keepdims=True)
        glass.append(np.concatenate([middle, rim[:-1]]))
        heights.append(np.concatenate([[0], -s[:-1]]))
        edge = np.arange(40)
        glass_triangles.append(np.stack([np.zeros(40, int), edge + 1, (edge + 1) % 40 + 1], 1) + k * 41)
        hinge = np.array([side * (gap + wide), eye[1] - 0.2 * tall, front + 0.006])
        ear = person.rest[np.argmax(person.rest[:, 0] * side - 5 * np.abs(person.rest[:, 1] - eye[1]))]
        end = np.array([ear[0] * 0.97, eye[1] - 0.1 * tall, ear[2] + 0.01])
        lines.append(hinge + (end - hinge) * np.linspace(0, 1, 8)[:, None])
    bridge = np.linspace(-1, 1, 7)
    bow = 0.002 * (1 - bridge**2)
    lines.append(
        np.stack([bridge * (gap - wide), eyes[0][1] + drop - 0.15 * tall - bow, front + 0.002 - bow], 1)
    )
    triangles, start = [], 0
    for line in lines:
        triangles.append(grid_triangles(len(line), 6, True) + start)
        start += len(line) * 6
    points = np.concatenate([_pipe(line, thick).reshape(-1, 3) for line in lines])
    dark = rng.random() < 0.06
    lenses = Lenses(
        points=np.concatenate(glass).astype(np.float32),
        triangles=np.concatenate(glass_triangles).astype(np.int32),
        height=np.concatenate(heights).astype(np.float32),
        tint=np.float32(rng.uniform(0.15, 0.4) if dark else rng.uniform(0.85, 1.0)) * np.ones(3, np.float32),
        mirror=np.float32(abs(rng.normal(0, 0.08))) * np.exp(rng.normal(0, 0.15, 3)).astype(np.float32),
    )
    name = ("tinted " if dark else "") + ("thin-rimmed glasses" if thin else "thick-rimmed glasses")
    return (
        _piece(points, np.concatenate(triangles), np.zeros((len(points), 2), np.float32), HARD, GLASSES),
        lenses,
        name,
    )
