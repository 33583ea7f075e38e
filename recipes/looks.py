"""Colours of the clip factory's people. All colours are linear RGB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar.recipes.people import Person

Array = NDArray[np.float32]

SKIN_TONES = np.array(  # very pale to very dark
    [
        (0.78, 0.56, 0.46),
        (0.68, 0.44, 0.33),
        (0.56, 0.34, 0.235),
        (0.42, 0.24, 0.155),
        (0.28, 0.145, 0.085),
        (0.155, 0.078, 0.047),
        (0.075, 0.039, 0.026),
        (0.038, 0.022, 0.017),
    ],
    np.float32,
)
TONE_NAMES = ("very pale", "pale", "light", "olive", "brown", "dark brown", "very dark")
IRISES = np.array(  # the first three are brown
    [
        (0.05, 0.022, 0.008),
        (0.10, 0.045, 0.015),
        (0.17, 0.085, 0.03),
        (0.13, 0.13, 0.045),
        (0.13, 0.19, 0.12),
        (0.16, 0.25, 0.35),
        (0.28, 0.36, 0.42),
        (0.06, 0.12, 0.22),
    ],
    np.float32,
)
HAIRS = np.array(  # black to blond, red, then gray to white
    [
        (0.008, 0.007, 0.007),
        (0.018, 0.012, 0.009),
        (0.045, 0.024, 0.013),
        (0.09, 0.045, 0.02),
        (0.17, 0.09, 0.038),
        (0.32, 0.19, 0.08),
        (0.5, 0.35, 0.18),
        (0.26, 0.075, 0.02),
        (0.22, 0.21, 0.2),
        (0.42, 0.42, 0.41),
        (0.62, 0.61, 0.59),
    ],
    np.float32,
)
DARK_HAIRS, COLOURED_HAIRS = 4, 8  # of HAIRS
LIPSTICKS = np.array(
    [(0.42, 0.02, 0.03), (0.5, 0.1, 0.12), (0.3, 0.04, 0.08), (0.45, 0.16, 0.12)], np.float32
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """Colours (3,) of one person, and how much the skin shows, 0 to 1.

    Attributes:
        tone: of the skin, 0 pale to 1 dark.
        pupil: its radius / the iris's.
        beard: how strong the beard grows, shaved or not.
    """

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

    @property
    def tone_name(self) -> str:
        return TONE_NAMES[min(int(self.tone * len(TONE_NAMES)), len(TONE_NAMES) - 1)]


def draw_look(rng: np.random.Generator, person: Person) -> Look:
    """Random colours; dark skin, eyes and hair go together more often than not."""

    def vary(colour: Array, together: float, apart: float = 0.0) -> Array:
        return (colour * np.exp(rng.normal(0, together) + rng.normal(0, apart, 3))).astype(np.float32)

    tone = float(np.clip(rng.beta(1.0, 1.4) * 0.75 + 0.3 * person.race[0] + rng.normal(0, 0.04), 0, 1))
    place = tone * (len(SKIN_TONES) - 1)
    low = min(int(place), len(SKIN_TONES) - 2)
    skin = vary(SKIN_TONES[low] + (place - low) * (SKIN_TONES[low + 1] - SKIN_TONES[low]), 0.05, 0.05)
    makeup = float(max(0.0, rng.normal(0.2, 0.4))) * (person.gender > 0.5)
    natural = vary(skin * np.array((0.96, 0.66, 0.66), np.float32), 0.06, 0.08)
    stick = vary(LIPSTICKS[rng.integers(len(LIPSTICKS))], 0.3)
    dark = tone > 0.55 or rng.random() < 0.35
    iris = vary(IRISES[rng.integers(0, 3 if dark else len(IRISES))], 0.25)
    hair = vary(HAIRS[rng.integers(0, DARK_HAIRS if dark else COLOURED_HAIRS)], 0.25, 0.05)
    if rng.random() < np.interp(person.age, (0.6, 1.0), (0.03, 0.85)):
        hair = hair + (HAIRS[rng.integers(COLOURED_HAIRS, len(HAIRS))] - hair) * rng.uniform(0.3, 1.0)
    brow = hair * (rng.uniform(0.3, 0.9) if hair.max() < 0.25 else rng.uniform(0.15, 0.5))
    enamel = np.array((0.8, 0.76, 0.68), np.float32) * np.array((1, 1, rng.uniform(0.7, 1.05)), np.float32)
    wrinkles = np.interp(person.age, (0.6, 0.8, 1.0), (0.0, 0.35, 1.0)) + rng.normal(0, 0.15)
    return Look(
        tone=tone,
        skin=skin,
        lips=(natural + (stick - natural) * min(makeup, 1.0) * 0.75).astype(np.float32),
        lip_gloss=float(rng.uniform(0.2, 1.0) + 0.5 * makeup),
        tongue=vary(np.array((0.45, 0.14, 0.13), np.float32), 0.15),
        teeth=(enamel * rng.uniform(0.7, 1.1)).astype(np.float32),
        sclera=(np.array((0.80, 0.75, 0.71), np.float32) * rng.uniform(0.8, 1.15)).astype(np.float32),
        iris=iris,
        iris_rim=(iris * rng.uniform(0.2, 0.5)).astype(np.float32),
        pupil=float(rng.uniform(0.3, 0.55)),
        hair=hair.astype(np.float32),
        brow=brow.astype(np.float32),
        beard=float(rng.choice([0, rng.uniform(0.1, 0.5), rng.uniform(0.5, 1)]) * (person.gender < 0.5)),
        oil=float(rng.uniform(0.15, 1.0)),
        wrinkles=float(np.clip(wrinkles, 0, 1.2)),
        freckles=float(max(0.0, rng.normal(-0.3, 0.6)) * (tone < 0.5)),
        makeup=makeup,
    )
