"""What the clip factory's people do: random face curves, blinks, gaze, brows and head motion around speech
or none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES, INDEX, MOUTH, curve_indices

Array = NDArray[np.float32]

FPS = 25
BLINK_SHAPE = np.array([0.15, 0.75, 1.0, 0.85, 0.45, 0.15], np.float32)  # lids at 25 fps
EXPRESSIONS: dict[str, dict[str, tuple[float, float]]] = {
    "neutral": {},
    "closed smile": {"mouthSmile": (0.2, 0.6), "cheekSquint": (0.0, 0.3), "mouthDimple": (0.0, 0.3)},
    "smile": {"mouthSmile": (0.5, 1.0), "mouthUpperUp": (0.4, 0.9), "mouthLowerDown": (0.1, 0.5),
              "mouthStretch": (0.0, 0.4), "jawOpen": (0.04, 0.16), "cheekSquint": (0.1, 0.6)},
    "laugh": {"mouthSmile": (0.6, 1.0), "mouthUpperUp": (0.3, 0.7), "mouthLowerDown": (0.2, 0.6),
              "jawOpen": (0.15, 0.4), "cheekSquint": (0.3, 0.8), "eyeSquint": (0.2, 0.7)},
    "open": {"jawOpen": (0.05, 0.35), "mouthUpperUp": (0.0, 0.3), "mouthLowerDown": (0.0, 0.4)},
    "serious": {"browDown": (0.1, 0.5), "mouthPress": (0.0, 0.5), "mouthFrown": (0.0, 0.4)},
    "surprised": {"browInnerUp": (0.3, 0.9), "browOuterUp": (0.2, 0.8), "eyeWide": (0.2, 0.7),
                  "jawOpen": (0.0, 0.3)},
}  # fmt: skip
EXPRESSION_SHARE = {
    "neutral": 0.3, "closed smile": 0.18, "smile": 0.2, "laugh": 0.08, "open": 0.1, "serious": 0.1,
    "surprised": 0.04,
}  # fmt: skip
RARE = (
    "tongueOut",
    "cheekPuff",
    "jawForward",
    "jawLeft",
    "jawRight",
    "mouthLeft",
    "mouthRight",
    "noseSneer",
    "mouthShrugUpper",
)

# Actions that fill some clips alone.
LONE = (("mouthPucker",), ("mouthPucker",), ("mouthPucker",), ("mouthFunnel",), ("jawOpen",),
        ("mouthSmile",), ("mouthStretch",), ("mouthPress",), ("mouthRollLower", "mouthRollUpper"),
        ("eyeBlink",), ("eyeBlink",), ("eyeBlink",))  # fmt: skip
LONE_SHARE = 0.4  # of the clips without speech


@dataclass(frozen=True, kw_only=True)
class Act:
    """Motion of one clip; row 0 of each array is the reference, rows 1.. the frames.

    Attributes:
        curves: (1 + T, 52).
        angles: yaw, pitch, roll of the head in the camera's axes, radians, (1 + T, 3).
        shift: of the head in face heights, (1 + T, 3).
        expression: what the reference shows.
        kind: "speech", "random", "lone" or "still".
    """

    curves: Array
    angles: Array
    shift: Array
    expression: str
    kind: str


def smooth_walk(rng: np.random.Generator, frames: int, reach: float) -> Array:
    """Smooth random curve of unit variance, (frames,); `reach` is its time constant in frames."""
    half = max(1, int(3 * reach))
    window = np.exp(-0.5 * (np.arange(-half, half + 1) / reach) ** 2)
    noise = rng.standard_normal(frames + 2 * half)
    return np.convolve(noise, window / np.sqrt((window**2).sum()), "valid").astype(np.float32)


def draw_expression(rng: np.random.Generator) -> tuple[Array, str]:
    """Curves (52,) of a natural expression, and its name."""
    name = str(rng.choice(list(EXPRESSION_SHARE), p=list(EXPRESSION_SHARE.values())))
    curves = np.zeros(len(CURVES), np.float32)
    for curve, (low, high) in EXPRESSIONS[name].items():
        level = rng.uniform(low, high)
        for index in curve_indices(curve):
            curves[index] = level * rng.uniform(0.85, 1.0)
    return curves, name


def random_mouth(rng: np.random.Generator, frames: int) -> Array:
    """Rich mouth curves that no language bounds, (frames, 52): openings, closures, rounding, smiles, rolls
    and rare actions.
    """
    curves = np.zeros((frames, len(CURVES)), np.float32)
    pace = rng.uniform(1.2, 5)

    def burst(level: float, threshold: float) -> Array:
        return np.clip(level * (0.6 * smooth_walk(rng, frames, pace * rng.uniform(0.7, 2)) - threshold), 0, 1)

    for name, level, threshold, chance in (
        ("jawOpen", 0.6, -0.3, 0.9),
        ("mouthPucker", 0.8, 0.0, 0.5),
        ("mouthFunnel", 0.7, 0.1, 0.5),
        ("mouthSmile", 0.7, 0.0, 0.5),
        ("mouthStretch", 0.7, 0.1, 0.5),
        ("mouthUpperUp", 0.6, 0.0, 0.6),
        ("mouthLowerDown", 0.6, 0.0, 0.6),
        ("mouthPress", 0.8, 0.2, 0.5),
        ("mouthRollLower", 0.8, 0.2, 0.4),
        ("mouthRollUpper", 0.7, 0.3, 0.3),
        ("mouthDimple", 0.6, 0.2, 0.3),
        ("mouthFrown", 0.6, 0.2, 0.3),
        ("mouthShrugLower", 0.6, 0.2, 0.3),
        *((name, 0.6, 0.2, 0.12) for name in RARE),
    ):
        if rng.random() < chance:
            both = burst(level, threshold)
            for index in curve_indices(name):
                curves[:, index] = np.clip(
                    both * (1 + 0.15 * rng.normal()) + 0.3 * burst(level, threshold + 0.3), 0, 1
                )
    jaw, close = INDEX["jawOpen"], INDEX["mouthClose"]
    shut = np.clip(
        1.6 * smooth_walk(rng, frames, rng.uniform(1.0, 2.5)) - 1.2, 0, 1
    )  # full closures in between
    opening = list(curve_indices("mouthUpperUp", "mouthLowerDown", "mouthFunnel"))
    curves[:, opening] *= 1 - shut[:, None]
    curves[:, jaw] *= 1 - 0.75 * shut
    curves[:, close] = np.clip(curves[:, jaw] * shut, 0, 1)
    tongue = INDEX["tongueOut"]
    curves[:, tongue] *= np.clip(curves[:, jaw] * 4 - 0.6, 0, 1) * (1 - shut)
    return curves


def lone_action(rng: np.random.Generator, frames: int) -> Array:
    """One action at a time on a face at rest, (frames, 52): what a condition does is learnt best alone."""
    names = LONE[int(rng.integers(len(LONE)))]
    curves = np.zeros((frames, len(CURVES)), np.float32)
    level = np.abs(smooth_walk(rng, frames, rng.uniform(2, 6))) * rng.uniform(0.3, 0.8)
    curves[:, curve_indices(*names)] = np.clip(level, 0, 1)[:, None]
    return curves


def add_eyes(rng: np.random.Generator, curves: Array, blinks: bool) -> None:
    """Write blinks, gaze, lids and brows into curves (n, 52); row 0 is the reference, which mostly has open
    eyes.
    """
    rows = len(curves)
    blink = np.zeros(rows, np.float32)
    if blinks and rng.random() < 0.55:
        start = int(rng.integers(-3, rows - 2))
        for i, level in enumerate(BLINK_SHAPE):
            if 1 <= start + i < rows:
                blink[start + i] = level
    for index in curve_indices("eyeBlink"):
        curves[:, index] = np.clip(blink * rng.uniform(0.95, 1.0) + rng.uniform(0, 0.06), 0, 1)
    jump = int(rng.integers(1, rows)) if rng.random() < 0.4 else rows
    for name_low, name_high, spread in (("eyeLookDown", "eyeLookUp", 0.25), ("eyeLookOut", "eyeLookIn", 0.3)):
        level = np.full(rows, rng.normal(0, spread), np.float32) + 0.02 * smooth_walk(rng, rows, 2)
        level[jump:] += rng.normal(0, spread * 1.2)
        level[0] = rng.normal(0, spread * 0.7)
        if name_low == "eyeLookOut":  # one eye's outward is the other's inward
            for side, sign in (("Left", 1), ("Right", -1)):
                curves[:, INDEX["eyeLookOut" + side]] = np.clip(sign * level, 0, 1)
                curves[:, INDEX["eyeLookIn" + side]] = np.clip(-sign * level, 0, 1)
        else:
            for side in ("Left", "Right"):
                curves[:, INDEX[name_low + side]] = np.clip(level, 0, 1)
                curves[:, INDEX[name_high + side]] = np.clip(-level, 0, 1)
    for name, chance in (
        ("browInnerUp", 0.4),
        ("browOuterUp", 0.3),
        ("browDown", 0.3),
        ("eyeSquint", 0.25),
        ("eyeWide", 0.15),
    ):
        if rng.random() < chance:
            level = np.clip(rng.uniform(0.1, 0.5) * smooth_walk(rng, rows, rng.uniform(2, 8)), 0, 1)
            for index in curve_indices(name):
                curves[:, index] = np.clip(curves[:, index] + level, 0, 1)


def draw_act(rng: np.random.Generator, frames: int, speech: Array | None, lone: bool = False) -> Act:
    """Random acting.

    Args:
        rng: source of chance.
        frames: T.
        speech: mouth curves of an utterance at the frames' times, (T, 52), or None for random motion.
        lone: without speech, move one thing alone.
    """
    expression, name = draw_expression(rng)
    mood = np.float32(rng.uniform(0, 0.5) * (rng.random() < 0.5))
    curves = np.zeros((1 + frames, len(CURVES)), np.float32)
    curves[0] = expression
    kind = "random" if speech is None else "speech"
    still = rng.random() < 0.05
    if still:
        kind = "still"
        curves[1:] = mood * draw_expression(rng)[0] * (np.arange(len(CURVES)) != INDEX["jawOpen"])
        curves[1:, list(curve_indices("mouthUpperUp", "mouthLowerDown"))] = 0
    elif speech is None and (lone or rng.random() < LONE_SHARE):
        kind = "lone"
        curves[0] *= rng.random() < 0.4
        curves[1:] = curves[0] + lone_action(rng, frames)
    elif speech is None:
        curves[1:] = random_mouth(rng, frames)
        if rng.random() < 0.35:
            curves[0, list(MOUTH)] = np.clip(random_mouth(rng, 12)[6], 0, 1)[list(MOUTH)] * rng.uniform(
                0.5, 1
            )
    else:
        smile = list(curve_indices("mouthSmile", "cheekSquint", "mouthDimple"))
        curves[1:] = speech
        curves[1:, smile] = np.clip(curves[1:, smile] + mood * expression[smile], 0, 1)
        if rng.random() < 0.25:
            curves[0] = np.clip(0.3 * expression + speech[int(rng.integers(frames))], 0, 1)
    if kind != "lone":
        add_eyes(rng, curves, blinks=not still)
    if still:
        curves[1:] = curves[1]

    base = np.array([rng.normal(0, 0.14), rng.normal(0, 0.085), rng.normal(0, 0.05)], np.float32)
    base = np.clip(base, (-0.36, -0.21, -0.14), (0.36, 0.21, 0.14))
    amounts = (0.0,) if still else (0.0, 0.0, 0.3, 1.0) if kind == "lone" else (0.3, 1.0, 1.0, 1.0, 2.2, 3.5)
    amount = float(rng.choice(amounts))
    sway = np.stack([smooth_walk(rng, frames, rng.uniform(5, 14)) for _ in range(6)], 1)
    angles = sway[:, :3] * np.array([0.035, 0.03, 0.02], np.float32) * amount
    shift = sway[:, 3:] * np.array([0.012, 0.010, 0.02], np.float32) * amount
    if rng.random() < 0.5:  # the reference is a moment of the same sitting
        angles, shift = angles - angles.mean(0), shift - shift.mean(0)
    else:
        angles = angles + rng.normal(0, (0.07, 0.05, 0.03)).astype(np.float32)
        shift = shift + rng.normal(0, (0.03, 0.025, 0.04)).astype(np.float32)
    return Act(
        curves=np.clip(curves, 0, 1),
        angles=np.concatenate([base[None], base + angles]).astype(np.float32),
        shift=np.concatenate([np.zeros((1, 3)), shift]).astype(np.float32),
        expression=name,
        kind=kind,
    )
