"""Acts whose blows are seen: picture and sound follow from the same times, speeds and materials."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from avatar.recipes.modal import MATERIALS, RATE, Body, Sound, choose, grains, place
from avatar.recipes.stage import Act, Brush, Colour, any_colour, darker, jitter
from avatar.recipes.textures import band, bubble, colour, note

GRAVITY = 9.81
Maker = Callable[[float, np.random.Generator, bool], Act]


def _track(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE), np.float32)


def _look(material: str, rng: np.random.Generator) -> Colour:
    """The material's colour, or at times any: then only words tell what it is."""
    return jitter(MATERIALS[material].colour, rng) if rng.uniform() < 0.6 else any_colour(rng)


def _named(material: str, rng: np.random.Generator) -> str:
    """What a caption calls a material: its family mostly, else its name."""
    return MATERIALS[material].family if rng.uniform() < 0.7 else material


def _beats(seconds: float, rng: np.random.Generator, low: float, high: float) -> list[float]:
    """Times of blows, steady or irregular, with a pause now and then."""
    gap = rng.uniform(low, high)
    wild = rng.choice((0.02, 0.25))
    time, found = rng.uniform(0.1, 0.1 + gap), []
    while time < seconds - 0.05:
        found.append(float(time))
        time += gap * max(0.5, 1 + rng.normal(0, wild)) + (
            rng.uniform(0.5, 1.5) if rng.uniform() < 0.08 else 0
        )
    return found


def bounce(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """A ball falls, bounces and is thrown again; the speed of each impact gives its force."""
    material = choose(("rubber", "wooden", "metal", "glass", "plastic", "ceramic"), rng, held_out)
    spring = {"rubber": 0.82, "metal": 0.62, "glass": 0.68}.get(MATERIALS[material].family, 0.55)
    spring *= rng.uniform(0.9, 1.08)
    radius = rng.uniform(0.05, 0.11)
    scale = rng.uniform(1.0, 2.4)  # m for a spot's size: how fast the fall looks
    body = Body(material, radius / 0.08, rng)
    time, height, speed = 0.0, rng.uniform(0.4, 0.85), 0.0
    flights: list[tuple[float, float, float]] = []  # start, height, upward speed; in spot sizes
    hits, track = [], _track(seconds)
    while time < seconds:
        flights.append((time, height, speed))
        g = GRAVITY / scale
        fall = (speed + math.sqrt(speed**2 + 2 * g * height)) / g
        impact = g * fall - speed
        time += fall
        if time < seconds:
            hits.append(time)
            force = float(np.clip(impact / math.sqrt(2 * g * 0.8), 0.05, 1))
            place(track, body.strike(force, rng), time)
        height, speed = 0.0, impact * spring
        if speed**2 / (2 * g) < 0.03:  # too low to go on: thrown anew
            rest = rng.uniform(0.1, 0.7)
            flights.append((time, 0.0, 0.0))
            time += rest
            speed = math.sqrt(2 * g * rng.uniform(0.3, 0.85))
    hue, drift = _look(material, rng), rng.uniform(-0.25, 0.25)
    spin = rng.uniform(1, 5)

    def draw(brush: Brush, now: float) -> None:
        start, low, up = max((f for f in flights if f[0] <= now), key=lambda f: f[0])
        since = now - start
        above = low + up * since - 0.5 * GRAVITY / scale * since**2 if (low or up) else 0.0
        u = drift * math.sin(2 * math.pi * now / seconds)
        brush.disc(u, -0.005, radius * 0.9, (60, 60, 60), radius * 0.2)
        brush.disc(u, max(above, 0) + radius, radius, hue)
        angle = spin * now
        brush.disc(
            u + 0.5 * radius * math.cos(angle),
            max(above, 0) + radius * (1 + 0.5 * math.sin(angle)),
            0.3 * radius,
            darker(hue, 0.6),
        )

    name = _named(material, rng)
    words = (f"a {name} ball bounces", f"bouncing {name} ball", "a ball bounces on the floor")
    return Act("bounce", words, track, draw, tuple(hits))


def knock(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """A stick or a hammer strikes a block, a plate or a drum."""
    material = choose(("wooden", "metal", "glass", "plastic", "stone", "ceramic", "drum"), rng, held_out)
    body = Body(material, rng.uniform(0.7, 1.5), rng)
    hits = _beats(seconds, rng, 0.25, 1.1)
    forces = np.clip(rng.uniform(0.3, 1.0, len(hits)), 0.1, 1)
    track = _track(seconds)
    for time, force in zip(hits, forces, strict=True):
        place(track, body.strike(float(force), rng), time)
    hue, stick = _look(material, rng), any_colour(rng)
    wide, high = rng.uniform(0.25, 0.6), rng.uniform(0.12, 0.4)
    length, head = rng.uniform(0.35, 0.5), rng.uniform(0.03, 0.07)

    def draw(brush: Brush, now: float) -> None:
        brush.box(-wide / 2, 0, wide, high, hue)
        brush.box(-wide / 2, high - 0.03, wide, 0.03, darker(hue, 1.25 if max(hue) < 200 else 0.8))
        angle = swing(now, hits, forces)
        pivot = (length + 0.02, high + head)
        tip = (pivot[0] - length * math.cos(angle), pivot[1] + length * math.sin(angle))
        brush.line([pivot, tip], 0.025, stick)
        brush.disc(*tip, head, darker(stick, 0.7))

    name = _named(material, rng)
    words = (
        (f"a stick hits a {name} block", f"hammering on {name}", "knocking", f"tapping on a {name} thing")
        if material != "drumskin"
        else ("a drum is beaten", "drumming", "a stick hits a drum")
    )
    return Act("drum" if material == "drumskin" else "knock", words, track, draw, tuple(hits))


def swing(now: float, hits: list[float], forces: np.ndarray) -> float:
    """Angle of a striking arm: lifted after a blow, held, brought down ever faster into the next, rad."""
    later = next((i for i, hit in enumerate(hits) if hit > now), None)
    before = [hit for hit in hits if hit <= now]
    since = now - before[-1] if before else 9.0
    lifted = 0.25 * min(1.0, since / 0.15) if later is None else 0.0
    if later is None:
        return lifted
    top = 0.25 + 0.75 * forces[later]
    gap = hits[later] - (before[-1] if before else hits[later] - 1.0)
    blow = min(0.16, 0.4 * gap)
    rise = min(0.3, gap - blow)
    left = hits[later] - now
    if left < blow:
        return float(top * (1 - (1 - left / blow) ** 2))
    return float(top * (0.5 - 0.5 * math.cos(math.pi * min(1, since / rise))))


def footsteps(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """A figure walks; heels meet the ground at the steps of its gait."""
    ground = str(rng.choice(("gravel", "wood", "stone", "snow", "leaves", "metal")))
    pace = rng.uniform(1.4, 2.6)  # steps a second
    offset = rng.uniform(0, 1)
    hits = [
        float((k - offset) / pace)
        for k in range(1, int(seconds * pace) + 2)
        if (k - offset) / pace < seconds - 0.02
    ]
    track = _track(seconds)
    family = {"wood": "wooden", "stone": "stone", "metal": "metal"}.get(ground)
    body = Body(choose((family,), rng, held_out), 1.6, rng) if family else None
    for time in hits:
        force = rng.uniform(0.45, 0.8)
        if body is not None:
            place(track, body.strike(force, rng), time)
            place(track, body.strike(0.35 * force, rng), time + 0.25 / pace)
            place(track, _thud(rng), time, 0.5 * force)
        else:
            low, high, rate = {
                "gravel": (1500, 6000, 220),
                "snow": (2500, 8000, 500),
                "leaves": (3000, 9000, 160),
            }[ground]
            place(track, grains(0.35 / pace + 0.06, rate, low, high, rng), time, force)
            place(track, _thud(rng), time, 0.35 * force)
    skin, shirt, trousers = any_colour(rng), any_colour(rng), any_colour(rng)
    stride, travel = rng.uniform(0.3, 0.5), rng.choice((0.0, rng.uniform(0.3, 0.8)))
    soil = {
        "gravel": (140, 130, 120),
        "snow": (235, 238, 242),
        "leaves": (150, 100, 50),
        "wood": (160, 115, 70),
        "stone": (130, 130, 130),
        "metal": (150, 155, 165),
    }[ground]
    soil = jitter(soil, rng, 12) if rng.uniform() < 0.75 else any_colour(rng)
    marks = rng.uniform(-1, 1, 14)

    def draw(brush: Brush, now: float) -> None:
        phase = math.pi * (now * pace + offset)  # half a turn a step
        u = travel * (now / seconds - 0.5)
        brush.box(-1.2, -0.12, 2.4, 0.14, soil)
        roll = 0 if travel else now * pace * stride * 0.5
        for mark in marks:
            x = (mark - roll + 1) % 2 - 1
            brush.disc(x, -0.05, 0.02, darker(soil, 0.75), 0.01)
        sway = 0.015 * abs(math.sin(phase))
        hip = (u, 0.46 + sway)
        for side, tone in ((0, 0.75), (1, 1.0)):
            leg = stride * 0.5 * math.cos(phase + side * math.pi)
            forward = math.sin(phase + side * math.pi) < 0  # this foot is in the air
            lift = 0.09 * abs(math.sin(phase)) if forward else 0.0
            knee = (u + 0.5 * leg + (0.05 if forward else 0.0), 0.24 + 0.5 * lift)
            foot = (u + leg, 0.02 + lift)
            brush.line([hip, knee, foot], 0.05, darker(trousers, tone))
            brush.line([foot, (foot[0] + 0.07, foot[1])], 0.035, darker(trousers, 0.5))
            arm = -0.6 * leg
            brush.line([(u, 0.72 + sway), (u + 0.5 * arm, 0.6), (u + arm, 0.5)], 0.04, darker(shirt, tone))
        brush.line([hip, (u, 0.74 + sway)], 0.11, shirt)
        brush.disc(u, 0.86 + sway, 0.07, skin)

    surface = {"wood": "a wooden floor", "stone": "stone", "metal": "a metal floor"}.get(ground, ground)
    words = (f"footsteps on {surface}", f"a person walks on {surface}", "footsteps", f"walking on {surface}")
    return Act("footsteps", words, track, draw, tuple(hits))


def _thud(rng: np.random.Generator) -> Sound:
    time = np.arange(int(0.12 * RATE)) / RATE
    pitch = rng.uniform(55, 95)
    return (np.sin(2 * np.pi * pitch * time * (1 - time)) * np.exp(-time * 40)).astype(np.float32)


def typing(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Keys go down under fingers, each with a click as it lands and a softer one as it comes up."""
    rows, columns = 4, int(rng.integers(8, 12))
    body = Body("plastic" if not held_out else "vinyl", rng.uniform(0.4, 0.7), rng)
    hits, time = [], rng.uniform(0.1, 0.4)
    while time < seconds - 0.1:
        hits.append(float(time))
        time += rng.uniform(0.09, 0.26) + (rng.uniform(0.3, 1.0) if rng.uniform() < 0.1 else 0)
    keys = [(int(rng.integers(rows)), int(rng.integers(columns))) for _ in hits]
    track = _track(seconds)
    for time, _ in zip(hits, keys, strict=True):
        place(track, body.strike(rng.uniform(0.25, 0.5), rng), time)
        place(track, body.strike(0.12, rng), time + rng.uniform(0.05, 0.09))
    case, cap, hand = any_colour(rng), any_colour(rng), jitter((215, 170, 140), rng, 20)
    wide = 0.9 / columns

    def draw(brush: Brush, now: float) -> None:
        brush.box(-0.5, 0.0, 1.0, 0.5, case)
        down = {key for hit, key in zip(hits, keys, strict=True) if 0 <= now - hit < 0.08}
        for r in range(rows):
            for c in range(columns):
                pressed = (r, c) in down
                brush.box(
                    -0.45 + c * wide,
                    0.06 + 0.1 * r - 0.015 * pressed,
                    0.8 * wide,
                    0.08,
                    darker(cap, 0.6 if pressed else 1.0),
                )
        for side in (0, 1):
            mine = [(h, k) for h, k in zip(hits, keys, strict=True) if (k[1] >= columns / 2) == bool(side)]
            following = next(((h, k) for h, k in mine if h > now - 0.06), None)
            r, c = following[1] if following else (1, columns // 4 + side * columns // 2)
            near = math.exp(-(((now - following[0]) / 0.045) ** 2)) if following else 0.0
            tip = (-0.45 + (c + 0.4) * wide, 0.1 + 0.1 * r + 0.1 * (1 - near))
            brush.line([(-0.3 + 0.6 * side, -0.12), tip], 0.09, hand)
            brush.disc(*tip, 0.035, darker(hand, 0.9))

    words = ("typing on a keyboard", "someone types", "keyboard clicks", "fingers type on keys")
    return Act("typing", words, track, draw, tuple(hits))


def clock(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """A pendulum or a jumping hand; a tick at each turn or jump."""
    period = float(rng.choice((0.5, 0.6, 0.75, 1.0)))
    first = rng.uniform(0.05, period)
    hits = [float(t) for t in np.arange(first, seconds - 0.02, period)]
    bodies = [Body(choose(("metal", "wooden"), rng, held_out), 0.35, rng) for _ in range(2)]
    track = _track(seconds)
    for i, time in enumerate(hits):
        blow = bodies[i % 2].strike(0.4, rng)
        place(track, (blow * np.exp(-np.arange(len(blow)) / RATE * 60)).astype(np.float32), time)
    face, rim, hand = jitter((235, 230, 215), rng, 15), any_colour(rng), (40, 40, 45)
    pendulum = rng.uniform() < 0.5

    def draw(brush: Brush, now: float) -> None:
        turns = (now - first) / period
        if pendulum:
            angle = 0.45 * math.cos(math.pi * turns)
            tip = (0.42 * math.sin(angle), 0.55 - 0.42 * math.cos(angle))
            brush.line([(0, 0.55), tip], 0.02, hand)
            brush.disc(*tip, 0.07, rim)
        brush.disc(0, 0.7, 0.25, rim)
        brush.disc(0, 0.7, 0.21, face)
        step = math.floor(turns + 1e-6)
        angle = (step + min(1.0, (turns - step) * period / 0.05)) * (
            math.pi / 6 if not pendulum else math.pi / 30
        )
        brush.line([(0, 0.7), (0.18 * math.sin(angle), 0.7 + 0.18 * math.cos(angle))], 0.02, (190, 40, 35))
        brush.line([(0, 0.7), (0.09, 0.78)], 0.025, hand)

    return Act("clock", ("a clock ticks", "ticking clock", "the tick of a clock"), track, draw, tuple(hits))


def door(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """A door opens with a creak and falls shut with a slam."""
    body = Body(choose(("wooden", "metal"), rng, held_out), 2.4, rng)
    track = _track(seconds)
    hits: list[float] = []
    swings: list[tuple[float, float, float, float]] = []  # opens, open, closes, shut
    time = rng.uniform(0.2, 0.8)
    while time + 1.2 < seconds:
        opened = time + rng.uniform(0.5, 1.4)
        closing = opened + rng.uniform(0.1, 0.8)
        shut = closing + rng.uniform(0.25, 0.7)
        if shut > seconds - 0.1:
            break
        swings.append((time, opened, closing, shut))
        hits.append(float(shut))
        place(track, body.strike(rng.uniform(0.7, 1.0), rng), shut)
        place(track, _thud(rng), shut, 1.0)
        place(track, _creak(opened - time, rng), time, rng.uniform(0.08, 0.25))
        time = shut + rng.uniform(0.3, 1.5)
    wood = _look("oak", rng)

    def draw(brush: Brush, now: float) -> None:
        brush.box(-0.28, 0, 0.56, 1.0, (35, 33, 38))
        share = 0.0
        for opens, opened, closing, shut in swings:
            if opens <= now < opened:
                share = 0.5 - 0.5 * math.cos(math.pi * (now - opens) / (opened - opens))
            elif opened <= now < closing:
                share = 1.0
            elif closing <= now < shut:
                share = 1 - ((now - closing) / (shut - closing)) ** 2
        wide, lean = 0.56 * math.cos(1.35 * share), 0.1 * math.sin(1.35 * share)
        corners = [(-0.28, 0), (-0.28 + wide, -lean), (-0.28 + wide, 1 + lean), (-0.28, 1)]
        brush.shape([(u, v) for u, v in corners], darker(wood, 1 - 0.3 * share))
        brush.disc(-0.28 + 0.85 * wide, 0.45, 0.03, (200, 180, 90))

    words = ("a door slams", "a door opens and closes", "a creaking door falls shut", "door slam")
    return Act("door", words, track, draw, tuple(hits))


def _creak(seconds: float, rng: np.random.Generator) -> Sound:
    """Stick and slip: pulses of a wandering rate through a resonance."""
    samples = int(seconds * RATE)
    rate = np.interp(np.linspace(0, 1, samples), np.linspace(0, 1, 6), rng.uniform(25, 110, 6))
    pulses = np.diff(np.floor(np.cumsum(rate) / RATE), prepend=0) > 0
    ringing = colour(pulses + 0.0, band(rng.uniform(600, 1500), 0.5))
    return (ringing / (np.abs(ringing).max() + 1e-9) * np.hanning(samples) ** 0.5).astype(np.float32)


def drip(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Drops fall from a tap into water: rings on the water, a bubble's sound."""
    fall = math.sqrt(2 * 0.7 / GRAVITY) * rng.uniform(1.0, 1.6)
    hits = [t for t in _beats(seconds, rng, 0.4, 1.3) if t > fall + 0.02]
    track = _track(seconds)
    pitch = rng.uniform(500, 1400)
    for time in hits:
        place(track, bubble(pitch * rng.uniform(0.85, 1.2), rng), time + 0.006, rng.uniform(0.5, 1))
        place(track, grains(0.03, 300, 2000, 7000, rng), time, 0.15)
    water, metal = jitter((90, 140, 180), rng), jitter((170, 175, 180), rng)

    def draw(brush: Brush, now: float) -> None:
        brush.disc(0, 0.02, 0.5, water, 0.12)
        brush.line([(-0.4, 0.9), (0, 0.9), (0, 0.82)], 0.08, metal)
        for hit in hits:
            since = now - hit
            if -fall <= since < 0:
                brush.disc(0, 0.78 - 0.74 * ((since + fall) / fall) ** 2, 0.035, darker(water, 1.2), 0.045)
            elif 0 <= since < 0.9:
                for lag in (0.0, 0.15):
                    if since > lag:
                        r = 0.05 + 0.5 * (since - lag)
                        tone = darker(water, 1.35 - 0.35 * min(1, since / 0.9))
                        brush.ring(0, 0.02, r, 0.24 * r, tone)

    return Act("drip", ("water drips", "drops fall into water", "a dripping tap"), track, draw, tuple(hits))


def clap(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Two hands meet."""
    hits = _beats(seconds, rng, 0.22, 0.7)
    track = _track(seconds)
    centre = rng.uniform(900, 2000)
    for time in hits:
        burst = rng.standard_normal(int(0.09 * RATE)) * np.exp(
            -np.linspace(0, rng.uniform(7, 10), int(0.09 * RATE))
        )
        place(
            track,
            1.5 * colour(burst, band(centre * rng.uniform(0.9, 1.1), 0.8) + 0.1),
            time,
            rng.uniform(0.6, 1),
        )
    skin, sleeve = jitter((205, 160, 130), rng, 30), any_colour(rng)
    forces = np.ones(len(hits))

    def draw(brush: Brush, now: float) -> None:
        apart = 0.03 + 0.28 * swing(now, hits, forces)
        for side in (-1, 1):
            brush.line([(side * (apart + 0.35), 0.15), (side * apart, 0.5)], 0.11, sleeve)
            brush.disc(side * apart, 0.55, 0.06, skin, 0.13)

    return Act("clap", ("clapping hands", "someone claps", "hand claps"), track, draw, tuple(hits))


def piano(seconds: float, rng: np.random.Generator, held_out: bool) -> Act:
    """Keys go down and notes sound: a simple melody over chords."""
    timbre = str(rng.choice(("piano", "organ", "guitar")))
    scale = np.array((0, 2, 4, 5, 7, 9, 11, 12, 14, 16, 17, 19, 21, 23, 24))
    root = rng.uniform(160, 330)
    beat, time = rng.uniform(0.25, 0.6), rng.uniform(0.1, 0.4)
    track, hits, keys = _track(seconds), [], []
    step = int(rng.integers(3, 11))
    while time < seconds - 0.1:
        step = int(np.clip(step + rng.integers(-3, 4), 0, len(scale) - 1))
        chord = [step, *([step - 2] if step > 1 and rng.uniform() < 0.4 else [])]
        for key in chord:
            tone = note(root * 2 ** (scale[key] / 12), min(2.5 * beat + 0.3, 1.6), timbre, rng)
            place(track, tone, time, 0.6)
        hits.append(float(time))
        keys.append(chord)
        time += beat * float(rng.choice((0.5, 1, 1, 2)))
    case, count = any_colour(rng), len(scale)

    def draw(brush: Brush, now: float) -> None:
        brush.box(-0.55, 0.0, 1.1, 0.45, case)
        down = {
            k for hit, chord in zip(hits, keys, strict=True) if 0 <= now - hit < 0.8 * beat for k in chord
        }
        for k in range(count):
            tone = (250, 250, 245) if k not in down else (150, 160, 190)
            brush.box(-0.52 + k * 1.04 / count, 0.05 - 0.03 * (k in down), 0.92 / count, 0.3, tone)
        for k in down:
            brush.disc(-0.52 + (k + 0.5) * 1.04 / count, 0.1, 0.045, (215, 170, 140))

    words = (
        "music",
        f"{timbre} music",
        f"someone plays the {timbre}" if timbre != "guitar" else "a plucked tune",
        "a simple melody",
    )
    return Act("music", words, track, draw, tuple(hits))


BLOWS: dict[str, Maker] = {
    "bounce": bounce,
    "knock": knock,
    "footsteps": footsteps,
    "typing": typing,
    "clock": clock,
    "door": door,
    "drip": drip,
    "clap": clap,
    "music": piano,
}
