"""What an evaluation found: the record, its targets, its table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rich.table import Table


CHANNELS = ("yaw", "pitch", "roll", "mouth", "eyes", "brows")


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
class Reenactment:
    """Frame by frame against the real clip whose first frame is the reference; that frame is left out."""

    psnr: float | None = None  # dB, mean over the frames
    face_psnr: float | None = None  # dB, on the true face alone
    ssim: float | None = None
    landmark_error: float | None = None  # mean distance of the mesh / distance of the outer eye corners
    landmark_ratio: float | None = None  # landmark error / that of a video that stays the first frame
    psnr_gain: float | None = None  # dB over such a video


@dataclass(frozen=True, kw_only=True)
class Following:
    """Whether it moves as its drivers do: Pearson r by time; None where nothing drives it."""

    follow_yaw: float | None = None
    follow_pitch: float | None = None
    follow_roll: float | None = None
    follow_mouth: float | None = None
    follow_eyes: float | None = None
    follow_brows: float | None = None
    joints: float | None = None  # PCK of shoulders, elbows and wrists at 0.1 shoulder widths
    joints_still: float | None = None  # that of the photo, which does not move


@dataclass(frozen=True, kw_only=True)
class Separation:
    """Whether the wrong driver moves it: Pearson r of head channels with the expression, of the face's with
    the pose."""

    wrong_yaw: float | None = None
    wrong_pitch: float | None = None
    wrong_roll: float | None = None
    wrong_mouth: float | None = None
    wrong_eyes: float | None = None
    wrong_brows: float | None = None
    separation: float | None = None  # the largest of them, without its sign
    leak: float | None = None  # the same with that part of the wrong driver that the right one does not have


@dataclass(frozen=True, kw_only=True)
class Steering:
    """What several videos together say of pose and expression; `avatar.recipes.reenact` makes them."""

    strength_nil: float | None = None  # 8-bit levels, largest change by drivers of strength 0
    strength_rises: float | None = None  # share of channels whose response rises at every strength
    lip_loss: float | None = None  # most that a lip figure falls below that of audio alone
    mix_cost: float | None = None  # wall time of audio + pose + expression / audio alone
    pose_rate: float | None = None  # frames taken from a video a second
    expression_rate: float | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """All figures of one video."""

    video: str
    speech: Speech
    picture: Picture
    file: File
    cost: Cost | None = None
    reenactment: Reenactment | None = None
    following: Following | None = None
    separation: Separation | None = None
    notes: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, float | None]:
        """Every figure by name, with the derived ones that `TARGETS` names."""
        told = (self.reenactment, self.following, self.separation)
        groups = (self.speech, self.picture, self.file, self.cost, *told)
        found = {name: value for group in groups if group for name, value in asdict(group).items()}
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

    @property
    def open(self) -> bool:
        """Whether it says nothing."""
        return math.isinf(self.low) and math.isinf(self.high)

    def __str__(self) -> str:
        if self.open:
            return ""
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


def _shown(figure: str, text: str) -> Target:
    return _within(figure, text, -math.inf, math.inf)


def _near_nil(figure: str, text: str, target: float, stretch: float) -> Target:
    return Target(figure, text, Limits(-target, target), Limits(-stretch, stretch))


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
    _shown("psnr", "against the truth: PSNR, dB"),
    _shown("face_psnr", "PSNR of the face, dB"),
    _shown("ssim", "SSIM"),
    _shown("landmark_error", "landmark error / eye distance"),
    _most("landmark_ratio", "landmark error / still", 0.35, 0.2),
    _least("psnr_gain", "PSNR - still, dB", 3, 6),
    *(_least(f"follow_{name}", f"{name} follows, r", 0.9, 0.97) for name in ("yaw", "pitch", "roll")),
    _least("follow_mouth", "mouth follows, r", 0.8, 0.9),
    _least("follow_eyes", "eyes follow, r", 0.8, 0.9),
    _least("follow_brows", "brows follow, r", 0.6, 0.8),
    _least("joints", "joints, PCK", 0.85, 0.95),
    _shown("joints_still", "joints of the still photo"),
    *(_near_nil(f"wrong_{name}", f"{name}, wrong driver, r", 0.2, 0.1) for name in CHANNELS),
    _most("separation", "wrong driver, worst", 0.2, 0.1),
    _shown("leak", "wrong driver without the right one"),
    _within("strength_nil", "change at strength 0, levels", 0, 0),
    _within("strength_rises", "channels that rise with strength", 1, 1),
    _most("lip_loss", "lips below audio alone", 0.05, 0),
    _most("mix_cost", "wall time of a mix / audio alone", 1.5, 1.15),
    _least("pose_rate", "pose taken, frames/s", 15, 25),
    _least("expression_rate", "expression taken, frames/s", 15, 25),
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
    if value is None or goal.target.open:
        return "-"
    if goal.stretch.hold(value):
        return "stretch"
    return "pass" if goal.target.hold(value) else "FAIL"


COLOURS = {"stretch": "green", "pass": "yellow", "FAIL": "red", "-": "default"}


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
