"""Pose a figure and render one frame of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from avatar.recipes.figure import Figure, shared
from avatar.recipes.hair import place_scalp
from avatar.recipes.headwear import HEAD_ONLY
from avatar.recipes.people import Pose
from avatar.recipes.render import (
    Camera,
    Screen,
    draw_strands,
    draw_triangles,
    seen_nodes,
    vertex_normals,
)
from avatar.recipes.shading import Light, shade
from avatar.recipes.shadows import draw_depth, draw_depth_strands, light_basis, light_screen, lit_share
from avatar.recipes.strands import place_short

Array = NDArray[np.float32]

SHADOW_SIDE = 176  # px of a shadow map
NO_SHADOW = 0.3  # of the strongest light: what is weaker throws no shadow
SKIN_BIAS, HAIR_BIAS = 0.006, 0.012  # m behind a light's nearest surface that still count as lit


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One rendered frame before it is scaled down.

    Attributes:
        picture: linear RGB, black where nothing is, (side, side, 3).
        parts: see `surfaces`, (side, side).
        screen: what every pixel shows.
        points, strands: screen points of all vertices (V, 3) and of all strands (N, P, 3).
    """

    picture: Array
    parts: NDArray[np.uint8]
    screen: Screen
    points: Array
    strands: Array


def act_out(figure: Figure, curves: Array, pose: Pose) -> Array:
    """Vertices of all meshes in every frame: curves (T, 52) -> (T, V, 3)."""
    base, person = shared(), figure.person
    used = np.flatnonzero(curves.any(0))
    rest = person.rest + np.tensordot(curves[:, used], base.actions[used], 1)
    for side, eye in enumerate(base.mesh.eyes):
        centre = person.rest[eye].mean(0)
        turn = Rotation.from_rotvec(curves @ base.turns[:, side]).as_matrix().astype(np.float32)
        rest[:, eye] = (person.rest[eye] - centre) @ turn.transpose(0, 2, 1) + centre
    moved = [pose.apply(rest, base.mesh.joint_weights)]
    moved += [pose.apply(piece.points, piece.weights) for piece in figure.pieces]
    return np.concatenate(moved, 1)


def place_strands(figure: Figure, points: Array, normals: Array, pose: Pose, frame: int) -> Array:
    """Nodes of all strands in one frame, (N, P, 3), for its vertices and their normals, (V, 3)."""
    hair = figure.strands
    count, short, nodes = len(hair.scalp), len(hair.local), hair.local.shape[1]
    out = np.empty((len(hair.part), nodes, 3), np.float32)
    rotation, offset = pose.rotation[frame, -1], pose.offset[frame]
    place_scalp(hair.scalp, hair.scalp_head, rotation, offset[-1], offset[0], out)
    corners = shared().mesh.triangles[hair.triangle]
    place_short(points, normals, corners, hair.bary, hair.local, out[count : count + short])
    first, second = points[hair.lash[:, :2]], points[hair.lash[:, 2:]]
    line = first + hair.lash_weight[:, None, None] * (second - first)
    share = np.linspace(0, 1, nodes, dtype=np.float32)[None, :, None]
    out[count + short :] = line[:, :1] + share * (line[:, 1:] - line[:, :1])
    return out


def light_up(
    figure: Figure, points: Array, strands: Array, middle: Array, light: Light, seen: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """Share of each light that reaches vertices, (V, L), and the `seen` (N, P) nodes of strands, after
    ambient light, (N, P, 1 + L).
    """
    lights, hair = len(light.direction), figure.strands
    lit = np.ones((lights, len(points)), np.float32)
    hair_lit = np.empty((*hair.air.shape, 1 + lights), np.float32)
    hair_lit[..., 0] = hair.air
    count, all_points = len(hair.scalp), np.ones(len(points), bool)
    power = light.colour.sum(1)
    for i, aim in enumerate(light.direction):
        if power[i] < NO_SHADOW * power.max():
            hair_lit[..., 1 + i] = hair.air
            continue
        screen, basis = light_screen(SHADOW_SIDE), light_basis(aim)
        draw_depth(points, middle, basis, figure.triangles, figure.two_sided, screen)
        draw_depth_strands(strands[:count:2], middle, basis, screen)
        lit_share(points, middle, basis, screen, SKIN_BIAS, 3, all_points, lit[i])
        reached = hair.air.copy()
        nodes = strands[:count].reshape(-1, 3)
        lit_share(
            nodes, middle, basis, screen, HAIR_BIAS, 1, seen[:count].ravel(), reached[:count].reshape(-1)
        )
        hair_lit[..., 1 + i] = reached
    return np.ascontiguousarray(lit.T), hair_lit


@njit(cache=True, fastmath=True, error_model="numpy")
def _lay_glass(
    ids: NDArray[np.int32],
    glass_z: Array,
    z: Array,
    bary: Array,
    triangles: NDArray[np.int32],
    height: Array,
    tint: Array,
    mirror: Array,
    picture: Array,
) -> None:
    """Tint the picture behind glass and add what the glass mirrors."""
    for y in range(ids.shape[0]):
        for x in range(ids.shape[1]):
            f = ids[y, x]
            if f < 0 or glass_z[y, x] > z[y, x]:
                continue
            w1, w2 = bary[y, x, 0], bary[y, x, 1]
            at = (
                (1 - w1 - w2) * height[triangles[f, 0]]
                + w1 * height[triangles[f, 1]]
                + w2 * height[triangles[f, 2]]
            )
            bright = max(np.float32(0), np.float32(0.5) + np.float32(0.5) * at)
            for c in range(3):
                picture[y, x, c] = picture[y, x, c] * tint[c] + mirror[c] * bright * bright


def draw_frame(
    figure: Figure, points: Array, pose: Pose, frame: int, openness: float, camera: Camera, light: Light
) -> Drawing:
    """Render one frame.

    Args:
        figure: who.
        points: vertices of all meshes in this frame, (V, 3).
        pose, frame: of the clip, and which of its frames.
        openness: of the lips, 0 closed to 1 wide.
        camera, light: see their classes.
    """
    hair, faces = figure.strands, len(figure.triangles)
    normals = vertex_normals(points, figure.triangles)
    strands = place_strands(figure, points, normals, pose, frame)
    screen, flat, lines = Screen.empty(camera.side), camera.project(points), camera.project(strands)
    draw_triangles(flat, figure.triangles, figure.two_sided, screen.ids, screen.z, screen.bary)
    scale = np.float32(camera.focal / np.median(flat[:, 2]))
    draw_strands(lines, hair.width * scale, faces, screen.ids, screen.z, screen.bary)
    seen = np.zeros(hair.air.shape, bool)
    seen_nodes(screen.ids, faces, seen)
    middle = pose.of_head(figure.person.joints[3:] - np.array([0, 0.08, 0], np.float32))[frame, 0]
    lit, hair_lit = light_up(figure, points, strands, middle, light, seen)
    picture = np.zeros((camera.side, camera.side, 3), np.float32)
    parts = np.zeros((camera.side, camera.side), np.uint8)
    shade(
        screen.ids,
        screen.z,
        screen.bary,
        figure.triangles,
        figure.material,
        points,
        normals,
        lit,
        figure.attributes,
        figure.skin,
        figure.cloth,
        figure.cloth_gloss,
        figure.paint,
        openness,
        camera.eye,
        pose.rotation[frame, -1] @ np.array([0, -1, 0], np.float32),
        light.direction,
        light.colour,
        light.ambient,
        strands,
        hair.colour,
        hair_lit,
        hair.part,
        picture,
        parts,
    )
    if figure.lenses:
        glass = Screen.empty(camera.side)
        lens = figure.lenses
        at = camera.project(pose.apply(lens.points, np.tile(HEAD_ONLY, (len(lens.points), 1)))[frame])
        draw_triangles(at, lens.triangles, np.ones(len(lens.triangles), bool), glass.ids, glass.z, glass.bary)
        mirror = lens.mirror * light.ambient[0]
        _lay_glass(
            glass.ids, glass.z, screen.z, glass.bary, lens.triangles, lens.height, lens.tint, mirror, picture
        )
    return Drawing(picture=picture, parts=parts, screen=screen, points=flat, strands=lines)
