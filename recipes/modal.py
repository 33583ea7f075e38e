"""Struck things by modal synthesis: a body is a set of decaying modes that a blow excites.

Every material has its band of pitches, its damping and the time that a blow stays in contact, which is what
the ear tells materials by. Rayleigh's damping: high modes die sooner. Some materials are kept for evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]
RATE = 22_050  # Hz
BAR = (1.0, 2.756, 5.404, 8.933, 13.345, 18.638)  # a free bar's modes
MEMBRANE = (1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.501, 3.600, 4.060)  # a drumhead's
PLATE = (1.0, 1.73, 2.33, 2.91, 3.87, 4.11, 5.06, 5.94, 6.3, 7.7, 8.1, 9.4, 10.8, 12.2)


@dataclass(frozen=True)
class Material:
    """How a material sounds and looks.

    Attributes:
        pitch: lowest and highest frequency of the first mode of a body of usual size, Hz.
        decay: time in which the first mode falls by 60 dB, s.
        damping: how much faster modes die at 1 kHz above the first, relative.
        contact: of a blow, ms; a longer one is duller.
        click: level of the noise of the blow itself.
        colour: RGB.
    """

    family: str
    ratios: tuple[float, ...]
    pitch: tuple[float, float]
    decay: float
    damping: float
    contact: float
    click: float
    colour: tuple[int, int, int]


MATERIALS = {
    "pine": Material("wooden", BAR, (260, 520), 0.16, 1.2, 1.0, 0.30, (205, 165, 105)),
    "oak": Material("wooden", BAR, (170, 340), 0.22, 1.0, 0.9, 0.25, (150, 105, 60)),
    "walnut": Material("wooden", BAR, (210, 420), 0.19, 1.1, 0.8, 0.25, (100, 65, 40)),
    "bamboo": Material("wooden", BAR, (300, 600), 0.20, 0.9, 0.8, 0.35, (190, 170, 90)),
    "steel": Material("metal", PLATE, (500, 1200), 1.6, 0.03, 0.2, 0.10, (165, 170, 180)),
    "brass": Material("metal", PLATE, (380, 900), 2.2, 0.05, 0.3, 0.08, (195, 160, 70)),
    "iron": Material("metal", PLATE, (320, 800), 0.9, 0.10, 0.3, 0.15, (90, 92, 98)),
    "tin": Material("metal", PLATE, (450, 1100), 0.7, 0.08, 0.25, 0.20, (190, 192, 195)),
    "glass": Material("glass", PLATE, (1300, 2600), 0.5, 0.05, 0.15, 0.12, (185, 220, 225)),
    "crystal": Material("glass", PLATE, (1500, 2800), 0.8, 0.03, 0.12, 0.08, (215, 230, 240)),
    "plastic": Material("plastic", BAR, (320, 900), 0.08, 1.5, 0.8, 0.40, (210, 60, 60)),
    "vinyl": Material("plastic", BAR, (260, 700), 0.10, 1.4, 1.1, 0.35, (70, 110, 200)),
    "rubber": Material("rubber", MEMBRANE, (85, 190), 0.11, 2.5, 4.0, 0.15, (200, 90, 45)),
    "latex": Material("rubber", MEMBRANE, (110, 230), 0.09, 2.2, 3.2, 0.15, (60, 60, 60)),
    "granite": Material("stone", PLATE, (800, 1700), 0.07, 0.4, 0.4, 0.50, (125, 122, 118)),
    "marble": Material("stone", PLATE, (950, 2000), 0.09, 0.3, 0.35, 0.40, (225, 222, 218)),
    "clay": Material("ceramic", PLATE, (700, 1500), 0.22, 0.15, 0.3, 0.20, (180, 110, 80)),
    "porcelain": Material("ceramic", PLATE, (1000, 2100), 0.35, 0.10, 0.2, 0.15, (240, 240, 235)),
    "drumskin": Material("drum", MEMBRANE, (75, 170), 0.45, 0.8, 2.0, 0.20, (225, 205, 175)),
}
HELD_OUT = ("bamboo", "tin", "crystal", "vinyl", "latex", "marble", "porcelain")  # kept for evaluation


def choose(families: tuple[str, ...], rng: np.random.Generator, held_out: bool = False) -> str:
    """A random material of a family; `held_out`: one that training never hears, where there is any."""
    family = str(rng.choice(families))
    names = [name for name, m in MATERIALS.items() if m.family == family]
    kept = [name for name in names if (name in HELD_OUT) == held_out]
    return str(rng.choice(kept or names))


class Body:
    """One thing of a material; its modes are drawn once, so that all blows on it belong together.

    Args:
        size: 1 is usual; larger is lower.
    """

    def __init__(self, material: str, size: float, rng: np.random.Generator) -> None:
        self.material = m = MATERIALS[material]
        first = rng.uniform(*m.pitch) / size
        ratios = np.array(m.ratios) * rng.uniform(0.97, 1.03, len(m.ratios))
        ratios[0] = 1
        frequency = first * ratios
        self.frequency = frequency[frequency < 0.45 * RATE]
        gains = rng.uniform(0.3, 1, len(self.frequency)) * np.arange(1, len(self.frequency) + 1) ** -0.4
        rate = 6.9 / (m.decay * rng.uniform(0.8, 1.25)) * np.sqrt(size) ** -1  # 60 dB is a factor e^6.9
        rates = rate * (1 + m.damping * (self.frequency - first) / 1000)
        seconds = min(6.9 / rate, 2.0)
        time = np.arange(int(seconds * RATE)) / RATE
        phase = np.exp((2j * np.pi * self.frequency - rates)[:, None] * time)
        self._soft, self._hard = ((gains * self._contact(force)) @ phase.imag for force in (0.1, 1.0))
        peak = np.abs(self._hard).max() + 1e-9
        self._soft, self._hard = self._soft / peak, self._hard / peak

    def _contact(self, force: float) -> NDArray[np.float64]:
        """What a blow gives each mode: a harder one is shorter and so brighter (Hertz)."""
        width = 1e-3 * self.material.contact * force**-0.2
        return np.exp(-((self.frequency * width) ** 2))

    def strike(self, force: float, rng: np.random.Generator) -> Sound:
        """The sound of one blow, from its first sample on; peak about `force`."""
        wave = force * ((1 - force) * self._soft + force * self._hard)
        wave = wave * np.hanning(2 * len(wave))[len(wave) :] ** 0.25
        burst = int(RATE * 1e-3 * (2 + 3 * self.material.contact))
        noise = rng.standard_normal(burst) * np.exp(-np.linspace(0, 6, burst))
        smooth = max(1, int(1e-3 * self.material.contact * RATE / 2))
        noise = np.convolve(noise, np.ones(smooth) / smooth**0.5, "same")
        wave[:burst] += 0.5 * force * self.material.click * noise[: len(wave)]
        return wave.astype(np.float32)


def place(track: Sound, sound: Sound, time: float, gain: float = 1.0) -> None:
    """Add a sound to a track (samples,) at a time in seconds; what lies outside is cut."""
    start = round(time * RATE)
    cut = max(0, -start)
    end = min(len(track), start + len(sound))
    if start + cut < end:
        track[start + cut : end] += gain * sound[cut : end - start]


def grains(seconds: float, rate: float, low: float, high: float, rng: np.random.Generator) -> Sound:
    """A crunch: `rate` short noise grains a second, each ringing between `low` and `high` Hz, fading away."""
    out = np.zeros(int(seconds * RATE), np.float32)
    time = np.arange(int(0.012 * RATE)) / RATE
    for start in rng.uniform(0, 1, max(3, int(rate * seconds))) ** 1.5:
        pitch = np.exp(rng.uniform(np.log(low), np.log(high)))
        grain = np.sin(2 * np.pi * pitch * time + rng.uniform(0, 6)) * np.exp(-time * rng.uniform(200, 900))
        place(out, grain.astype(np.float32), start * (seconds - 0.012), rng.uniform(0.1, 1) * (1 - start))
    return out / (np.abs(out).max() + 1e-9)
