"""The pose signal, from real portraits and from rendered people whose joints are known."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import avatar
from avatar.drivers.blazepose import BlazePose
from avatar.drivers.face import find_faces
from avatar.drivers.hands import find_hands
from avatar.drivers.people import GUESSED, follow
from avatar.drivers.pose import PoseSignal, make_detector, overlays, picture_pose, read_pose
from avatar.drivers.skeleton import FACE, INDEX, LEFT_HAND, POINTS, RIGHT_HAND, SEEN
from avatar.errors import UserError
from avatar.writer import VideoWriter

Pixels = NDArray[np.uint8]
FPS = Fraction(25)
NOSE = 223, 132  # of the astronaut, px
LEFT_EYE, RIGHT_EYE = [362, 263], [33, 133]  # corners in the face mesh


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def detector() -> BlazePose:
    return BlazePose()


def save_film(path: Path, frames: Iterable[Pixels]) -> Path:
    frames = list(frames)
    size = frames[0].shape[1], frames[0].shape[0]
    with VideoWriter(path, size=size, fps=FPS) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def moved(image: Pixels, *shifts: int) -> list[Pixels]:
    """The picture at these places from the left of a wider grey frame."""
    frames = []
    for shift in shifts:
        frame = np.full((image.shape[0], image.shape[1] + 100, 3), 90, np.uint8)
        frame[:, shift : shift + image.shape[1]] = image
        frames.append(frame)
    return frames


def signal(frames: int = 4, size: tuple[int, int] = (200, 100)) -> PoseSignal:
    """Points in a row that moves right by 2 px a frame."""
    keypoints = np.zeros((frames, POINTS, 2), np.float32)
    keypoints[..., 0] = np.arange(POINTS) + 2 * np.arange(frames)[:, None]
    keypoints[..., 1] = 50
    return PoseSignal(fps=FPS, keypoints=keypoints, scores=np.ones((frames, POINTS), np.float32), size=size)


# ---- what is found -----------------------------------------------------------------------------


def test_a_portrait_has_its_points_where_they_are(astronaut: Pixels, detector: BlazePose) -> None:
    pose = picture_pose(astronaut, detector)
    assert len(pose) == 1 and pose.size == (512, 512)
    mesh = find_faces(astronaut)[0].landmarks[:, :2]  # found by other means
    places = {"nose": mesh[1], "left_eye": mesh[LEFT_EYE].mean(0), "right_eye": mesh[RIGHT_EYE].mean(0)}
    places |= {"left_shoulder": (305, 245), "right_shoulder": (110, 240)}  # by eye, px
    for name, place in places.items():
        reach = 25 if "shoulder" in name else 4
        assert np.linalg.norm(pose.keypoints[0, INDEX[name]] - place) < reach, name
        assert pose.scores[0, INDEX[name]] > 0.9
    neck = pose.keypoints[0, [INDEX["left_shoulder"], INDEX["right_shoulder"]]].mean(0)
    assert np.allclose(pose.keypoints[0, INDEX["neck"]], neck, atol=0.01)
    face = pose.keypoints[0, FACE]
    assert (pose.scores[0, FACE] == 1).all()
    assert face[8, 1] == face[:, 1].max() and abs(face[8, 0] - 222) < 15  # the chin
    assert face[0, 0] < 190 and face[16, 0] > 260  # the jaw begins at the person's right ear
    assert face[48, 0] < face[54, 0] and face[36, 0] < face[39, 0] < face[42, 0] < face[45, 0]
    assert face[19, 1] < face[37, 1] < face[33, 1] < face[51, 1] < face[57, 1]  # brow, eye, nose, lips
    legs = [INDEX[name] for name in ("left_knee", "right_ankle", "left_big_toe", "right_heel")]
    assert (pose.scores[0, legs] == 0).all()  # below the picture


def test_a_film_moves_its_points(
    tmp_path: Path, astronaut: Pixels, detector: BlazePose, caplog: pytest.LogCaptureFixture
) -> None:
    shifts = (0, 10, 20, 30, 40, 50)
    pose = read_pose(save_film(tmp_path / "a.mp4", moved(astronaut, *shifts)), detector)
    assert len(pose) == 6 and pose.fps == FPS and pose.size == (612, 512)
    for name in ("nose", "left_eye"):
        x = pose.keypoints[:, INDEX[name], 0]
        assert np.abs(x - x[0] - shifts).max() < 5
    assert caplog.text == ""


def test_the_second_reading_comes_from_the_cache(
    tmp_path: Path, astronaut: Pixels, detector: BlazePose
) -> None:
    film = save_film(tmp_path / "a.mp4", moved(astronaut, 0, 20))
    looked: list[int] = []

    def count(frames: Iterable[Pixels], total: int) -> Iterable[Pixels]:
        looked.append(total)
        return frames

    first, second = (read_pose(film, detector, track=count) for _ in range(2))
    assert looked == [2]
    assert np.array_equal(first.keypoints, second.keypoints) and first.size == second.size


def test_a_signals_file_is_a_driver_too(tmp_path: Path) -> None:
    signal().save(tmp_path / "a.safetensors")
    assert np.array_equal(read_pose(tmp_path / "a.safetensors").keypoints, signal().keypoints)


def test_of_two_people_one_is_taken(
    astronaut: Pixels, detector: BlazePose, caplog: pytest.LogCaptureFixture
) -> None:
    both = np.full((512, 1100, 3), 90, np.uint8)
    both[:, :512] = astronaut
    both[100:460, 650:1010] = cv2.resize(astronaut, (360, 360), interpolation=cv2.INTER_AREA)
    large, small = (picture_pose(both, detector, person, "both.png") for person in ("largest", "1"))
    assert "both.png: 2 people in frame 0, number 0 is followed" in caplog.text
    assert np.linalg.norm(large.keypoints[0, 0] - NOSE) < 5
    assert np.linalg.norm(small.keypoints[0, 0] - [650 + NOSE[0] * 360 / 512, 100 + NOSE[1] * 360 / 512]) < 5
    with pytest.raises(UserError, match=r"both\.png: there is no person 2 in frame 0"):
        picture_pose(both, detector, "2", "both.png")


def test_in_a_wide_picture_everybody_is_found(astronaut: Pixels, detector: BlazePose) -> None:
    wide = np.full((420, 1300, 3), 90, np.uint8)
    for left, side in ((0, 340), (450, 400), (960, 340)):
        wide[420 - side :, left : left + side] = cv2.resize(
            astronaut, (side, side), interpolation=cv2.INTER_AREA
        )
    noses = [picture_pose(wide, detector, str(number)).keypoints[0, 0, 0] for number in range(3)]
    expected = [left + NOSE[0] * side / 512 for left, side in ((0, 340), (450, 400), (960, 340))]
    assert np.abs(np.sort(noses) - expected).max() < 5


def test_who_walks_through_a_wide_picture_is_one_person(
    astronaut: Pixels, detector: BlazePose, caplog: pytest.LogCaptureFixture
) -> None:
    small = cv2.resize(astronaut, (400, 400), interpolation=cv2.INTER_AREA)
    frames = np.full((18, 400, 1400, 3), 90, np.uint8)
    places = np.arange(18) * 55
    for frame, left in zip(frames, places, strict=True):
        frame[:, left : left + 400] = small
    found = follow(frames, detector, 25.0)
    assert found.found.all() and caplog.text == ""
    assert np.abs(found.keypoints[:, 0, 0] - places - NOSE[0] * 400 / 512).max() < 5


def test_a_person_who_is_lost_for_a_while_is_bridged(
    tmp_path: Path, astronaut: Pixels, detector: BlazePose, caplog: pytest.LogCaptureFixture
) -> None:
    frames = moved(astronaut, *range(0, 60, 6))
    frames[3:7] = [np.full_like(frames[0], 90)] * 4
    pose = read_pose(save_film(tmp_path / "a.mp4", frames), detector)
    assert "the person is lost from 0.12 s to 0.28 s, there the pose is bridged" in caplog.text
    x = pose.keypoints[:, INDEX["nose"], 0]
    assert np.abs(x - x[0] - np.arange(0, 60, 6)).max() < 6
    assert np.allclose(pose.scores[3:7, INDEX["nose"]], GUESSED)


def test_a_film_without_a_person_is_refused(tmp_path: Path, detector: BlazePose) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 256, 256, 3), np.uint8)
    film = save_film(tmp_path / "noise.mp4", noise)
    with pytest.raises(UserError, match=r"noise\.mp4: no person found in 3 frames"):
        read_pose(film, detector)


def test_a_film_of_one_frame_stands_still(
    tmp_path: Path, astronaut: Pixels, detector: BlazePose, caplog: pytest.LogCaptureFixture
) -> None:
    pose = read_pose(save_film(tmp_path / "one.mp4", [astronaut]), detector)
    assert len(pose) == 1 and "one.mp4: has a single frame, the pose stands still" in caplog.text


def test_a_picture_that_is_no_film_and_a_missing_one_are_refused(tmp_path: Path, detector: BlazePose) -> None:
    with pytest.raises(UserError, match="no such video"):
        read_pose(tmp_path / "none.mp4", detector)
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(UserError, match="not a video that can be read"):
        read_pose(tmp_path / "text.mp4", detector)


def test_detectors_have_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be mediapipe or dwpose"):
        make_detector("openpose")
    with pytest.raises(UserError, match="has no effect without --pose-detector dwpose"):
        make_detector("mediapipe", tmp_path)


@pytest.mark.slow
def test_joints_of_rendered_people_are_found(detector: BlazePose) -> None:
    pytest.importorskip("anny")
    from avatar.recipes.halfbody import JOINTS, render_film, share_found

    film = render_film(4, 20)
    found = follow(film.frames, detector, 25.0)
    shares = share_found(film, found.keypoints, found.scores)
    assert len(shares) == 6 and np.mean([*shares.values()]) >= 0.85  # 0.98 measured
    hands = [*LEFT_HAND, *RIGHT_HAND]
    assert (found.scores[:, hands] == 1).any()
    hands_alone = find_hands(film.frames[0])
    assert hands_alone
    for hand in hands_alone:
        wrist = film.joints[0, JOINTS.index(f"{'left' if hand.left else 'right'}_wrist")]
        assert np.linalg.norm(hand.points[0] - wrist) < 20
    # 20 px right and down of that is wrong: a tenth of the shoulders' width is 11 to 13 px.
    assert np.mean([*share_found(film, found.keypoints + 20, found.scores).values()]) < 0.1


# ---- the signal --------------------------------------------------------------------------------


def test_it_is_a_name_of_the_package() -> None:
    assert avatar.PoseSignal is PoseSignal


def test_a_file_keeps_the_size_and_refuses_an_impossible_one(tmp_path: Path) -> None:
    signal().save(tmp_path / "a.safetensors")
    assert PoseSignal.load(tmp_path / "a.safetensors").size == (200, 100)
    replace(signal(), size=(0, 100)).save(tmp_path / "b.safetensors")
    with pytest.raises(UserError, match="is not a complete pose signal"):
        PoseSignal.load(tmp_path / "b.safetensors")


def test_resampling_goes_past_missing_points() -> None:
    pose = signal(3)
    pose.scores[1, 4], pose.keypoints[1, 4] = 0.0, 999
    fine = pose.resampled(Fraction(50))
    assert np.allclose(fine.keypoints[:, 7, 0], [7, 8, 9, 10, 11, 11])
    assert np.allclose(fine.keypoints[[0, 1, 3, 4], 4, 0], [4, 4, 8, 8])  # held, not drawn towards 999
    assert np.allclose(fine.scores[:, 4], [1, 0.5, 0, 0.5, 1, 1])


def test_a_mix_takes_a_missing_point_from_who_has_it() -> None:
    one, other = signal(), signal()
    other.keypoints[..., 1] = 90
    one.scores[:, 4] = 0.1
    mix = one.mixed([other], [1, 1])
    assert np.allclose(mix.keypoints[:, 7, 1], 70) and np.allclose(mix.keypoints[:, 4, 1], 90)
    mouth = one.mixed([other.masked("mouth")], [0.5, 1.0])
    assert np.allclose(mouth.keypoints[:, 7, 1], 50)
    assert np.allclose(mouth.keypoints[:, FACE[50], 1], 50 + 40 * 2 / 3, atol=1e-3)


def test_smoothing_leaves_out_what_is_missing() -> None:
    pose = signal(30)
    pose.keypoints[15, 4], pose.scores[15, 4] = 9999, 0
    smooth = pose.smoothed()
    seen = np.arange(30) != 15
    assert np.abs(smooth.keypoints[seen, 4, 0] - pose.keypoints[seen, 4, 0]).max() < 3
    assert smooth.keypoints[15, 4, 0] == 9999 and np.array_equal(smooth.scores, pose.scores)


def test_smoothing_does_not_depend_on_the_size_of_the_picture() -> None:
    pose = signal(20)
    pose.keypoints[...] += np.random.default_rng(0).normal(0, 1, pose.keypoints.shape)
    large = replace(pose, keypoints=3 * pose.keypoints, size=(600, 300))
    assert np.allclose(large.smoothed().keypoints, 3 * pose.smoothed().keypoints, rtol=1e-3)


def test_skeletons_are_drawn_at_any_size_and_by_the_mask() -> None:
    pose = signal(2)
    small = list(pose.skeletons((100, 50)))
    assert [picture.shape for picture in small] == [(50, 100, 3)] * 2 and small[0][25].any()
    face = next(pose.masked("face").skeletons())
    parts = [next(pose.masked(part).skeletons()) for part in ("mouth", "eyes", "cheeks")]
    assert all(part.any() and (part == 255).all(-1).sum() < (face == 255).all(-1).sum() for part in parts)
    assert np.array_equal(np.max(parts, 0), face)  # the face is these three
    assert not next(replace(pose, scores=pose.scores * 0 + SEEN - 0.01).skeletons()).any()
    colours = {tuple(colour) for colour in face.reshape(-1, 3).tolist()}
    assert colours == {(0, 0, 0), (255, 255, 255)}  # no body


def test_overlays_show_the_skeleton_on_the_darkened_film() -> None:
    pose = signal(2)
    frames = np.full((2, 100, 200, 3), 200, np.uint8)
    first = next(iter(overlays(frames, pose)))
    assert (first[10, 10] == 80).all()  # 40 %
    skeleton = next(pose.skeletons())
    assert np.array_equal(first[skeleton.any(-1)], skeleton[skeleton.any(-1)])


def test_no_note_is_written_while_nothing_is_wrong(
    caplog: pytest.LogCaptureFixture, astronaut: Pixels
) -> None:
    with caplog.at_level(logging.INFO, "avatar"):
        picture_pose(astronaut, BlazePose())
    assert caplog.text == ""
