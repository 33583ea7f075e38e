"""Sounds that go on: weather, water, fire, machines, voices and instruments, each led by a curve over time.

Shape legend: S samples. Curves are sampled at 100 Hz; sounds are float32 of about unit RMS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar.recipes.modal import RATE, Sound, place
from avatar.recipes.sound import coloured_noise

Curve = NDArray[np.floating]
CURVE_RATE = 100  # Hz
HOP, FFT = 256, 1024


def wander(
    seconds: float, speed: float, rng: np.random.Generator, low: float = 0.0, high: float = 1.0
) -> Curve:
    """A smooth random curve between `low` and `high` that turns about `speed` times a second."""
    knots = max(4, int(seconds * speed) + 4)
    heights = rng.uniform(0, 1, knots)
    at = np.linspace(0.0, knots - 1.5, int(seconds * CURVE_RATE) + 2)
    index = np.minimum(at.astype(int), knots - 2)
    ease = 0.5 - 0.5 * np.cos(np.pi * (at - index))
    return low + (high - low) * ((1 - ease) * heights[index] + ease * heights[index + 1])


def unit(curve: NDArray) -> Curve:
    """Values cut to 0..1."""
    return np.clip(curve, 0.0, 1.0).astype(np.float64)


def stretch(curve: Curve, samples: int) -> Curve:
    """A curve at the rate of the sound."""
    return np.interp(np.arange(samples) / RATE, np.arange(len(curve)) / CURVE_RATE, curve)


def colour(noise: NDArray, gain: NDArray) -> Sound:
    """Shape noise (S,) by gains (any number of frames, bins)."""
    from scipy.signal import istft, stft

    _, _, spectrum = stft(noise, RATE, nperseg=FFT, noverlap=FFT - HOP)
    rows = np.linspace(0, len(gain) - 1, spectrum.shape[1]).round().astype(int)
    _, shaped = istft(spectrum * gain[rows].T, RATE, nperseg=FFT, noverlap=FFT - HOP)
    return np.resize(shaped, len(noise)).astype(np.float32)


def band(centre: NDArray | float, octaves: float) -> NDArray:
    """Gains (frames, bins) of a bell of a width in octaves around `centre` Hz, one or one a frame."""
    frequency = np.maximum(np.fft.rfftfreq(FFT, 1 / RATE), 20)
    distance = np.log2(frequency[None] / np.atleast_1d(centre)[:, None]) / octaves
    return np.exp(-0.5 * distance**2)


def level(sound: NDArray) -> Sound:
    """The sound at unit RMS."""
    return (sound / (np.sqrt(np.mean(np.square(sound))) + 1e-9)).astype(np.float32)


def wind(gust: Curve, samples: int, rng: np.random.Generator) -> Sound:
    """Louder, higher and narrower in a gust."""
    noise = rng.standard_normal(samples)
    howl = rng.uniform(250, 500) * (1 + 1.2 * gust)
    shape = 1.5 * band(rng.uniform(100, 200), 1.2) + band(howl, 0.35) * gust[:, None]
    sound = colour(noise, shape)
    return level(sound) * stretch(0.15 + gust**1.5, samples).astype(np.float32)


def rain(density: float, surface: str, samples: int, rng: np.random.Generator) -> Sound:
    """A hiss of far drops and the ticks of near ones; `surface` is ground, roof or window."""
    centre, octaves = {"ground": (3200, 1.2), "roof": (1300, 1.0), "window": (2200, 0.8)}[surface]
    hiss = colour(rng.standard_normal(samples), band(centre * rng.uniform(0.85, 1.2), octaves))
    ticks = np.zeros(samples, np.float32)
    time = np.arange(int(0.02 * RATE)) / RATE
    for start in rng.uniform(0, samples / RATE, rng.poisson(density * 90 * samples / RATE / 6)):
        pitch = centre * rng.uniform(0.5, 2)
        drop = np.sin(2 * np.pi * pitch * time) * np.exp(-time * rng.uniform(250, 700))
        place(ticks, drop.astype(np.float32), start, rng.uniform(0.1, 1) ** 2)
    return level(level(hiss) + rng.uniform(0.3, 1.0) * level(ticks))


def fire(glow: Curve, samples: int, rng: np.random.Generator) -> Sound:
    """Rumble, hiss and crackles, more of them the higher the flames."""
    rumble = level(colour(rng.standard_normal(samples), band(110, 0.9) * (0.3 + glow[:, None])))
    hiss = level(colour(rng.standard_normal(samples), band(5000, 0.9)))
    crackles = np.zeros(samples, np.float32)
    dense = stretch(glow, samples)
    for start in rng.uniform(0, samples / RATE, rng.poisson(12 * samples / RATE)):
        if rng.uniform() > dense[min(int(start * RATE), samples - 1)]:
            continue
        time = np.arange(int(rng.uniform(0.004, 0.02) * RATE)) / RATE
        burst = rng.standard_normal(len(time)) * np.exp(-time * rng.uniform(250, 900))
        place(crackles, burst.astype(np.float32), start, rng.uniform(0.1, 1) ** 2)
    return level(0.5 * rumble + 0.12 * hiss + 1.1 * level(crackles))


def waves(swell: Curve, samples: int, rng: np.random.Generator) -> Sound:
    """Surf: noise that brightens as a wave breaks and darkens as it runs out."""
    shape = band(350 * (1 + 4 * swell**2), 1.3) * (0.12 + swell[:, None] ** 1.5)
    return level(colour(rng.standard_normal(samples), shape))


def pouring(flow: Curve, filled: Curve, samples: int, rng: np.random.Generator) -> Sound:
    """A stream into a vessel: bubbles ring at the pitch of the air column, which rises as it fills."""
    column = rng.uniform(350, 600) / np.maximum(1.05 - filled, 0.2) ** 0.8
    out = colour(rng.standard_normal(samples), (0.25 * band(2500, 1.0) + band(column, 0.3)) * flow[:, None])
    out = level(out)
    at = stretch(column, samples)
    strength = stretch(flow, samples)
    for start in rng.uniform(0, samples / RATE, rng.poisson(60 * samples / RATE)):
        i = min(int(start * RATE), samples - 1)
        if strength[i] < 0.1:
            continue
        place(out, bubble(at[i] * rng.uniform(0.8, 2.2), rng), start, 1.5 * strength[i] * rng.uniform(0.1, 1))
    return out


def bubble(pitch: float, rng: np.random.Generator) -> Sound:
    """A drop's bubble under water: a sine that rises while it dies (Minnaert)."""
    time = np.arange(int(0.09 * RATE)) / RATE
    rise = rng.uniform(3, 9)
    phase = 2 * np.pi * pitch * (time + 0.5 * rise * time**2)
    return (np.sin(phase) * np.exp(-time * rng.uniform(35, 70)) * np.minimum(time / 5e-4, 1)).astype(
        np.float32
    )


def engine(turns: Curve, cylinders: int, samples: int, rng: np.random.Generator) -> Sound:
    """A combustion engine: firing pulses through an exhaust, `turns` of the crank in Hz."""
    phase = np.cumsum(stretch(turns, samples)) / RATE
    firing = phase * cylinders / 2
    jitter = np.interp(
        firing, np.arange(int(firing[-1]) + 2), 1 + 0.15 * rng.standard_normal(int(firing[-1]) + 2)
    )
    harmonics = sum(
        np.sin(2 * np.pi * k * firing + rng.uniform(0, 6)) * k ** -rng.uniform(0.6, 1.1) for k in range(1, 14)
    )
    noise = coloured_noise(samples, 1, rng) * (0.5 + 0.5 * np.sin(2 * np.pi * firing)) ** 2
    body = np.exp(-0.5 * ((np.fft.rfftfreq(FFT, 1 / RATE) - rng.uniform(150, 400)) / 900) ** 2)[None]
    return level(colour((np.asarray(harmonics) * jitter + 1.2 * noise), 0.08 + body))


def fan(turns: Curve, blades: int, samples: int, rng: np.random.Generator) -> Sound:
    """A rotor: air noise that each blade chops, and a hum at the rate of the blades; `turns` in Hz."""
    speed = stretch(turns, samples)
    phase = np.cumsum(speed) / RATE * blades
    chop = 1 + rng.uniform(0.3, 0.7) * np.sin(2 * np.pi * phase)
    strength = (turns / max(turns.max(), 1e-3))[:, None]
    air = level(colour(rng.standard_normal(samples), band(300 + 120 * turns, 1.1) * (0.05 + strength**1.5)))
    motor = np.sin(2 * np.pi * 6 * phase) + 0.5 * np.sin(2 * np.pi * 12 * phase)
    return level(air * chop + 0.25 * motor * speed / max(speed.max(), 1e-3))


def crowd(voices: int, samples: int, rng: np.random.Generator) -> Sound:
    """Murmur: voices with wandering pitch and vowels, in syllables, none of them to be understood."""
    seconds = samples / RATE
    out = np.zeros(samples)
    for _ in range(voices):
        pitch = stretch(wander(seconds, 2, rng, 0.85, 1.15), samples) * np.exp(
            rng.uniform(np.log(90), np.log(240))
        )
        phase = np.cumsum(pitch) / RATE
        buzz = 2 * (phase % 1) - 1 + 0.15 * rng.standard_normal(samples)
        vowel = band(wander(seconds, 4, rng, 350, 850), 0.25) + 0.6 * band(
            wander(seconds, 4, rng, 900, 2300), 0.2
        )
        talk = unit(2.5 * wander(seconds, 4.5, rng) - 0.6) * (wander(seconds, 0.5, rng) > 0.35)
        out += rng.uniform(0.4, 1) * level(colour(buzz, vowel + 0.01)) * stretch(talk, samples)
    return level(out)


def note(pitch: float, seconds: float, timbre: str, rng: np.random.Generator) -> Sound:
    """One tone of a piano, an organ or a plucked string."""
    time = np.arange(int(seconds * RATE)) / RATE
    partials = np.arange(1, max(2, min(14, int(9000 / pitch))) + 1)
    if timbre == "organ":
        gains, fall = np.where(partials % 2 == 1, 1.0, 0.5) / partials**0.8, np.zeros(len(partials))
        shape = np.minimum(time / 0.03, 1) * np.minimum((seconds - time) / 0.06, 1)
    else:
        sharp = {"piano": 1.1, "guitar": 0.8}[timbre]
        gains, fall = partials**-sharp, {"piano": 1.6, "guitar": 2.6}[timbre] * partials**0.6
        shape = np.minimum(time / 0.002, 1) * np.minimum((seconds - time) / 0.03, 1)
    stiff = partials * np.sqrt(1 + 4e-4 * partials**2) if timbre == "piano" else partials
    tone = (
        gains[:, None] * np.sin(2 * np.pi * pitch * stiff[:, None] * time) * np.exp(-fall[:, None] * time)
    ).sum(0)
    return (0.5 * tone * shape).astype(np.float32)
