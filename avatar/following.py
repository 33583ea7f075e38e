"""Does a video follow what drives it? Channels by time, joints, and what the wrong driver moves.

A driver that is a video is looked at by the judge's own face mesh, as the output is. A signals file is taken
at its word: the head by its keypoints, the face by its curves. The joints of both are found by the pose
detector.
Shapes: T frames of the driver, N of the output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from avatar import media, metrics
from avatar.drivers.expression import MOODS, ExpressionSignal
from avatar.drivers.pose import PoseSignal
from avatar.errors import UserError
from avatar.metrics import Array, Tracks
from avatar.report import CHANNELS, Following, Separation
from avatar.watch import Picture8, generated_region, watch

HEAD, FACE = CHANNELS[:3], CHANNELS[3:]
JOINTS = tuple(f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist") for side in ("left", "right"))
NEAR = 0.1  # shoulder widths within which a joint is where it should be
LONGEST_LOSS = 0.1  # share of a driver's frames without a face, beyond it that is told of
# Curves that open or lift and those that close or lower, by channel of the face.
CURVE_CHANNELS = {
    "mouth": (("jawOpen",), ("mouthClose",)),
    "eyes": (("eyeWide",), ("eyeBlink",)),
    "brows": (("browInnerUp", "browOuterUp"), ("browDown",)),
}


@dataclass(frozen=True)
class Motion:
    """What a driver does over time: channels (T,) by name, NaN where its face is lost."""

    fps: Fraction
    channels: Mapping[str, Array]

    def at(self, name: str, fps: Fraction, count: int) -> Array:
        """A channel at the times of `count` frames of another rate; NaN where it says nothing."""
        if name not in self.channels:
            return np.full(count, np.nan)
        return metrics.at_times(self.channels[name], float(self.fps), float(fps), count)


@dataclass(frozen=True)
class Joints:
    """Where joints should be in the photo: the driver on the body of the reference, and that body at rest."""

    wanted: PoseSignal
    rest: PoseSignal


@dataclass(frozen=True)
class Drivers:
    """What drove a video; `notes` says what can not be judged and why."""

    pose: Motion | None = None
    expression: Motion | None = None
    joints: Joints | None = None
    notes: list[str] = field(default_factory=list)


# ---- what drivers do -----------------------------------------------------------------------------------


def channels_of(tracks: Tracks) -> dict[str, Array]:
    """Tracks by the names of channels."""
    return dict(zip(CHANNELS, (*tracks[4:], tracks.aperture, tracks.eyes, tracks.brows), strict=True))


def pose_motion(signal: PoseSignal) -> Motion:
    """The head of a pose signal, degrees; UserError if no frame shows a face."""
    from avatar.drivers.head import HeadSignal
    from avatar.drivers.mesh import FaceBasis

    turns = np.degrees(HeadSignal.of_pose(signal, FaceBasis.load()).head[:, :3])
    return Motion(signal.fps, dict(zip(HEAD, turns.T, strict=True)))


def expression_motion(signal: ExpressionSignal) -> Motion:
    """The face of an expression signal, in curves."""
    from avatar.drivers.curves import curve_indices

    def level(names: Iterable[str]) -> Array:
        return np.asarray(signal.curves[:, list(curve_indices(*names))].mean(axis=1))

    return Motion(
        signal.fps, {name: level(more) - level(less) for name, (more, less) in CURVE_CHANNELS.items()}
    )


def film_motion(path: Path) -> tuple[Motion, list[str]]:
    """All channels of a video of a face, and what is to be said of it.

    Raises:
        UserError: no frame shows a face.
    """
    try:
        region = generated_region(media.read_image(path))
    except UserError:  # the face comes later, or is turned away at first: then it may be anywhere
        region = None
    tracks, _ = watch(path, region)
    lost = float(np.isnan(tracks.yaw).mean())
    if lost == 1:
        raise UserError(f"{path}: the judge finds no face in it, so nothing can be compared with it")
    notes = [f"{path}: {lost:.0%} of its frames show no face and are left out"] if lost > LONGEST_LOSS else []
    return Motion(media.video_info(path).fps, channels_of(tracks)), notes


def gather(
    reference: Path, pose: Path | None = None, expression: str | Path | None = None, body: bool = True
) -> Drivers:
    """Everything that the output is to be compared with.

    Args:
        reference: the photo.
        pose: video or signals file that moved the head and the body.
        expression: video, signals file or mood that moved the face.
        body: whether joints are compared too, which takes a pass of the pose detector over each video.

    Raises:
        UserError: a file that can not be read or shows no face.
    """
    notes: list[str] = []
    films: dict[Path, Motion] = {}

    def film(path: Path) -> Motion:
        if path not in films:
            films[path], said = film_motion(path)
            notes.extend(said)
        return films[path]

    head = acted = joints = None
    if pose is not None:
        media.check_file(pose, "pose")
        if pose.suffix == ".safetensors":
            signal = PoseSignal.load(pose)
            try:
                head = pose_motion(signal)
            except UserError as error:
                notes.append(f"no yaw, pitch, roll: {error}")
        else:
            head = film(pose)
        try:
            joints = gather_joints(reference, pose) if body else None
        except UserError as error:
            notes.append(f"no joints: {error}")
    if expression is not None and str(expression) in MOODS:
        notes.append(f"the mood {expression} holds still, there is nothing to follow")
    elif expression is not None:
        path = Path(expression)
        media.check_file(path, "expression")
        signals = path.suffix == ".safetensors"
        acted = expression_motion(ExpressionSignal.load(path)) if signals else film(path)
    return Drivers(head, acted, joints, notes)


# ---- joints --------------------------------------------------------------------------------------------


def find_joints(frames: Iterable[Picture8], fps: Fraction, name: str) -> PoseSignal:
    """The pose in frames (H, W, 3); points are missing where the detector misses them.

    Raises:
        UserError: nobody in any frame.
    """
    from avatar.drivers.blazepose import BlazePose
    from avatar.drivers.people import follow

    size = (0, 0)

    def measured() -> Iterable[Picture8]:
        nonlocal size
        for frame in frames:
            size = (frame.shape[1], frame.shape[0])
            yield frame

    found = follow(measured(), BlazePose(), float(fps), name=name)
    return PoseSignal(fps=fps, keypoints=found.keypoints[..., :2], scores=found.scores, size=size)


def gather_joints(reference: Path, pose: Path) -> Joints:
    """Where the driver's joints should be in the photo, smoothed and put on its body as `avatar drive` does.

    Raises:
        UserError: a body that is not seen, or the two have nothing in common.
    """
    from avatar.drivers.pose import read_pose
    from avatar.drivers.retarget import retarget

    rest = find_joints([media.read_image(reference)], Fraction(1), str(reference))
    return Joints(retarget(read_pose(pose).smoothed(), rest), rest)


def joint_share(found: PoseSignal, joints: Joints, still: bool = False) -> float | None:
    """PCK: the share of joints within NEAR shoulder widths of their place, by time.

    Only joints count that the photo and the driver show and whose place lies in the picture; None if there is
    none, or no shoulders to measure by.

    Args:
        found: joints of the output, (N, 134, 2), which may be of another size than the photo.
        still: judge the photo in place of the output.
    """
    from avatar.drivers.skeleton import INDEX, SEEN

    places = [INDEX[name] for name in JOINTS]
    wanted, rest = joints.wanted, joints.rest
    shown = rest.scores[0, places] >= SEEN
    if not shown[:2].all():
        return None
    count = min(len(found), int(np.ceil(float(wanted.seconds * found.fps) - 1e-6)))
    goal = wanted.resampled(found.fps, count)
    width, height = wanted.size
    at = goal.keypoints[:, places]
    counted = shown & (goal.scores[:, places] >= SEEN) & ((at >= 0) & (at < [width, height])).all(-1)
    if not counted.any():
        return None
    scale = np.array(wanted.size) / found.size
    there = rest.keypoints[:1, places] if still else found.keypoints[:count, places] * scale
    seen = shown if still else found.scores[:count, places] >= SEEN
    near = np.linalg.norm(there - at, axis=-1) <= NEAR * rest.unit
    return float((near & seen)[counted].mean())


# ---- figures -------------------------------------------------------------------------------------------


def follows(output: Array, driver: Array) -> float | None:
    """Pearson r of a channel with its driver at the same times; None where the driver does not move."""
    known = np.isfinite(driver) & np.isfinite(output)
    if known.sum() < 3 or np.std(driver[known]) < 1e-9:
        return None
    return metrics.correlation(output, driver)


def judge_following(tracks: Tracks, fps: Fraction, drivers: Drivers, speaks: bool = False) -> Following:
    """How the channels of an output follow; beside speech the mouth is the speech's and not judged here."""
    output, found = channels_of(tracks), {}
    for motion, names in ((drivers.pose, HEAD), (drivers.expression, FACE)):
        for name in names if motion is not None else ():
            if not (speaks and name == "mouth"):
                found[f"follow_{name}"] = follows(output[name], motion.at(name, fps, len(output[name])))  # type: ignore[union-attr]
    return Following(**found)


def judge_joints(following: Following, video: Path, fps: Fraction, joints: Joints) -> Following:
    """The figures with those of the joints, which take a pass of the pose detector over the video."""
    try:
        found = find_joints(media.read_video(video), fps, str(video))
    except UserError:  # nobody is seen where somebody should be
        return replace(following, joints=0.0)
    share, still = joint_share(found, joints), joint_share(found, joints, still=True)
    return replace(following, joints=share, joints_still=still)


def judge_separation(tracks: Tracks, fps: Fraction, drivers: Drivers) -> Separation | None:
    """What the wrong driver moves; None unless a pose and an expression come from two videos."""
    return _separation(channels_of(tracks), fps, drivers)


def separation_of_drivers(drivers: Drivers, fps: Fraction, count: int) -> Separation | None:
    """The row of a video that follows both drivers exactly: how far the drivers themselves are alike."""
    if drivers.pose is None or drivers.expression is None:
        return None
    ideal = {name: drivers.pose.at(name, fps, count) for name in HEAD}
    ideal |= {name: drivers.expression.at(name, fps, count) for name in FACE}
    return _separation(ideal, fps, drivers)


def _separation(output: Mapping[str, Array], fps: Fraction, drivers: Drivers) -> Separation | None:
    pose, expression = drivers.pose, drivers.expression
    if pose is None or expression is None or pose is expression:
        return None
    found: dict[str, float] = {}
    leaks = []
    for name, track in output.items():
        right, wrong = (pose, expression) if name in HEAD else (expression, pose)
        other = wrong.at(name, fps, len(track))
        r = follows(track, other)
        if r is not None:
            found[f"wrong_{name}"] = r
            leaks.append(abs(metrics.part_correlation(track, other, right.at(name, fps, len(track)))))
    if not found:
        return None
    return Separation(**found, separation=max(map(abs, found.values())), leak=max(leaks))
