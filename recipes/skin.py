"""Procedural skin: pores, blush, freckles, moles, wrinkles, stubble, on a cylinder around the template head.

Row = height, column = azimuth, so the same place of the face is the same texel for every person. "Template"
means the
positions of `HeadMesh.template`, view axes, metres.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from avatar.recipes.looks import Look
from avatar.recipes.people import BODY, HeadMesh
from avatar.recipes.render import Screen, draw_triangles

Array = NDArray[np.float32]

ROWS, COLUMNS = 448, 736
TOP, BOTTOM = -0.856, -0.50  # m, heights of the first and the last row
AXIS = -0.064  # m, z of the cylinder's axis
LIP_LINE = -0.6612  # m, height where the lips meet
NOISE_SIZES = (1, 2, 4, 8, 16, 32, 64)  # texels
SPOTS = {  # x, y, width, height of soft spots on both halves of the face, m
    "cheek": (0.045, -0.695, 0.020, 0.016),
    "rouge": (0.050, -0.700, 0.018, 0.012),
    "nose": (0.0, -0.692, 0.012, 0.012),
    "bridge": (0.0, -0.700, 0.012, 0.050),
    "chin": (0.0, -0.630, 0.020, 0.015),
    "ear": (0.088, -0.720, 0.012, 0.050),
    "eye bag": (0.030, -0.712, 0.016, 0.006),
    "lid": (0.031, -0.737, 0.016, 0.007),
    "freckled": (0.030, -0.700, 0.035, 0.030),
    "forehead": (0.0, -0.780, 0.050, 0.020),
    "crow's feet": (0.056, -0.725, 0.009, 0.014),
}


@dataclass(frozen=True, kw_only=True)
class SkinAtlas:
    """What lies at each texel (ROWS, COLUMNS): the template position (.., 3), the lids, SPOTS and beard
    zones by name.
    """

    place: Array
    lids: Array
    spots: dict[str, Array]
    growth: Array


def skin_place(template: Array) -> Array:
    """Texture coordinates (column, row) of template points (..., 3) -> (..., 2) in texels."""
    azimuth = np.arctan2(template[..., 0], AXIS - template[..., 2])
    column = (azimuth / (2 * np.pi) + 0.5) * (COLUMNS - 2)
    row = (template[..., 1] - TOP) / (BOTTOM - TOP) * ROWS
    return np.stack([column, np.clip(row, 0, ROWS - 2)], -1).astype(np.float32)


def smooth_step(low: float, high: float, x: NDArray) -> NDArray:
    """0 below `low`, 1 above `high`, smooth between; falls when high < low."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(maxsize=1)
def noise_bank() -> dict[int, Array]:
    """Tileable Gaussian noises (ROWS, COLUMNS), unit variance, by feature size in texels."""
    rng = np.random.default_rng(7)
    frequency = np.fft.fftfreq(ROWS)[:, None] ** 2 + np.fft.rfftfreq(COLUMNS)[None] ** 2
    bank = {}
    for size in NOISE_SIZES:
        spectrum = np.fft.rfft2(rng.standard_normal((ROWS, COLUMNS)))
        noise = np.fft.irfft2(spectrum * np.exp(-2 * (np.pi * size * 0.5) ** 2 * frequency), (ROWS, COLUMNS))
        bank[size] = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return bank


def beard_zone(place: Array) -> tuple[Array, Array]:
    """Where a beard and where a moustache grows on template points (..., 3), each (...) in [0, 1]."""
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    from_mouth = np.hypot(x / 1.25, (y - LIP_LINE - 0.004))
    upper = np.interp(x, (0, 0.02, 0.035, 0.055, 0.07, 0.09), (-0.640, -0.655, -0.662, -0.668, -0.70, -0.73))
    beard = smooth_step(0, 0.012, y - upper) * smooth_step(0, 0.03, -0.592 - y)
    beard = beard * smooth_step(-0.045, -0.06, z) * smooth_step(0.017, 0.026, from_mouth)
    above = smooth_step(-0.6835, -0.679, y) * smooth_step(-0.6695, -0.674, y) * smooth_step(0.034, 0.026, x)
    corner = smooth_step(-0.674, -0.668, y) * smooth_step(-0.648, -0.655, y)
    corner = corner * smooth_step(0.027, 0.031, x) * smooth_step(0.04, 0.035, x)
    moustache = np.maximum(above, corner) * smooth_step(-0.12, -0.13, z)
    return beard.astype(np.float32), moustache.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class BrowShape:
    """Where the eyebrows are on the template: both ends' distance from the middle of the face, metres, and
    their bow.
    """

    inner: float
    outer: float
    lift: float
    thick: float
    arch: float

    def at(self, x: Array) -> tuple[Array, Array]:
        """Height of the brow's middle and half its thickness at distances x from the middle of the face."""
        s = np.clip((x - self.inner) / (self.outer - self.inner), 0, 1)
        middle = -0.7475 - self.lift - self.arch * np.sin(np.clip(s * 1.25, 0, 1) * np.pi * 0.75)
        half = self.thick * np.interp(s, (0, 0.1, 0.6, 1.0), (0.55, 1.0, 0.8, 0.18))
        return middle + 0.02 * np.maximum(s - 0.7, 0), half

    def shadow(self, place: Array) -> Array:
        """How much of the brow's colour the skin under it takes, at template points (..., 3), (...)."""
        x = np.abs(place[..., 0])
        middle, half = self.at(x)
        ends = smooth_step(self.inner - 0.002, self.inner + 0.003, x) * smooth_step(
            self.outer, self.outer - 0.006, x
        )
        across = smooth_step(1.25, 0.5, np.abs(place[..., 1] - middle) / half)
        return (across * ends * (place[..., 2] < -0.1)).astype(np.float32)


def draw_brow_shape(rng: np.random.Generator) -> BrowShape:
    return BrowShape(
        inner=float(rng.uniform(0.010, 0.014)),
        outer=float(rng.uniform(0.049, 0.055)),
        lift=float(rng.uniform(-0.001, 0.004)),
        thick=float(rng.uniform(0.0022, 0.0052)),
        arch=float(rng.uniform(0.001, 0.006)),
    )


def make_atlas(mesh: HeadMesh) -> SkinAtlas:
    """Unroll the template's outer surface on the cylinder."""
    at = skin_place(mesh.template)
    radius = np.hypot(mesh.template[:, 0], mesh.template[:, 2] - AXIS)
    body = mesh.triangles[mesh.part == BODY]
    outer = (mesh.mouth[body].max(1) < 0.5) & (np.ptp(at[body, 0], axis=1) < COLUMNS / 2)
    scale = ROWS / COLUMNS  # the screen is square
    points = np.stack([at[:, 0] * scale, at[:, 1], 1 - radius], 1).astype(np.float32)
    screen = Screen.empty(ROWS)
    draw_triangles(points, body[outer], np.ones(int(outer.sum()), bool), screen.ids, screen.z, screen.bary)
    corner = body[outer][screen.ids.clip(0)]
    weight = np.stack([1 - screen.bary.sum(-1), screen.bary[..., 0], screen.bary[..., 1]], -1)
    columns = np.minimum((np.arange(COLUMNS) * scale).astype(int), ROWS - 1)
    place = (mesh.template[corner] * weight[..., None]).sum(2)[:, columns].astype(np.float32)
    side, y = np.abs(place[..., 0]), place[..., 1]
    spots = {
        name: np.exp(-(((side - sx) / width) ** 2) - ((y - sy) / height) ** 2).astype(np.float32)
        for name, (sx, sy, width, height) in SPOTS.items()
    }
    return SkinAtlas(
        place=place,
        lids=(mesh.lids[corner] * weight).sum(2)[:, columns].astype(np.float32),
        spots=spots,
        growth=np.maximum(*beard_zone(place)),
    )


def draw_wrinkles(rng: np.random.Generator, atlas: SkinAtlas, bend: Array) -> Array:
    """How deep the skin is folded, (ROWS, COLUMNS); `bend` shifts the lines, metres."""
    side, y = np.abs(atlas.place[..., 0]), atlas.place[..., 1]

    def lines(phase: Array, period: float, sharpness: int) -> Array:
        return np.maximum(np.sin(phase * np.float32(2 * np.pi / period)), 0) ** sharpness

    forehead = smooth_step(-0.765, -0.772, y) * smooth_step(-0.808, -0.80, y) * smooth_step(0.06, 0.03, side)
    brow = forehead * lines(y + 0.25 * bend, rng.uniform(0.008, 0.012), 6)
    crow = atlas.spots["crow's feet"] * lines(y + 0.4 * side + 0.2 * bend, 0.006, 4)
    nasolabial = 0.019 + 0.42 * (y + 0.688) + 0.3 * bend
    fold = np.exp(-(((side - nasolabial) / 0.0016) ** 2))
    fold = fold * smooth_step(-0.692, -0.684, y) * smooth_step(-0.652, -0.66, y)
    around_eye = np.hypot((side - 0.031) / 1.3, y + 0.728) - 0.0165
    bag = np.exp(-((around_eye / 0.0014) ** 2)) * smooth_step(-0.722, -0.716, y)
    neck = smooth_step(-0.60, -0.59, y) * lines(y + 0.6 * bend, 0.022, 12)
    return (0.7 * brow + 0.7 * crow + fold + 0.5 * bag + 0.6 * neck).astype(np.float32)


@njit(cache=True, fastmath=True, error_model="numpy")
def _blend(
    melanin: Array,
    blood: Array,
    growth: Array,
    scalp: Array,
    shine: Array,
    height: Array,
    colours: Array,
    out: Array,
) -> None:
    """Colour, slopes, gloss from the layers (ROWS, COLUMNS); `colours` are skin, beard, ground (3, 3)."""
    rows, columns = melanin.shape
    for r in range(rows):
        for c in range(columns):
            m, b = melanin[r, c], max(blood[r, c], np.float32(-0.3))
            g = min(max(growth[r, c], np.float32(0)), np.float32(0.85))
            s = min(max(scalp[r, c], np.float32(0)), np.float32(1))
            absorbed = (
                np.float32(0.75) * m - np.float32(0.10) * b,
                m + np.float32(0.75) * b,
                np.float32(1.25) * m + np.float32(0.65) * b,
            )
            for k in range(3):
                value = colours[0, k] * np.exp(-absorbed[k])
                value += g * (colours[1, k] - value)
                value += s * (colours[2, k] - value)
                out[r, c, k] = min(max(value, np.float32(0.002)), np.float32(0.95))
            out[r, c, 3] = height[r, (c + 1) % columns] - height[r, c - 1]
            out[r, c, 4] = height[(r + 1) % rows, c] - height[r - 1, c]
            out[r, c, 5] = min(max(shine[r, c], np.float32(0.02)), np.float32(1.5)) * (
                1 - np.float32(0.7) * s
            )


def paint_skin(
    rng: np.random.Generator,
    atlas: SkinAtlas,
    look: Look,
    brows: BrowShape,
    scalp: Array,
    scalp_colour: Array,
) -> Array:
    """Skin texture of one person.

    Args:
        rng: source of chance.
        atlas: the unrolled template.
        look, brows: the person's.
        scalp: how densely hair covers the skin, (ROWS, COLUMNS).
        scalp_colour: linear RGB of the hair's ground, (3,).

    Returns:
        Linear RGB, slopes along columns and rows, gloss: (ROWS, COLUMNS, 6).
    """
    spots = atlas.spots

    def chance(low: float, high: float) -> np.float32:
        return np.float32(rng.uniform(low, high))

    def noise(size: int) -> Array:
        shift = (int(rng.integers(ROWS)), int(rng.integers(COLUMNS)))
        return np.roll(noise_bank()[size], shift, (0, 1))

    contrast = chance(0.5, 1.4)
    coarse, patch, fine, pores = noise(32), noise(8), noise(2), noise(1)
    blood = 0.20 * spots["cheek"] + 0.22 * spots["nose"] + 0.12 * spots["chin"] + 0.20 * spots["ear"]
    blood = chance(0.1, 0.9) * (blood + 0.15 * atlas.lids)
    blood += contrast * (0.035 * coarse + 0.035 * patch + 0.03 * fine)
    blotch = noise(4)
    melanin = contrast * (0.05 * noise(64) + 0.035 * noise(16) + 0.035 * blotch + 0.03 * fine)
    melanin += chance(0, 0.35) * spots["eye bag"] + chance(-0.1, 0.15) * spots["forehead"]
    if look.freckles > 0.05:
        spread = spots["freckled"] + 0.5 * spots["forehead"] + 0.2
        melanin += np.float32(look.freckles * 0.8) * spread * smooth_step(1.3, 2.2, noise(4))
    for _ in range(rng.poisson(3)):
        place = np.array([rng.uniform(-0.07, 0.07), rng.uniform(-0.8, -0.58)])
        row = int((place[1] - TOP) / (BOTTOM - TOP) * ROWS)
        rows = slice(max(0, row - 10), row + 10)
        away = ((atlas.place[rows, :, :2] - place) ** 2).sum(-1) / rng.uniform(0.0008, 0.002) ** 2
        melanin[rows] += chance(0.3, 1.2) * np.exp(-away)
    if look.makeup > 0.3:
        melanin += chance(0, 0.8) * spots["lid"]
        blood += chance(0, 0.3) * spots["rouge"]
    height = 0.10 * fine + 0.12 * pores + 0.15 * blotch
    if look.wrinkles > 0.05:
        folds = np.float32(look.wrinkles) * draw_wrinkles(rng, atlas, 0.006 * coarse + 0.003 * patch)
        height -= 2.2 * folds
        melanin += 0.30 * folds
    growth = atlas.growth * np.float32(look.beard) * (0.55 + 0.25 * pores + 0.1 * patch)
    rows = slice(int(0.2 * ROWS), int(0.4 * ROWS))
    growth[rows] = np.maximum(growth[rows], 0.6 * brows.shadow(atlas.place[rows]))
    beard_colour = 0.35 * look.brow + 0.25 * look.skin * np.array((0.7, 0.85, 1.0), np.float32)
    shine = np.float32(look.oil) * (0.45 + 0.4 * spots["bridge"] + 0.35 * spots["forehead"] + 0.1 * fine)
    out = np.empty((ROWS, COLUMNS, 6), np.float32)
    colours = np.stack([look.skin, beard_colour, scalp_colour]).astype(np.float32)
    ground = (scalp * (0.8 + 0.15 * pores)).astype(np.float32)
    _blend(melanin, blood, growth, ground, shine, height * chance(0.15, 0.6), colours, out)
    return out
