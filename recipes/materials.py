"""Skin, lips, eyes and teeth of the clip factory's people: colours and procedural textures.

Colours are linear RGB. Skin is painted on a cylinder around the template head: row = height, column = azimuth, so the
same place of the face is the same texel for every person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from avatar.recipes.people import BODY, HeadMesh, Person
from avatar.recipes.render import Screen, draw_triangles

Array = NDArray[np.float32]

ROWS, COLUMNS = 448, 736
TOP, BOTTOM = -0.856, -0.50  # m, template heights of the first and the last row
AXIS = -0.064  # m, z of the cylinder's axis
LIP_LINE = -0.6612  # m, template height where the lips meet
SKIN_TONES = np.float32(  # very pale to very dark
    [
        (0.78, 0.56, 0.46),
        (0.68, 0.44, 0.33),
        (0.56, 0.34, 0.235),
        (0.42, 0.24, 0.155),
        (0.28, 0.145, 0.085),
        (0.155, 0.078, 0.047),
        (0.075, 0.039, 0.026),
        (0.038, 0.022, 0.017),
    ]
)
IRISES = np.float32(
    [(0.05, 0.022, 0.008), (0.10, 0.045, 0.015), (0.17, 0.085, 0.03), (0.13, 0.13, 0.045), (0.13, 0.19, 0.12), (0.16, 0.25, 0.35),
     (0.28, 0.36, 0.42), (0.06, 0.12, 0.22)]
)  # fmt: skip
HAIRS = np.float32(
    [(0.008, 0.007, 0.007), (0.018, 0.012, 0.009), (0.045, 0.024, 0.013), (0.09, 0.045, 0.02), (0.17, 0.09, 0.038), (0.32, 0.19, 0.08),
     (0.5, 0.35, 0.18), (0.26, 0.075, 0.02), (0.22, 0.21, 0.2), (0.5, 0.5, 0.49), (0.75, 0.74, 0.72)]
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours of one person, linear RGB (3,), and what the skin shows, 0 to 1."""

    tone: float
    skin: Array
    lips: Array
    lip_gloss: float
    tongue: Array
    teeth: Array
    sclera: Array
    iris: Array
    iris_rim: Array
    pupil: float
    hair: Array
    brow: Array
    beard: float
    oil: float
    wrinkles: float
    freckles: float
    makeup: float


def draw_look(rng: np.random.Generator, person: Person) -> Look:
    """Random colours; dark skin, eyes and hair go together more often than not."""
    tone = float(np.clip(rng.beta(1.0, 1.4) * 0.75 + 0.3 * person.race[0] + rng.normal(0, 0.04), 0, 1))
    place = tone * (len(SKIN_TONES) - 1)
    low = min(int(place), len(SKIN_TONES) - 2)
    skin = SKIN_TONES[low] + (place - low) * (SKIN_TONES[low + 1] - SKIN_TONES[low])
    skin = skin * np.exp(rng.normal(0, (0.05, 0.05, 0.08)))
    makeup = float(max(0.0, rng.normal(0.2, 0.4))) * (person.gender > 0.5)
    natural = skin * np.float32((0.96, 0.66, 0.66)) * np.exp(rng.normal(0, (0.1, 0.12, 0.12)))
    stick = np.float32(
        rng.choice([(0.42, 0.02, 0.03), (0.5, 0.1, 0.12), (0.3, 0.04, 0.08), (0.45, 0.16, 0.12)])
    )
    lips = natural + (stick * rng.uniform(0.5, 1.1) - natural) * min(makeup, 1.0) * 0.75
    dark = tone > 0.55 or rng.random() < 0.35
    iris = IRISES[rng.integers(0, 3 if dark else len(IRISES))] * np.exp(rng.normal(0, 0.25))
    hair = HAIRS[rng.integers(0, 4 if dark else 8)] * np.exp(rng.normal(0, 0.2, 3) * (1, 0.6, 0.6))
    if rng.random() < np.interp(person.age, (0.6, 1.0), (0.03, 0.85)):
        hair = hair + (HAIRS[rng.integers(8, len(HAIRS))] - hair) * rng.uniform(0.3, 1.0)
    brow = hair * rng.uniform(0.3, 0.9) if hair.max() < 0.25 else hair * rng.uniform(0.15, 0.5)
    enamel = np.float32((0.8, 0.76, 0.68)) * np.float32((1, 1, rng.uniform(0.7, 1.05)))
    return Look(
        tone=tone,
        skin=skin.astype(np.float32),
        lips=lips.astype(np.float32),
        lip_gloss=float(rng.uniform(0.2, 1.0) + 0.5 * makeup),
        tongue=np.float32((0.45, 0.14, 0.13)) * np.float32(np.exp(rng.normal(0, 0.15))),
        teeth=enamel * np.float32(rng.uniform(0.55, 1.0)),
        sclera=np.float32((0.80, 0.75, 0.71)) * np.float32(rng.uniform(0.8, 1.15)),
        iris=iris.astype(np.float32),
        iris_rim=(iris * rng.uniform(0.2, 0.5)).astype(np.float32),
        pupil=float(rng.uniform(0.3, 0.55)),
        hair=hair.astype(np.float32),
        brow=brow.astype(np.float32),
        beard=float(rng.choice([0, rng.uniform(0.1, 0.5), rng.uniform(0.5, 1)]) * (person.gender < 0.5)),
        oil=float(rng.uniform(0.15, 1.0)),
        wrinkles=float(
            np.clip(np.interp(person.age, (0.6, 0.8, 1.0), (0.0, 0.35, 1.0)) + rng.normal(0, 0.15), 0, 1.2)
        ),
        freckles=float(max(0.0, rng.normal(-0.3, 0.6)) * (tone < 0.5)),
        makeup=makeup,
    )


def skin_place(template: Array) -> Array:
    """Texture coordinates (column, row) of template points (..., 3) -> (..., 2) in texels."""
    azimuth = np.arctan2(template[..., 0], AXIS - template[..., 2])
    column = (azimuth / (2 * np.pi) + 0.5) * COLUMNS
    row = (template[..., 1] - TOP) / (BOTTOM - TOP) * ROWS
    return np.stack([column, np.clip(row, 0, ROWS - 1)], -1).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class SkinAtlas:
    """What lies at each texel: template position (ROWS, COLUMNS, 3), lid mask, and tileable noises by size in texels."""

    place: Array
    lids: Array
    noises: dict[int, Array]


def smooth_step(low: float, high: float, x: NDArray) -> NDArray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(maxsize=1)
def noise_bank() -> dict[int, Array]:
    """Tileable Gaussian noises (ROWS, COLUMNS), unit variance, by feature size in texels."""
    rng = np.random.default_rng(7)
    y, x = np.fft.fftfreq(ROWS)[:, None], np.fft.rfftfreq(COLUMNS)[None]
    bank = {}
    for size in (1, 2, 4, 8, 16, 32, 64):
        spectrum = np.fft.rfft2(rng.standard_normal((ROWS, COLUMNS))) * np.exp(
            -2 * (np.pi * size * 0.5) ** 2 * (x**2 + y**2)
        )
        noise = np.fft.irfft2(spectrum, (ROWS, COLUMNS))
        bank[size] = ((noise - noise.mean()) / noise.std()).astype(np.float32)
    return bank


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
    place = (mesh.template[corner] * weight[..., None]).sum(2)
    lids = (mesh.lids[corner] * weight).sum(2)
    columns = np.minimum((np.arange(COLUMNS) * scale).astype(int), ROWS - 1)
    return SkinAtlas(
        place=place[:, columns].astype(np.float32),
        lids=lids[:, columns].astype(np.float32),
        noises=noise_bank(),
    )


def beard_zone(place: Array, lips: Array | float = 0.0) -> tuple[Array, Array]:
    """Where a beard and where a moustache grows on template points (..., 3), each (...) in [0, 1]."""
    x, y, z = np.abs(place[..., 0]), place[..., 1], place[..., 2]
    from_mouth = np.hypot(x / 1.25, (y - LIP_LINE - 0.004))
    upper = np.interp(x, (0, 0.02, 0.035, 0.055, 0.07, 0.09), (-0.640, -0.655, -0.662, -0.668, -0.70, -0.73))
    beard = (
        smooth_step(0, 0.012, y - upper) * smooth_step(0.0, 0.03, -0.592 - y) * smooth_step(-0.045, -0.06, z)
    )
    beard = np.maximum(beard * smooth_step(0.017, 0.026, from_mouth), 0)
    moustache = (
        smooth_step(-0.6835, -0.679, y) * smooth_step(-0.6695, -0.674, y) * smooth_step(0.034, 0.026, x)
    )
    corner = (
        smooth_step(-0.674, -0.668, y)
        * smooth_step(-0.648, -0.655, y)
        * smooth_step(0.027, 0.031, x)
        * smooth_step(0.04, 0.035, x)
    )
    moustache = np.maximum(moustache, corner) * smooth_step(-0.12, -0.13, z)
    free = 1 - np.clip(lips, 0, 1)
    return (beard * free).astype(np.float32), (moustache * free).astype(np.float32)


def paint_skin(
    rng: np.random.Generator, atlas: SkinAtlas, look: Look, scalp: Array, scalp_colour: Array
) -> Array:
    """Skin texture of one person.

    Args:
        rng: source of chance.
        atlas: the unrolled template.
        look: the person's colours.
        scalp: how densely hair covers the skin, (ROWS, COLUMNS).
        scalp_colour: linear RGB of the hair's ground, (3,).

    Returns:
        Linear RGB, slope along the columns and rows (height per texel), gloss: (ROWS, COLUMNS, 6).
    """
    x, y = atlas.place[..., 0], atlas.place[..., 1]
    side = np.abs(x)

    def noise(size: int) -> Array:
        shift = (int(rng.integers(ROWS)), int(rng.integers(COLUMNS)))
        return np.roll(atlas.noises[size], shift, (0, 1))

    def blob(bx: float, by: float, width: float, height: float) -> Array:
        return np.exp(-(((side - bx) / width) ** 2) - ((y - by) / height) ** 2)

    contrast = rng.uniform(0.5, 1.4)
    blood = rng.uniform(0.1, 0.9) * (
        0.30 * blob(0.045, -0.695, 0.02, 0.016) + 0.28 * blob(0, -0.692, 0.012, 0.012) + 0.12 * blob(0, -0.63, 0.02, 0.015)
        + 0.20 * blob(0.088, -0.72, 0.012, 0.05) + 0.15 * atlas.lids
    )  # fmt: skip
    coarse, patch, fine = noise(32), noise(8), noise(2)
    blood = blood + contrast * (0.035 * coarse + 0.035 * patch + 0.03 * fine)
    melanin = contrast * (0.05 * noise(64) + 0.035 * noise(16) + 0.035 * noise(4) + 0.03 * fine)
    melanin = melanin + rng.uniform(0, 0.35) * blob(0.030, -0.712, 0.016, 0.006)  # under the eyes
    melanin = melanin + rng.uniform(-0.1, 0.15) * smooth_step(-0.76, -0.79, y)
    if look.freckles > 0.05:
        spread = blob(0.03, -0.70, 0.035, 0.03) + 0.5 * blob(0, -0.76, 0.05, 0.03) + 0.2
        melanin = melanin + look.freckles * 0.8 * spread * smooth_step(1.3, 2.2, noise(4))
    for _ in range(rng.poisson(3)):
        size = rng.uniform(0.0008, 0.002)
        mole = ((x - rng.uniform(-0.07, 0.07)) ** 2 + (y - rng.uniform(-0.8, -0.58)) ** 2) / size**2
        melanin = melanin + rng.uniform(0.3, 1.2) * np.exp(-mole)
    if look.makeup > 0.3:
        shadow = blob(0.031, -0.737, 0.016, 0.007)
        melanin = melanin + rng.uniform(0, 0.8) * shadow
        blood = blood + rng.uniform(0, 0.5) * blob(0.05, -0.70, 0.018, 0.012)

    height = 0.10 * fine + 0.12 * noise(1) + 0.15 * noise(4)
    lines = np.zeros_like(x)
    if look.wrinkles > 0.05:
        bend = 0.006 * coarse + 0.004 * noise(16)
        forehead = (
            smooth_step(-0.765, -0.772, y) * smooth_step(-0.808, -0.80, y) * smooth_step(0.06, 0.03, side)
        )
        lines = (
            forehead * np.maximum(np.sin((y + 0.25 * bend) * 2 * np.pi / rng.uniform(0.008, 0.012)), 0) ** 6
        )
        crow = (
            blob(0.056, -0.725, 0.009, 0.014)
            * np.maximum(np.sin((y + 0.4 * side + 0.2 * bend) * 2 * np.pi / 0.006), 0) ** 4
        )
        fold_x = 0.019 + 0.42 * (y + 0.688) + 0.3 * bend
        fold = (
            np.exp(-(((side - fold_x) / 0.0016) ** 2))
            * smooth_step(-0.692, -0.684, y)
            * smooth_step(-0.652, -0.66, y)
        )
        bag = np.exp(-(((np.hypot((side - 0.031) / 1.3, y + 0.728) - 0.0165) / 0.0014) ** 2)) * smooth_step(
            -0.722, -0.716, y
        )
        neck = (
            smooth_step(-0.60, -0.59, y) * np.maximum(np.sin((y + 0.6 * bend) * 2 * np.pi / 0.022), 0) ** 12
        )
        lines = look.wrinkles * (0.7 * lines + 0.7 * crow + 1.0 * fold + 0.5 * bag + 0.6 * neck)
    height = height - 2.2 * lines
    melanin = melanin + 0.30 * lines
    colour = look.skin * np.exp(-melanin[..., None] * np.float32((0.75, 1.0, 1.25)))
    colour = colour * np.exp(-np.maximum(blood, -0.3)[..., None] * np.float32((-0.10, 0.75, 0.65)))
    if look.beard > 0:
        beard, moustache = beard_zone(atlas.place)
        growth = np.maximum(beard, moustache) * look.beard * (0.55 + 0.25 * noise(1) + 0.1 * patch)
        growth = np.clip(growth, 0, 0.85)[..., None]
        colour = colour * (1 - growth) + growth * (
            0.35 * look.brow + 0.25 * look.skin * np.float32((0.7, 0.85, 1.0))
        )
    ground = np.clip(scalp * (0.8 + 0.15 * noise(1)), 0, 1)[..., None]
    colour = colour * (1 - ground) + ground * scalp_colour
    gloss = look.oil * (
        0.45 + 0.4 * blob(0, -0.70, 0.012, 0.05) + 0.35 * blob(0, -0.78, 0.05, 0.02) + 0.1 * noise(2)
    )
    gloss = np.clip(gloss, 0.02, 1.5) * (1 - 0.7 * np.clip(scalp, 0, 1))
    bump = rng.uniform(0.15, 0.6)
    slope_x = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) * bump
    slope_y = (np.roll(height, -1, 0) - np.roll(height, 1, 0)) * bump
    out = np.empty((ROWS, COLUMNS, 6), np.float32)
    out[..., :3] = np.clip(colour, 0.002, 0.95)
    out[..., 3], out[..., 4], out[..., 5] = slope_x, slope_y, gloss
    return out
