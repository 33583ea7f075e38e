"""Haircuts of the clip factory's people, and where on the head hair grows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from avatar.recipes.people import Person
from avatar.recipes.skin import AXIS, smooth_step

Array = NDArray[np.float32]

HAIRLINE = (  # azimuth in degrees from the front, template height of the hair's border
    (0, 25, 40, 52, 62, 70, 78, 86, 96, 108, 122, 140, 180),
    (-0.796, -0.797, -0.790, -0.775, -0.752, -0.733, -0.712, -0.712, -0.757, -0.715, -0.668, -0.650, -0.640),
)


@dataclass(frozen=True, kw_only=True)
class Style:
    """A haircut. Lengths in metres.

    Attributes:
        name: for the clip's description.
        top, sides, back: lengths of strands by where they grow.
        lift: how far hair stands off the head.
        comb: main direction in view axes before it is laid on the head.
        parting: x of the parting when hair falls to both sides, None to comb all one way.
        fall: weight of gravity, 0 to 1.
        wave: radius of waves, and how many fit on a strand, 0 to 1.
        clump: how much strands gather into locks, 0 to 1.
        fringe: length of hair that falls over the forehead, 0 for none.
        recede: how far the hairline has moved back.
        crown: radius of a bald crown.
        bun: radius of a knot in the direction of `comb`, 0 for none.
    """

    name: str
    top: float = 0.0
    sides: float = 0.0
    back: float = 0.0
    lift: float = 0.0
    comb: tuple[float, float, float] = (0.0, 0.0, 1.0)
    parting: float | None = None
    fall: float = 0.3
    wave: tuple[float, float] = (0.0, 0.0)
    clump: float = 0.5
    fringe: float = 0.0
    recede: float = 0.0
    crown: float = 0.0
    bun: float = 0.0


def _cut(name: str, lengths: tuple[float, float, float], lift: float, **rest: object) -> Style:
    return Style(name=name, top=lengths[0], sides=lengths[1], back=lengths[2], lift=lift, **rest)  # type: ignore[arg-type]


SIDES, OUT = (1.0, 0.2, 0.2), (0.0, 0.0, 0.0)
CUTS = (
    Style(name="bald"),
    _cut("buzz", (0.006, 0.004, 0.004), 0.004, comb=(0, -0.3, -0.5), clump=0.0, fall=0.0),
    _cut("crew", (0.022, 0.008, 0.008), 0.014, comb=(0, -0.8, -0.4), clump=0.3, fall=0.0),
    _cut("swept back", (0.08, 0.05, 0.05), 0.014, comb=(0, -0.1, 1), fall=0.1),
    _cut("side part", (0.08, 0.025, 0.03), 0.016, comb=(1, 0, 0.25), parting=0.03, fall=0.15),
    _cut("quiff", (0.06, 0.012, 0.015), 0.035, comb=(0, -1.0, 0.2), fall=0.0),
    _cut("fringe", (0.07, 0.05, 0.05), 0.016, comb=(0.2, 0, -1), fall=0.35, fringe=0.05),
    _cut("tousled", (0.07, 0.04, 0.05), 0.028, comb=(0.4, -0.3, -0.5), wave=(0.006, 0.25)),
    _cut("curly", (0.10, 0.09, 0.10), 0.045, comb=(0, -0.3, 0.2), wave=(0.009, 0.6), clump=0.85),
    _cut("afro", (0.07, 0.065, 0.07), 0.07, comb=OUT, wave=(0.007, 1.2), fall=0.0, clump=0.0),
    _cut("short curls", (0.03, 0.02, 0.02), 0.025, comb=OUT, wave=(0.005, 0.5), fall=0.0, clump=0.2),
    _cut("pixie", (0.06, 0.045, 0.03), 0.018, comb=(0.7, 0.2, -0.5), fall=0.3, fringe=0.045),
    _cut("bob", (0.22, 0.17, 0.13), 0.02, comb=SIDES, parting=0.0, fall=0.8),
    _cut("bob with fringe", (0.22, 0.17, 0.13), 0.02, comb=SIDES, parting=0.0, fall=0.8, fringe=0.065),
    _cut("wavy bob", (0.22, 0.18, 0.14), 0.03, comb=SIDES, parting=0.02, fall=0.7, wave=(0.009, 0.35)),
    _cut("long", (0.42, 0.38, 0.34), 0.016, comb=SIDES, parting=0.0, fall=0.85),
    _cut("long with fringe", (0.42, 0.38, 0.34), 0.016, comb=SIDES, parting=0.0, fall=0.85, fringe=0.07),
    _cut("long wavy", (0.42, 0.38, 0.34), 0.025, comb=SIDES, parting=0.02, fall=0.8, wave=(0.010, 0.45)),
    _cut("shoulder curls", (0.26, 0.24, 0.24), 0.04, comb=SIDES, parting=0.01, fall=0.6, wave=(0.012, 0.9),
         clump=0.9),
    _cut("tied back", (0.22, 0.2, 0.14), 0.006, comb=(0, 0.3, 1), fall=0.0, clump=0.3, bun=0.03),
    _cut("bun", (0.2, 0.2, 0.16), 0.006, comb=(0, -1, 0.5), fall=0.0, clump=0.3, bun=0.04),
    _cut("balding", (0.02, 0.025, 0.025), 0.012, comb=(0, 0.2, 1), recede=0.03, crown=0.075),
    _cut("long balding", (0.06, 0.06, 0.06), 0.02, comb=(0, 0.3, 1), recede=0.035, crown=0.07),
)  # fmt: skip
STYLES = {style.name: style for style in CUTS}
MEN = {
    "bald": 1, "buzz": 1, "crew": 3, "swept back": 1, "side part": 3, "quiff": 1, "fringe": 1, "tousled": 1.5,
    "curly": 1, "afro": 0.6, "short curls": 1.5, "balding": 2, "long balding": 0.7, "bob": 0.4, "long": 0.7,
    "tied back": 0.7,
}  # fmt: skip
WOMEN = {
    "buzz": 0.3, "crew": 0.5, "pixie": 1.5, "side part": 0.7, "fringe": 0.7, "tousled": 0.7, "curly": 1,
    "afro": 0.7, "short curls": 1, "bob": 2, "bob with fringe": 1.5, "wavy bob": 2, "long": 2,
    "long with fringe": 1, "long wavy": 2.5, "shoulder curls": 1.5, "tied back": 2, "bun": 1.5,
    "swept back": 0.6,
}  # fmt: skip
"""How often men and women wear a cut."""


def draw_style(rng: np.random.Generator, person: Person) -> Style:
    """A random haircut that people of this age and gender wear."""
    share = MEN if person.gender < 0.5 else WOMEN
    chance = np.array(list(share.values()))
    name = str(rng.choice(list(share), p=chance / chance.sum()))
    if person.age < 0.7 and STYLES[name].crown and rng.random() < 0.8:
        name = "crew"
    style, scale = STYLES[name], float(np.exp(rng.normal(0, 0.2)))
    comb = np.array(style.comb)
    if style.parting is None:
        comb = comb + rng.normal(0, (0.3, 0.1, 0.1)) * bool(style.fall)
    wave = style.wave
    if wave[0] == 0 and rng.random() < 0.4:
        wave = (float(rng.uniform(0, 0.004)), float(rng.uniform(0.1, 0.4)))
    parting = style.parting
    if parting is not None:
        parting = parting * float(rng.choice([-1, 1])) + float(rng.normal(0, 0.006))
    return replace(
        style,
        top=style.top * scale,
        sides=style.sides * scale * float(rng.uniform(0.8, 1.2)),
        back=style.back * scale,
        lift=style.lift * float(rng.uniform(0.7, 1.3)),
        comb=(float(comb[0]), float(comb[1]), float(comb[2])),
        parting=parting,
        wave=wave,
        clump=float(np.clip(style.clump + rng.normal(0, 0.2), 0, 1)),
        recede=style.recede + float(max(0, rng.normal(0.0, 0.006))),
    )


def azimuth_degrees(template: Array) -> Array:
    """How far to the side of the face template points (..., 3) lie: 0 in front, 180 behind."""
    return np.degrees(np.abs(np.arctan2(template[..., 0], AXIS - template[..., 2])))


def scalp_density(template: Array, style: Style) -> Array:
    """How densely hair grows on template points (..., 3), (...) in [0, 1]."""
    if style.top == 0:
        return np.zeros(template.shape[:-1], np.float32)
    x, y, z = template[..., 0], template[..., 1], template[..., 2]
    azimuth = azimuth_degrees(template)
    border = np.interp(azimuth, *HAIRLINE) - style.recede * smooth_step(75, 40, azimuth)
    ragged = 0.0015 * np.sin(azimuth * 1.1) + 0.001 * np.sin(x * 900)
    density = smooth_step(0.004, -0.006, y - border + ragged)
    density = density * ((np.hypot(x, z - AXIS) > 0.045) | (y < -0.78))  # not in the throat
    if style.crown:
        away = np.hypot(x, (z + 0.075) / 1.15) + 2 * np.maximum(y + 0.80, 0)
        density = density * smooth_step(style.crown * 0.85, style.crown * 1.1, away)
    return density.astype(np.float32)
