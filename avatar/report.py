"""What an evaluation found: the record, its targets, its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Speech:
    """Whether the mouth says what is heard; None where there is no such sound or no phones were given."""

    closure: float | None = None  # share of p, b, m with closed lips
    opening: float | None = None  # share of open vowels with an open mouth
    silence: float | None = None  # share of pauses with a closed mouth
    rounding: float | None = None  # rounded - spread mouth width, in standard deviations
    sync_r: float | None = None  # best Pearson r of aperture and phones
    sync_lag: int | None = None  # frames; positive: the mouth is late
    range_p90: float | None = None  # 90th percentile of aperture / face height


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Whether it still looks like the photo. None where a part that computes it is not installed."""

    identity_mean: float | None = None  # dlib face distance to the reference
    identity_worst: float | None = None
    background: float | None = None  # dB, outside the generated region; None where the region is all
    sharpness: float | None = None  # of the face, against the reference's
    flicker: float | None = None  # 8-bit levels per frame, around the face
    seam: float | None = None  # step across the region's border / step beside it
    blinks: float | None = None  # per minute
    yaw_sd: float | None = None  # degrees
    pitch_sd: float | None = None  # degrees


@dataclass(frozen=True, kw_only=True)
class File:
    """Whether the file is whole."""

    frames: int
    expected_frames: int | None = None  # ceil(seconds of audio x fps)
    failed_frames: int = 0  # frames in which the face mesh found no face
    sound_offset: float | None = None  # frames by which the sound is late; None without sound
    fps: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a run took. Memory in bytes, times in seconds."""

    video_seconds: float
    wall: float
    wall_ratio: float  # (wall - load) / video_seconds
    load: float | None  # from start of the program until the nets are ready
    first_frame: float | None  # from start of the program until the first frame is there
    memory: int  # peak resident set of the program
    encoder_memory: int  # peak resident set of its child processes (ffmpeg)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All figures of one video."""

    video: str
    speech: Speech
    picture: Picture
    file: File
    cost: Cost | None = None
    notes: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, float | None]:
        """Every figure by name, with the derived ones that `TARGETS` names."""
        groups = [asdict(group) for group in (self.speech, self.picture, self.file, self.cost) if group]
        found = {name: value for group in groups for name, value in group.items()}
        if self.file.expected_frames is not None:
            found["extra_frames"] = self.file.frames - self.file.expected_frames
        if self.cost is not None:
            found["memory_gb"] = (self.cost.memory + self.cost.encoder_memory) / 1e9
        return found

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Limits(NamedTuple):
    """A closed range; one end may be infinite."""

    low: float
    high: float

    def hold(self, value: float) -> bool:
        return self.low - 1e-9 <= value <= self.high + 1e-9

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.low:g}"
        if math.isinf(self.high):
            return f">= {self.low:g}"
        if math.isinf(self.low):
            return f"<= {self.high:g}"
        return f"{self.low:g} .. {self.high:g}"


class Target(NamedTuple):
    """What one figure should reach."""

    figure: str
    text: str
    target: Limits
    stretch: Limits


def _most(figure: str, text: str, target: float, stretch: float) -> Target:
    return Target(figure, text, Limits(-math.inf, target), Limits(-math.inf, stretch))


def _least(figure: str, text: str, target: float, stretch: float) -> Target:
    return Target(figure, text, Limits(target, math.inf), Limits(stretch, math.inf))


def _within(figure: str, text: str, low: float, high: float) -> Target:
    return Target(figure, text, Limits(low, high), Limits(low, high))


TARGETS = (
    _least("closure", "closure (p b m)", 0.9, 0.97),
    _least("opening", "opening (open vowels)", 0.9, 0.97),
    _least("silence", "silence (pauses)", 0.9, 0.97),
    _most("rounding", "rounding, sd", -0.5, -1.0),
    _least("sync_r", "sync r", 0.6, 0.8),
    Target("sync_lag", "sync lag, frames", Limits(-1, 1), Limits(0, 0)),
    _within("range_p90", "range P90", 0.04, 0.20),
    _most("identity_mean", "identity, mean", 0.35, 0.25),
    _most("identity_worst", "identity, worst", 0.45, 0.35),
    _least("background", "background, dB", 40, 45),
    Target("sharpness", "sharpness", Limits(0.7, 1.3), Limits(0.85, 1.15)),
    _most("flicker", "flicker, levels", 1.5, 0.7),
    _most("seam", "seam", 1.2, 1.05),
    _within("blinks", "blinks per minute", 8, 30),
    _within("yaw_sd", "head yaw sd, degrees", 0.5, 5),
    _within("pitch_sd", "head pitch sd, degrees", 0.5, 5),
    _within("failed_frames", "frames without a face", 0, 0),
    _within("extra_frames", "frames - expected", 0, 0),
    _within("sound_offset", "sound offset, frames", -1, 1),
    _most("wall_ratio", "wall time / video time", 2, 1),
    _most("first_frame", "start to first frame, s", 15, 5),
    _most("memory_gb", "peak memory, GB", 2.5, 1.5),
)

Figures = Mapping[str, float | None]


def medians(rows: Sequence[Figures]) -> dict[str, float | None]:
    """Median of every figure over several videos; videos that lack it are left out."""
    names = dict.fromkeys(name for row in rows for name in row)
    values = {name: [v for row in rows if (v := row.get(name)) is not None] for name in names}
    return {name: median(found) if found else None for name, found in values.items()}


def verdict(value: float | None, goal: Target) -> str:
    """`stretch`, `pass`, `FAIL`, or `-` for a figure that there is not."""
    if value is None:
        return "-"
    if goal.stretch.hold(value):
        return "stretch"
    return "pass" if goal.target.hold(value) else "FAIL"


COLOURS = {"stretch": "green", "pass": "yellow", "FAIL": "red", "-": "dim"}


def table(columns: Mapping[str, Figures], title: str = "", verdicts: bool = True) -> Table:
    """Figures by column beside their targets; `verdicts` judges the first column."""
    from rich.table import Table

    result = Table("figure", *columns, "target", "stretch", title=title or None)
    if verdicts:
        result.add_column("verdict")
    for goal in TARGETS:
        values = [column.get(goal.figure) for column in columns.values()]
        if all(value is None for value in values):
            continue
        words = [verdict(value, goal) for value in values]
        cells = [
            "-" if value is None else f"[{COLOURS[word]}]{value:.3g}[/]"
            for value, word in zip(values, words, strict=True)
        ]
        result.add_row(goal.text, *cells, str(goal.target), str(goal.stretch), *words[: int(verdicts)])
    return result
