"""What footage must be to be learned from: filters with limits that rise over five sets.

Every clip is measured once. A set's limits are looked up here, so that other limits need no new measuring. A
clip that meets the first set is kept; the highest set that it meets is its stage, for training that starts
with much and ends with the best.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

STAGES = 5
ASIDE = 50.0  # degrees, median turn of a head at most
LAG = 3  # frames that a mouth may be early or late


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Figures of a clip; None is what can not be told.

    Attributes:
        seconds: length.
        face: median height of the face in the footage, px.
        sharpness: of the face as the clip shows it, see `avatar.recipes.clip_figures.sharpness`.
        stirring: how fast the fastest tenth of the face moves, face heights a second.
        wander: side of the square that holds the face all the time / side that was asked for and is there.
        outside: share of frames in which the face is cut by the border of the clip.
        turn: median turn of the head to the side, degrees.
        text: share of the picture that text covers.
        people: in the shot.
        silence: share of frames that are silent; 1 without sound.
        sync: best correlation of mouth and sound, where somebody speaks.
        lag: by how many frames the mouth is late then.
        consistency: how motion goes with onsets of sound, see `avatar.recipes.heard.consistency`.
        sounds: share of the frames of every tag of `avatar.recipes.sound_tags`.
    """

    seconds: float
    face: float
    sharpness: float
    stirring: float
    wander: float
    outside: float
    turn: float
    text: float | None
    people: int
    silence: float
    sync: float | None
    lag: int | None
    consistency: float | None
    sounds: dict[str, float]


@dataclass(frozen=True)
class Limit:
    """What a filter asks of a figure: `least` or `most`, for each of the five sets."""

    name: str
    figure: str
    least: tuple[float, ...] | None = None
    most: tuple[float, ...] | None = None
    says: str = ""

    def failed(self, value: float, stage: int) -> str | None:
        """Why a value is not in a set, counted from 1; None where it is."""
        if self.least is not None and value < self.least[stage - 1]:
            return f"{self.says} {value:.3g} is under {self.least[stage - 1]:g}"
        if self.most is not None and value > self.most[stage - 1]:
            return f"{self.says} {value:.3g} is over {self.most[stage - 1]:g}"
        return None


LIMITS = (
    Limit("people", "people", most=(5,) * 5, says="number of people"),
    Limit("face size", "face", least=(64, 96, 128, 192, 256), says="height of the face in px"),
    Limit("turned away", "turn", most=(ASIDE, ASIDE, 40, 35, 30), says="turn of the head in degrees"),
    Limit("out of frame", "outside", most=(0.1, 0.05, 0.02, 0, 0), says="share of frames with a cut face"),
    Limit("wanders", "wander", most=(1.6, 1.5, 1.4, 1.3, 1.2), says="room that the face needs"),
    Limit("blur", "sharpness", least=(0.006, 0.008, 0.01, 0.013, 0.016), says="sharpness"),
    Limit(
        "still", "stirring", least=(0.004, 0.006, 0.008, 0.01, 0.012), says="motion in face heights a second"
    ),
    Limit(
        "too much motion", "stirring", most=(1.5, 1.3, 1.1, 0.9, 0.7), says="motion in face heights a second"
    ),
    Limit("text", "text", most=(0.02, 0.015, 0.01, 0.005, 0.002), says="share of the picture with text"),
    Limit("silence", "silence", most=(0.8, 0.8, 0.7, 0.6, 0.6), says="share of silence"),
    Limit("off-sync", "sync", least=(0.25, 0.3, 0.35, 0.4, 0.45), says="correlation of mouth and sound"),
    Limit("off-sync", "lag", most=(LAG, LAG, 2, 2, 1), says="frames between mouth and sound"),
)
NAMES = tuple(dict.fromkeys(limit.name for limit in LIMITS))
REASON = {"short": "shorter than asked for", "no person": "nobody is seen in the shot"}


@dataclass(frozen=True)
class Reason:
    """Why a clip is left out."""

    filter: str
    says: str


def judge(measures: Measures, skip: Collection[str] = (), stage: int = 1) -> list[Reason]:
    """Every filter of a set that a clip fails; those in `skip` are not asked."""
    figures: Mapping[str, Any] = asdict(measures)
    reasons = []
    for limit in LIMITS:
        value = figures[limit.figure]
        if limit.name in skip or value is None:
            continue
        said = limit.failed(abs(value), stage)
        if said is not None:
            reasons.append(Reason(limit.name, said))
    return reasons


def best_stage(measures: Measures, skip: Collection[str] = ()) -> int:
    """The highest set that a clip is in together with all sets under it; 0 for none."""
    stage = 0
    while stage < STAGES and not judge(measures, skip, stage + 1):
        stage += 1
    return stage
