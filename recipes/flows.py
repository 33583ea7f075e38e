"""Acts that go on: weather, water, fire, machines and people, led by a curve that is seen and heard."""

from __future__ import annotations

import math

import numpy as np

from avatar.recipes import textures
from avatar.recipes.blows import Maker
from avatar.recipes.modal import RATE
from avatar.recipes.stage import Act, Brush, any_colour, darker, jitter
from avatar.recipes.textures import CURVE_RATE, Curve, unit, wander


def _at(curve: Curve, now: float) -> float:
    return float(np.interp(now * CURVE_RATE, np.arange(len(curve)), curve))


def pouring(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """A jug tips and a stream fills a glass."""
    samples = round(seconds * RATE)
    time = np.arange(int(seconds * CURVE_RATE) + 2) / CURVE_RATE
    start, length = rng.uniform(0.1, 0.3) * seconds, rng.uniform(0.35, 0.6) * seconds
    flow = unit((time - start) / 0.25) * unit((start + length - time) / 0.25)
    filled = np.cumsum(flow) / max(flow.sum(), 1) * rng.uniform(0.6, 0.9) + 0.05
    sound = textures.pouring(flow, filled, samples, rng)
    water = jitter(((90, 150, 200), (110, 60, 30), (235, 225, 200))[rng.integers(3)], rng)
    jug = any_colour(rng)

    def draw(brush: Brush, now: float) -> None:
        full, run = _at(filled, now), _at(flow, now)
        brush.box(-0.18, 0, 0.36, 0.5, (205, 215, 220))
        brush.box(-0.16, 0.02, 0.32, 0.46 * full, water)
        tilt = 0.2 + 0.9 * run
        lip = (0.0, 0.85)
        back = (0.35 * math.cos(tilt - 0.9), 0.85 + 0.35 * math.sin(0.9 - tilt * 0.3))
        side = (back[0] + 0.12, back[1] - 0.3)
        brush.shape([lip, back, side], jug)
        if run > 0.02:
            wobble = 0.008 * math.sin(40 * now)
            brush.line([lip, (wobble, 0.02 + 0.46 * full)], 0.05 * run, water)
            brush.disc(wobble * 3, 0.02 + 0.46 * full, 0.06 * run, darker(water, 1.2), 0.02)

    words = ("water is poured into a glass", "pouring water", "a drink is poured", "filling a glass")
    return Act("pouring", words, sound, draw)


def fire(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Flames over logs; crackles follow their height."""
    samples = round(seconds * RATE)
    glow = wander(seconds, 1.0, rng, 0.3, 1.0)
    sound = textures.fire(glow, samples, rng) * textures.stretch(0.4 + 0.6 * glow, samples).astype(np.float32)
    phases, speeds, places = rng.uniform(0, 6.3, 12), rng.uniform(1.5, 5, 12), rng.uniform(-0.22, 0.22, 12)

    def draw(brush: Brush, now: float) -> None:
        height = 0.25 + 0.5 * _at(glow, now)
        brush.box(-0.32, 0, 0.64, 0.08, (70, 45, 30))
        for colour, share in (((215, 60, 20), 1.0), ((245, 140, 30), 0.7), ((255, 225, 110), 0.4)):
            for phase, speed, place in zip(phases, speeds, places, strict=True):
                lick = height * share * (0.6 + 0.4 * math.sin(phase + 2 * math.pi * speed * now))
                lick *= 1 - 1.5 * abs(place)
                lean = 0.06 * math.sin(phase * 2 + 7 * now)
                brush.shape(
                    [(place - 0.09 * share, 0.06), (place + lean, 0.08 + lick), (place + 0.09 * share, 0.06)],
                    colour,
                )
        for phase, speed, place in zip(phases[:5], speeds, places, strict=False):
            rise = (now * speed * 0.4 + phase) % 1
            brush.disc(place + 0.1 * math.sin(9 * rise + phase), 0.2 + rise * 0.8, 0.012, (255, 190, 90))

    words = ("a fire crackles", "crackling fire", "flames burn", "a camp fire")
    return Act("fire", words, sound, draw)


def wind(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Trees or grass bend in gusts."""
    gust = wander(seconds, 0.7, rng, 0.05, 1.0)
    sound = textures.wind(gust, round(seconds * RATE), rng)
    stems, heights = rng.uniform(-0.6, 0.6, 9), rng.uniform(0.5, 1.0, 9)
    leaf, grass = jitter((80, 140, 60), rng, 35), rng.uniform() < 0.5
    flutter = rng.uniform(0, 6.3, 9)

    def draw(brush: Brush, now: float) -> None:
        force = _at(gust, now)
        for stem, height, phase in zip(stems, heights, flutter, strict=True):
            bend = force * 0.35 + 0.08 * force * math.sin(phase + 14 * now)
            top = (stem + bend * height, height * (1 - 0.25 * force))
            middle = (stem + 0.3 * bend * height, 0.5 * height)
            brush.line([(stem, 0), middle, top], 0.02 if grass else 0.045, darker(leaf, 0.7))
            if not grass:
                brush.disc(*top, 0.15, leaf)
                brush.disc(top[0] + 0.07, top[1] - 0.08, 0.1, darker(leaf, 0.85))

    words = ("wind in the trees", "the wind blows", "strong wind", "gusts of wind")
    return Act("wind", words, sound, draw)


def waves(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Waves run up a beach; the surf is loudest as they break."""
    time = np.arange(int(seconds * CURVE_RATE) + 2) / CURVE_RATE
    period, phase = rng.uniform(2.5, 5.0), rng.uniform(0, 1)
    turn = (time / period + phase) % 1
    swell = np.where(turn < 0.35, turn / 0.35, np.exp(-(turn - 0.35) / 0.22)) ** 1.2 * rng.uniform(0.8, 1)
    sound = textures.waves(swell, round(seconds * RATE), rng)
    sea, sand = jitter((40, 110, 150), rng), jitter((210, 190, 140), rng)

    def draw(brush: Brush, now: float) -> None:
        reach = 0.45 - 0.3 * _at(swell, now)
        brush.box(-1.5, -0.5, 3, 0.9, sand)
        brush.box(-1.5, reach, 3, 0.9 - reach, sea)
        edge = [(u, reach + 0.02 * math.sin(9 * u + 2 * now)) for u in np.linspace(-1.5, 1.5, 16)]
        brush.line(edge, 0.03 + 0.07 * _at(swell, now), (240, 245, 245))
        for row in range(4):
            v = 0.5 + 0.1 * row + 0.03 * math.sin(2 * math.pi * (now / period + 0.2 * row))
            line = [(u, v + 0.012 * math.sin(7 * u + now + row)) for u in np.linspace(-1.5, 1.5, 16)]
            brush.line(line, 0.012, darker(sea, 1.3))

    words = ("waves on a beach", "the sea", "ocean waves break", "surf")
    return Act("waves", words, sound, draw)


def rain(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Streaks fall; how dense they are is how loud the rain is."""
    density = rng.uniform(0.2, 1.0)
    surface = str(rng.choice(("ground", "roof", "window")))
    sound = textures.rain(density, surface, round(seconds * RATE), rng) * np.float32(0.35 + 0.65 * density)
    drops = rng.uniform(0, 1, (int(30 + 120 * density), 3))
    slant, tone = rng.uniform(-0.15, 0.15), jitter((190, 200, 215), rng, 15)

    def draw(brush: Brush, now: float) -> None:
        for x, start, speed in drops:
            v = 1.0 - ((start + now * (1.6 + speed)) % 1) * 1.1
            u = (x - 0.5) + slant * v
            brush.line([(u, v), (u + 0.06 * slant, v + 0.07)], 0.004, tone)

    force = "heavy" if density > 0.65 else "light" if density < 0.4 else ""
    words = (f"{force} rain".strip(), f"{force} rain on the {surface}".strip(), "it rains", "rain falls")
    return Act("rain", words, sound, draw)


def engine(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """A motor with a wheel and a piston; it revs up and down."""
    turns = wander(seconds, 0.6, rng, rng.uniform(6, 12), rng.uniform(18, 45))
    sound = textures.engine(turns, int(rng.choice((2, 4, 6))), round(seconds * RATE), rng)
    sound = sound * textures.stretch(0.5 + 0.5 * turns / turns.max(), len(sound)).astype(np.float32)
    angle = (
        np.cumsum(turns) / CURVE_RATE * rng.uniform(0.06, 0.12)
    )  # of a geared wheel, so that it can be seen
    body, wheel = any_colour(rng), any_colour(rng)
    spokes = int(rng.integers(3, 7))

    def draw(brush: Brush, now: float) -> None:
        shiver = 0.012 * math.sin(2 * math.pi * 11 * now) * _at(turns, now) / turns.max()
        brush.box(-0.5, 0.12 + shiver, 0.75, 0.4, body)
        brush.box(-0.45, 0.3 + shiver, 0.2, 0.1, darker(body, 0.6))
        turned = 2 * math.pi * _at(angle, now)
        brush.box(-0.15, 0.52 + shiver, 0.12, 0.12 + 0.08 * math.sin(turned), darker(body, 0.8))
        brush.disc(0.3, 0.25, 0.22, darker(wheel, 0.5))
        brush.disc(0.3, 0.25, 0.18, wheel)
        for k in range(spokes):
            way = turned + 2 * math.pi * k / spokes
            brush.line(
                [(0.3, 0.25), (0.3 + 0.18 * math.cos(way), 0.25 + 0.18 * math.sin(way))],
                0.04,
                darker(wheel, 0.4),
            )

    words = ("an engine runs", "a motor revs", "engine noise", "a running engine")
    return Act("engine", words, sound, draw)


def fan(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """A rotor that runs at a speed, speeds up or slows down."""
    turns = wander(seconds, 0.4, rng, rng.uniform(1, 4), rng.uniform(5, 11))
    blades = int(rng.integers(3, 6))
    sound = textures.fan(turns, blades, round(seconds * RATE), rng)
    angle, tone = np.cumsum(turns) / CURVE_RATE, any_colour(rng)

    def draw(brush: Brush, now: float) -> None:
        brush.box(-0.03, 0, 0.06, 0.5, darker(tone, 0.5))
        brush.disc(0, 0.6, 0.38, darker(tone, 0.6))
        brush.disc(0, 0.6, 0.35, jitter((60, 60, 65), np.random.default_rng(blades), 3))
        for k in range(blades):
            way = 2 * math.pi * (_at(angle, now) + k / blades)
            points = [
                (r * math.cos(way + a), 0.6 + r * math.sin(way + a))
                for r, a in ((0.05, 0), (0.33, -0.3), (0.33, 0.3))
            ]
            brush.shape(points, tone)
        brush.disc(0, 0.6, 0.06, darker(tone, 0.7))

    words = ("a fan hums", "a spinning fan", "a ventilator runs", "fan noise")
    return Act("fan", words, sound, draw)


def crowd(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Many people talk at once."""
    sound = textures.crowd(int(rng.integers(6, 12)), round(seconds * RATE), rng)
    people = [
        (
            rng.uniform(-0.8, 0.8),
            rng.uniform(0, 0.35),
            any_colour(rng),
            jitter((200, 160, 130), rng, 30),
            rng.uniform(2, 5),
            rng.uniform(0, 6.3),
        )
        for _ in range(int(rng.integers(6, 14)))
    ]
    people.sort(key=lambda p: -p[1])

    def draw(brush: Brush, now: float) -> None:
        for u, v, shirt, skin, speed, phase in people:
            lean = 0.015 * math.sin(speed * now + phase)
            brush.disc(u, v + 0.12, 0.13, shirt, 0.2)
            brush.disc(u + lean, v + 0.4, 0.09, skin)
            mouth = max(0.0, math.sin(2.1 * speed * now + phase)) * 0.025
            brush.disc(u + lean, v + 0.36, 0.025, (110, 50, 50), 0.006 + mouth)

    words = ("people talk", "crowd murmur", "a busy cafe", "many voices", "chatter of a crowd")
    return Act("crowd", words, sound, draw)


FLOWS: dict[str, Maker] = {
    "pouring": pouring,
    "fire": fire,
    "wind": wind,
    "waves": waves,
    "rain": rain,
    "engine": engine,
    "fan": fan,
    "crowd": crowd,
}
