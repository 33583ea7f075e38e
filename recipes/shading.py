"""The light on every pixel of a rendered person, in linear RGB.

Diffuse light wraps around the terminator, more in red than in blue, which stands for light that travels under
the skin;
highlights follow Blinn and Phong for surfaces, Kajiya and Kay ("Rendering fur with three dimensional
textures", 1989) for
hair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from avatar.recipes import surfaces

Array = NDArray[np.float32]

IRIS_ANGLE = 0.52  # radians, half the angle of the iris seen from the eyeball's centre
SAME_SURFACE = np.float32(0.003)  # m between neighbouring samples of one surface
HARD_GLOSS = np.float32(2.0)
TEETH_COUNT = 14  # along an arch


@dataclass(frozen=True, kw_only=True)
class Light:
    """Directional lights (L, 3) unit vectors towards them, their colours (L, 3), and ambient colours above
    and below, (2, 3).
    """

    direction: Array
    colour: Array
    ambient: Array


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _fetch(texture: Array, u: float, v: float, out: Array) -> None:
    """Bilinear sample of a texture (rows, columns, n) at texel (u, v) inside of it."""
    u0, v0 = int(u), int(v)
    au, av = u - u0, v - v0
    w00, w01, w10, w11 = (1 - au) * (1 - av), au * (1 - av), (1 - au) * av, au * av
    u1, v1 = min(u0 + 1, texture.shape[1] - 1), min(v0 + 1, texture.shape[0] - 1)
    for k in range(texture.shape[2]):
        out[k] = (
            w00 * texture[v0, u0, k]
            + w01 * texture[v0, u1, k]
            + w10 * texture[v1, u0, k]
            + w11 * texture[v1, u1, k]
        )


@njit(cache=True, fastmath=True, error_model="numpy")
def shade(
    ids: NDArray[np.int32],
    z: Array,
    bary: Array,
    triangles: NDArray[np.int32],
    material: NDArray[np.uint8],
    points: Array,
    normals: Array,
    lit: Array,
    attributes: Array,
    skin: Array,
    cloth: Array,
    gloss_of: Array,
    paint: Array,
    openness: float,
    eye: Array,
    up: Array,
    light_direction: Array,
    light_colour: Array,
    ambient: Array,
    hair_points: Array,
    hair_colour: Array,
    hair_lit: Array,
    hair_part: NDArray[np.uint8],
    picture: Array,
    parts: NDArray[np.uint8],
) -> None:
    """Fill `picture` (side, side, 3) and `parts` (side, side) where `ids` shows something.

    Args:
        ids, z, bary: the screen.
        triangles, material: (F, 3), (F,).
        points, normals: of the vertices in view axes, (V, 3).
        lit: share of each light that reaches a vertex, (V, L).
        attributes: (V, 8), see `surfaces`.
        skin: texture of `skin.paint_skin`.
        cloth: tiles of linear RGB and slopes, (tiles, rows, columns, 5); coordinates on them count tiles.
        gloss_of: of each tile, (tiles,).
        paint: (PAINTS, 3), see `surfaces`.
        openness: of the lips, 0 closed to 1 wide.
        eye: position of the camera, (3,).
        up: the head's own up direction, (3,).
        light_direction, light_colour, ambient: see `Light`.
        hair_points: strands in view axes, (N, P, 3).
        hair_colour: (N, 3).
        hair_lit: ambient share and share of each light at the strands' nodes, (N, P, 1 + L).
        hair_part: value of `parts` for each strand, (N,).
    """
    side = ids.shape[0]
    faces, segments = triangles.shape[0], max(1, hair_points.shape[1] - 1)
    lights = light_direction.shape[0]
    sample = np.zeros(6, np.float32)
    albedo, total, shine = np.zeros(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    n, p, view, att = (
        np.zeros(3, np.float32),
        np.zeros(3, np.float32),
        np.zeros(3, np.float32),
        np.zeros(8, np.float32),
    )
    reach = np.zeros(8, np.float32)
    for y in range(side):
        for column in range(side):
            x = side - 1 - column if y & 1 else column
            name = ids[y, x]
            if name < 0:
                continue
            if (x ^ y) & 1 and name < faces:  # plain skin and cloth: half the samples will do
                near = x - 1 if x & 1 else x + 1
                other = ids[y, near]
                if 0 <= other < faces and abs(z[y, x] - z[y, near]) < SAME_SURFACE:
                    kind = material[name]
                    part = parts[y, near]
                    if kind == material[other] and (
                        kind == surfaces.CLOTH or (kind == surfaces.SKIN and part == surfaces.SKIN_PART)
                    ):
                        for c in range(3):
                            picture[y, x, c] = picture[y, near, c]
                        parts[y, x] = part
                        continue
            if name >= faces:  # a strand of hair
                s, k, t = (name - faces) // segments, (name - faces) % segments, bary[y, x, 0]
                length = np.float32(1e-12)
                for i in range(3):
                    n[i] = hair_points[s, k + 1, i] - hair_points[s, k, i]
                    length += n[i] * n[i]
                    view[i] = eye[i] - hair_points[s, k, i]
                length = 1 / np.sqrt(length)
                far = 1 / np.sqrt(view[0] ** 2 + view[1] ** 2 + view[2] ** 2)
                air = hair_lit[s, k, 0] + t * (hair_lit[s, k + 1, 0] - hair_lit[s, k, 0])
                up_share = np.float32(0.5) - np.float32(0.25) * (n[1] * length)
                for c in range(3):
                    total[c] = (
                        (ambient[0, c] * up_share + ambient[1, c] * (1 - up_share)) * air * hair_colour[s, c]
                    )
                for q in range(lights):
                    along = (
                        n[0] * light_direction[q, 0]
                        + n[1] * light_direction[q, 1]
                        + n[2] * light_direction[q, 2]
                    ) * length
                    sight = (n[0] * view[0] + n[1] * view[1] + n[2] * view[2]) * length * far
                    sin_l, sin_v = np.sqrt(max(0, 1 - along * along)), np.sqrt(max(0, 1 - sight * sight))
                    mirror = max(np.float32(0), sin_l * sin_v - along * sight)
                    loose = mirror * mirror
                    loose *= loose
                    loose *= loose
                    tight = loose * loose
                    tight *= tight * loose
                    share = hair_lit[s, k, 1 + q] + t * (hair_lit[s, k + 1, 1 + q] - hair_lit[s, k, 1 + q])
                    for c in range(3):
                        diffuse = hair_colour[s, c] * np.float32(0.55) * sin_l
                        gleam = np.float32(0.035) * tight + hair_colour[s, c] * np.float32(0.45) * loose
                        total[c] += light_colour[q, c] * share * (diffuse + gleam)
                for c in range(3):
                    picture[y, x, c] = total[c]
                parts[y, x] = hair_part[s]
                continue

            a, b, c3 = triangles[name, 0], triangles[name, 1], triangles[name, 2]
            w1, w2 = bary[y, x, 0], bary[y, x, 1]
            w0 = 1 - w1 - w2
            for i in range(3):
                n[i] = w0 * normals[a, i] + w1 * normals[b, i] + w2 * normals[c3, i]
                p[i] = w0 * points[a, i] + w1 * points[b, i] + w2 * points[c3, i]
                view[i] = eye[i] - p[i]
            for i in range(8):
                att[i] = w0 * attributes[a, i] + w1 * attributes[b, i] + w2 * attributes[c3, i]
            for q in range(lights):
                reach[q] = w0 * lit[a, q] + w1 * lit[b, q] + w2 * lit[c3, q]
            far = 1 / np.sqrt(view[0] ** 2 + view[1] ** 2 + view[2] ** 2)
            length = 1 / np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2 + np.float32(1e-12))
            for i in range(3):
                n[i] *= length
                view[i] *= far
            if n[0] * view[0] + n[1] * view[1] + n[2] * view[2] < 0 and material[name] >= surfaces.CLOTH:
                for i in range(3):
                    n[i] = -n[i]
            kind = material[name]
            air = att[surfaces.OCCLUSION]
            gloss, power, wrap = np.float32(0), np.float32(30), np.float32(0)
            part = surfaces.SKIN_PART
            if kind == surfaces.SKIN:
                wrap = np.float32(1)
                _fetch(skin, att[surfaces.COORDINATE_U], att[surfaces.COORDINATE_V], sample)
                lip, inside = att[surfaces.LIPS], att[surfaces.MOUTH]
                lip = min(np.float32(1), max(np.float32(0), (lip - np.float32(0.25)) * 2))
                inside = min(np.float32(1), max(np.float32(0), inside * 2 - np.float32(0.6)))
                gloss = sample[5] * np.float32(0.22)
                grain = np.float32(0.85) + np.float32(0.15) * (
                    sample[0] / (sample[1] + np.float32(1e-3))
                ) / np.float32(1.7)
                for c in range(3):
                    albedo[c] = sample[c] + lip * (paint[surfaces.LIP_PAINT, c] * grain - sample[c])
                    albedo[c] += inside * (paint[surfaces.MOUTH_PAINT, c] - albedo[c])
                gloss += lip * (paint[surfaces.LIP_GLOSS, 0] * np.float32(0.2) - gloss)
                power += lip * 30
                # Slopes of the texture bend the normal along the cylinder's axes.
                tx, ty, tz = (
                    up[1] * n[2] - up[2] * n[1],
                    up[2] * n[0] - up[0] * n[2],
                    up[0] * n[1] - up[1] * n[0],
                )
                tl = 1 / np.sqrt(tx * tx + ty * ty + tz * tz + np.float32(1e-6))
                tx, ty, tz = tx * tl, ty * tl, tz * tl
                bx, by, bz = n[1] * tz - n[2] * ty, n[2] * tx - n[0] * tz, n[0] * ty - n[1] * tx
                du, dv = sample[3] * (1 + lip), sample[4]
                n[0] += du * tx - dv * bx
                n[1] += du * ty - dv * by
                n[2] += du * tz - dv * bz
                length = 1 / np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2)
                for i in range(3):
                    n[i] *= length
                if lip > np.float32(0.5):
                    part = surfaces.LIP_PART
                if inside > np.float32(0.5):
                    part = surfaces.MOUTH_PART
                    air *= np.float32(0.15) + openness
                    for q in range(lights):
                        reach[q] *= air
            elif kind == surfaces.EYE:
                part = surfaces.EYE_PART
                wrap, gloss, power = np.float32(0.6), np.float32(1.2), np.float32(350)
                lx, ly, lz = att[surfaces.LOCAL_X], att[surfaces.LOCAL_Y], att[surfaces.LOCAL_Z]
                angle = np.arctan2(np.sqrt(lx * lx + ly * ly), -lz) / IRIS_ANGLE
                turn = np.arctan2(ly, lx)
                rays = np.float32(0.75) + np.float32(0.25) * np.sin(
                    turn * 23 + 4 * np.sin(turn * 7)
                ) * np.sin(turn * 41 + 9 * angle)
                white = min(np.float32(1), max(np.float32(0), (angle - np.float32(0.93)) * 8))
                rim = min(np.float32(1), max(np.float32(0), (angle - np.float32(0.62)) * 3))
                hole = min(np.float32(1), max(np.float32(0), (paint[surfaces.PUPIL, 0] - angle) * 12))
                for c in range(3):
                    colour = paint[surfaces.IRIS, c] * rays * (np.float32(1.3) - np.float32(0.4) * ly)
                    colour += rim * (paint[surfaces.IRIS_RIM, c] - colour)
                    colour += hole * (np.float32(0.006) - colour)
                    pink = (
                        np.float32(1)
                        if c == 0
                        else np.float32(1) - np.float32(0.14) * max(np.float32(0), angle - np.float32(1.2))
                    )
                    albedo[c] = colour + white * (paint[surfaces.SCLERA, c] * pink - colour)
            elif kind in (surfaces.TEETH, surfaces.TONGUE):
                part = surfaces.MOUTH_PART
                air *= np.float32(0.9) + np.float32(0.3) * openness
                for q in range(lights):  # shadow maps are too coarse for what lies just behind the lips
                    reach[q] = air * (np.float32(0.6) + np.float32(0.4) * reach[q])
                if kind == surfaces.TEETH:
                    wrap, gloss, power = np.float32(0.5), np.float32(0.2), np.float32(50)
                    place = att[surfaces.COORDINATE_U] * TEETH_COUNT
                    # Real arches have wide middle incisors: squeeze the coordinate towards the sides.
                    seam = abs(place - np.floor(place) - np.float32(0.5)) * 2
                    gap = min(np.float32(1), max(np.float32(0), (seam - np.float32(0.78)) * 4)) * np.float32(
                        0.55
                    )
                    gum = min(
                        np.float32(1),
                        max(
                            np.float32(0),
                            (att[surfaces.COORDINATE_V] - np.float32(0.62) - np.float32(0.1) * seam) * 12,
                        ),
                    )
                    for c in range(3):
                        albedo[c] = (
                            paint[surfaces.TEETH_PAINT, c]
                            * (1 - gap)
                            * (np.float32(0.92) + np.float32(0.08) * (1 - seam * seam))
                        )
                        albedo[c] += gum * (paint[surfaces.TONGUE_PAINT, c] - albedo[c])
                else:
                    wrap, gloss, power = np.float32(1), np.float32(0.35), np.float32(40)
                    for c in range(3):
                        albedo[c] = paint[surfaces.TONGUE_PAINT, c]
            elif kind == surfaces.CLOTH:
                part = surfaces.CLOTH_PART
                which = int(att[surfaces.WHICH] + np.float32(0.5))
                gloss, power, wrap = gloss_of[which], np.float32(12), np.float32(0.3)
                tile_u, tile_v = (
                    att[surfaces.COORDINATE_U] - np.floor(att[surfaces.COORDINATE_U]),
                    att[surfaces.COORDINATE_V] - np.floor(att[surfaces.COORDINATE_V]),
                )
                _fetch(cloth[which], tile_u * cloth.shape[2], tile_v * cloth.shape[1], sample)
                for c in range(3):
                    albedo[c] = sample[c]
                n[0] += sample[3]
                n[1] += sample[4]
                length = 1 / np.sqrt(n[0] ** 2 + n[1] ** 2 + n[2] ** 2)
                for i in range(3):
                    n[i] *= length
            else:
                which = int(att[surfaces.WHICH] + np.float32(0.5))
                part = surfaces.GLASSES_PART if which == surfaces.GLASSES else surfaces.CLOTH_PART
                gloss, power = HARD_GLOSS, np.float32(60)
                for c in range(3):
                    albedo[c] = paint[which, c]

            up_share = np.float32(0.5) - np.float32(0.5) * n[1]
            for c in range(3):
                # Light that leaks through bright flesh lifts its creases.
                soft = air * (1 + np.float32(0.6) * (1 - air) * albedo[c] * wrap)
                total[c] = (ambient[0, c] * up_share + ambient[1, c] * (1 - up_share)) * soft
                shine[c] = 0
            for q in range(lights):
                facing = (
                    n[0] * light_direction[q, 0] + n[1] * light_direction[q, 1] + n[2] * light_direction[q, 2]
                )
                bright = np.float32(0)
                if facing > 0 and gloss > 0:
                    hx, hy, hz = (
                        light_direction[q, 0] + view[0],
                        light_direction[q, 1] + view[1],
                        light_direction[q, 2] + view[2],
                    )
                    hl = 1 / np.sqrt(hx * hx + hy * hy + hz * hz + np.float32(1e-9))
                    half = (n[0] * hx + n[1] * hy + n[2] * hz) * hl
                    if half > np.float32(0.7):
                        edge = 1 - max(np.float32(0), (view[0] * hx + view[1] * hy + view[2] * hz) * hl)
                        square = edge * edge
                        fresnel = np.float32(0.04) + np.float32(0.96) * square * square * edge
                        bright = (
                            np.exp(power * np.log(half)) * (power + 8) * np.float32(0.05) * fresnel * gloss
                        )
                for c in range(3):
                    over = wrap * (
                        np.float32(0.35) if c == 0 else (np.float32(0.15) if c == 1 else np.float32(0.08))
                    )
                    diffuse = max(np.float32(0), (facing + over) / (1 + over))
                    total[c] += light_colour[q, c] * reach[q] * diffuse
                    shine[c] += light_colour[q, c] * reach[q] * bright
            if kind == surfaces.EYE:  # the lids shade the ball, and a bright room mirrors in it
                shadow = np.float32(0.45) + np.float32(0.55) * air
                for c in range(3):
                    total[c] *= shadow
            for c in range(3):
                picture[y, x, c] = albedo[c] * total[c] + shine[c]
            parts[y, x] = part
