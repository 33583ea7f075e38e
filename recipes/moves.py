"""What a prompt can ask for: moves of face, eyes and head, and plans made of them.

A move holds (a smile, a turned head), comes and goes (a wink, a glance), or swings (a nod). What holds stays
until a later move takes its tracks. Tracks are those of `avatar.drivers.prompt_net`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from avatar.drivers.expression import MOODS
from avatar.drivers.prompt_net import FACE, GAZE, HEAD, TRACK

Kind = Literal["hold", "pulse", "nod", "shake"]  # nod swings to one side of rest, shake to both
Targets = Mapping[str, float]


@dataclass(frozen=True)
class Motion:
    """What a move does to the tracks.

    Attributes:
        targets: where tracks go from rest.
        seconds: of the way there; of a nod or a shake, of one turn.
        stay: seconds that a pulse stays there.
        base: what holds as long as a swing goes on, and after it.
        clears: tracks that go back to rest unless they have a target.
    """

    kind: Kind
    targets: Targets
    seconds: float
    stay: float = 0.0
    base: Targets | None = None
    clears: tuple[str, ...] = ()


def _both(targets: Targets) -> dict[str, float]:
    """Curves named without their side, and gaze curves, as tracks."""
    tracks: dict[str, float] = {}
    for name, value in targets.items():
        if name in TRACK:
            tracks[name] = value
        elif name == "eyeLookDown":
            tracks["gazeDown"] = value
        else:
            tracks |= {f"{name}Left": value, f"{name}Right": value}
    return tracks


MORE_MOODS: dict[str, dict[str, float]] = {
    "tired": {"eyeBlink": 0.42, "browInnerUp": 0.25, "mouthFrown": 0.15},
    "serious": {"browDown": 0.4, "mouthPress": 0.3},
    "confused": {"browDown": 0.35, "browInnerUp": 0.5, "eyeSquint": 0.3, "mouthPress": 0.2},
    "neutral": {},
}
OPEN_EYES = {"eyeBlinkLeft": 0.0, "eyeBlinkRight": 0.0}


def _hold(targets: Targets, seconds: float = 0.6, clears: tuple[str, ...] = ()) -> Motion:
    return Motion("hold", _both(targets), seconds, clears=clears)


def _catalogue() -> dict[str, Motion]:
    found = {
        mood: _hold({name: value for name, value in curves.items() if value > 0}, 0.7, FACE)
        for mood, curves in (MOODS | MORE_MOODS).items()
    }
    found |= {
        "smile": _hold({"mouthSmile": 0.6, "cheekSquint": 0.3, "mouthDimple": 0.2}),
        "grin": _hold({"mouthSmile": 0.85, "mouthUpperUp": 0.45, "mouthLowerDown": 0.15, "cheekSquint": 0.5}),
        "frown": _hold({"mouthFrown": 0.65, "browDown": 0.35}),
        "pout": _hold({"mouthPucker": 0.5, "mouthShrugLower": 0.55}),
        "press": _hold({"mouthPress": 0.75}),
        "gape": _hold({"jawOpen": 0.45}),
        "brows": _hold({"browInnerUp": 0.75, "browOuterUp": 0.75}, 0.4),
        "knit": _hold({"browDown": 0.8}, 0.4),
        "widen": _hold({"eyeWide": 0.85}, 0.35),
        "squint": _hold({"eyeSquint": 0.75, "cheekSquint": 0.25}, 0.4),
        "close": _hold({"eyeBlink": 0.97}, 0.4),
        "open": _hold(OPEN_EYES, 0.35),
        "puff": _hold({"cheekPuff": 0.85}),
        "wrinkle": _hold({"noseSneer": 0.8, "mouthUpperUp": 0.2}, 0.4),
        "blink": Motion("pulse", _both({"eyeBlink": 1.0}), 0.12, 0.06),
        "blinks": Motion("nod", _both({"eyeBlink": 1.0}), 0.55),
        "laugh": Motion(
            "nod", {"jawOpen": 0.3, "pitch": -0.05}, 0.36,
            base=_both({"mouthSmile": 0.85, "mouthUpperUp": 0.4, "cheekSquint": 0.6, "eyeSquint": 0.35}),
        ),
        "nod": Motion("nod", {"pitch": 0.16, "down": 0.015}, 0.72),
        "nod once": Motion("pulse", {"pitch": 0.17, "down": 0.015}, 0.32, 0.08),
        "shake": Motion("shake", {"yaw": 0.15}, 0.72),
        "rock": Motion("shake", {"roll": 0.09, "right": 0.07}, 2.2),
        "roll eyes": Motion("pulse", {"gazeDown": -0.85}, 0.3, 0.4),
        "glance around": Motion("shake", {"gazeRight": 0.7, "yaw": 0.06}, 2.6),
        "camera": _hold(dict.fromkeys(GAZE, 0.0) | OPEN_EYES, 0.25),
        "ahead": _hold(dict.fromkeys((*GAZE, *HEAD), 0.0), 0.9),
        "lean in": _hold({"away": -0.5, "pitch": 0.04, "down": 0.02}, 0.9),
        "lean back": _hold({"away": 0.5, "pitch": -0.05, "down": -0.01}, 0.9),
        "still": _hold({"sway": -1.0}, 0.5),
        "lively": _hold({"sway": 0.9}, 0.6),
    }  # fmt: skip
    for side, sign in (("left", -1.0), ("right", 1.0)):  # of the picture
        found |= {
            f"turn {side}": _hold({"yaw": 0.25 * sign, "gazeRight": 0.25 * sign}, 1.0),
            f"look {side}": _hold({"gazeRight": 0.6 * sign, "yaw": 0.12 * sign}, 0.5),
            f"eyes {side}": _hold({"gazeRight": 0.75 * sign}, 0.2),
            f"glance {side}": Motion("pulse", {"gazeRight": 0.75 * sign, "yaw": 0.04 * sign}, 0.16, 0.8),
            f"tilt {side}": _hold({"roll": 0.16 * sign}, 0.9),
            f"move {side}": _hold({"right": 0.08 * sign, "roll": 0.03 * sign}, 0.9),
        }
    for side, sign in (("up", -1.0), ("down", 1.0)):
        lids = {"eyeBlinkLeft": 0.2, "eyeBlinkRight": 0.2} if side == "down" else {}
        found |= {
            f"turn {side}": _hold({"pitch": 0.18 * sign, "gazeDown": 0.1 * sign}, 0.9),
            f"look {side}": _hold({"gazeDown": 0.5 * sign, "pitch": 0.09 * sign} | lids, 0.5),
            f"eyes {side}": _hold({"gazeDown": 0.65 * sign} | lids, 0.2),
            f"glance {side}": Motion("pulse", {"gazeDown": 0.65 * sign, "pitch": 0.03 * sign}, 0.16, 0.8),
        }
    for side in ("Left", "Right"):  # the person's own
        found |= {
            f"wink {side.lower()}": Motion(
                "pulse", {f"eyeBlink{side}": 1.0, "cheekSquint": 0.25}, 0.14, 0.14
            ),
            f"brow {side.lower()}": _hold({f"browOuterUp{side}": 0.85, "browInnerUp": 0.25}, 0.35),
            f"smirk {side.lower()}": _hold({f"mouthSmile{side}": 0.75, "mouthDimple": 0.25}, 0.5),
        }
    return found


MOVES: dict[str, Motion] = _catalogue()
MOOD_NAMES: tuple[str, ...] = (*MOODS, *MORE_MOODS)


@dataclass(frozen=True)
class Move:
    """A move with how far and how fast it is made; `name` is one of MOVES."""

    name: str
    size: str = "usual"
    speed: str = "usual"


Plan = tuple[tuple[Move, ...], ...]  # steps in order, each of moves at the same time


def touched(name: str) -> frozenset[str]:
    """Tracks that a move is about."""
    return frozenset((*MOVES[name].targets, *(MOVES[name].base or ())))
