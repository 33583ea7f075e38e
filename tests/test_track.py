"""One face followed through frames made from a real portrait."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.face import Face, find_faces
from avatar.drivers.track import FaceTracker
from avatar.errors import UserError

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]
HEIGHT = 110  # px of the astronaut's face
NEAR = 0.02 * HEIGHT  # px, what landmarks of the same face may differ by in the mean


def shown(image: Pixels, left: int, size: float = 1.0) -> Pixels:
    """The picture at a place and a size in a wide grey frame."""
    frame = np.full((600, 1000, 3), 90, np.uint8)
    picture = cv2.resize(image, None, fx=size, fy=size, interpolation=cv2.INTER_AREA)
    frame[: len(picture), left : left + picture.shape[1]] = picture
    return frame


def moved(points: Points, right: float) -> Points:
    return points + np.float32([right, 0, 0])


def follow(frames: Iterable[Pixels], choice: str = "largest") -> list[Points | None]:
    with FaceTracker(choice, "film.mp4") as tracker:
        return [tracker(frame) for frame in frames]


def away(points: Points | None, expected: Points) -> float:
    """Mean distance in the picture, px."""
    assert points is not None
    return float(np.linalg.norm(points[:, :2] - expected[:, :2], axis=1).mean())


@pytest.fixture(scope="module")
def landmarks(astronaut: Pixels) -> Points:
    """Of the portrait at the left edge of a frame, found without a tracker."""
    return find_faces(shown(astronaut, 0))[0].landmarks


def test_a_face_has_the_landmarks_that_a_picture_of_it_has(astronaut: Pixels, landmarks: Points) -> None:
    found = follow([shown(astronaut, 0)] * 3)
    assert all(points is not None and points.shape == (478, 3) for points in found)
    assert all(points is not None and points.dtype == np.float32 for points in found)
    assert away(found[0], landmarks) < 0.3  # px; a first pass alone is off by 0.6


def test_following_is_repeatable(astronaut: Pixels) -> None:
    frames = [shown(astronaut, left) for left in (0, 20, 40)]
    for one, other in zip(follow(frames), follow(frames), strict=True):
        assert one is not None and other is not None and np.array_equal(one, other)


def test_a_face_that_moves_is_followed_out_of_the_square_where_it_began(
    astronaut: Pixels, landmarks: Points
) -> None:
    lefts = range(0, 481, 24)  # four face heights in all
    found = follow(shown(astronaut, left) for left in lefts)
    for left, points in zip(lefts, found, strict=True):
        assert away(points, moved(landmarks, left)) < NEAR, left


@pytest.mark.parametrize("order", [1, -1])
def test_a_face_that_comes_nearer_or_goes_is_followed(
    astronaut: Pixels, landmarks: Points, order: int
) -> None:
    """From 50 px to four times that, in its place; the square that is looked at begins with twice it."""
    sizes = np.geomspace(0.45, 1.8, 16)[::order]
    middle = landmarks[:, :2].mean(0)
    found, expected = [], []
    with FaceTracker() as tracker:
        for size in sizes:
            shift = np.float32([500, 300]) - size * middle
            warp = np.float32([[size, 0, shift[0]], [0, size, shift[1]]])
            picture = cv2.warpAffine(astronaut, warp, (1000, 600), borderValue=(90, 90, 90))
            found.append(tracker(picture.astype(np.uint8)))
            expected.append(landmarks[:, :2] * size + shift)
    for size, points, place in zip(sizes, found, expected, strict=True):
        assert away(points, place) < 0.03 * HEIGHT * size, size


def test_a_face_that_leaves_is_told_of_and_found_again_elsewhere(
    astronaut: Pixels, landmarks: Points
) -> None:
    empty = np.full((600, 1000, 3), 90, np.uint8)
    found = follow([shown(astronaut, 0), empty, empty, shown(astronaut, 400)])
    assert found[1] is None and found[2] is None
    assert away(found[0], landmarks) < NEAR and away(found[3], moved(landmarks, 400)) < NEAR


@pytest.mark.parametrize("step", [40, 60, 460])
def test_neither_haste_nor_a_cut_loses_a_frame(astronaut: Pixels, landmarks: Points, step: int) -> None:
    lefts = range(0, 461, step)
    found = follow(shown(astronaut, left) for left in lefts)
    for left, points in zip(lefts, found, strict=True):
        assert away(points, moved(landmarks, left)) < 0.05 * HEIGHT, left


def test_frames_without_a_face_give_none_until_there_is_one(astronaut: Pixels, landmarks: Points) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (600, 1000, 3), dtype=np.uint8)
    found = follow([noise, noise, shown(astronaut, 200)])
    assert found[0] is None and found[1] is None
    assert away(found[2], moved(landmarks, 200)) < NEAR


# ---- several faces -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def both(astronaut: Pixels) -> Pixels:
    """A large face on the left, one of two thirds on the right."""
    frame = shown(astronaut, 0)
    small = cv2.resize(astronaut, (340, 340), interpolation=cv2.INTER_AREA)
    frame[100:440, 600:940] = small
    return frame


@pytest.mark.parametrize(("choice", "face"), [("largest", 0), ("0", 0), ("1", 1), ("700,140,70,80", 1)])
def test_the_chosen_face_is_followed(both: Pixels, choice: str, face: int) -> None:
    found = follow([both] * 2, choice)
    expected = find_faces(both)[face].landmarks
    assert all(away(points, expected) < NEAR for points in found)


def test_a_face_that_comes_back_is_the_nearest_and_not_the_largest(both: Pixels) -> None:
    empty = np.full_like(both, 90)
    last = follow([both, empty, both], "1")[2]
    assert last is not None
    assert Face(last).height == pytest.approx(HEIGHT * 340 / 512, abs=4)


def test_a_face_that_is_not_there_is_refused_by_the_name_of_the_film(both: Pixels) -> None:
    with pytest.raises(UserError, match=r"film\.mp4: there is no face 2; found "):
        follow([both], "2")


def test_following_prints_nothing(astronaut: Pixels, capfd: pytest.CaptureFixture[str]) -> None:
    follow([shown(astronaut, 0)] * 2)
    told = capfd.readouterr()
    assert told.out == "" and told.err == ""


def test_a_hint_says_where_to_look(astronaut: Pixels, landmarks: Points) -> None:
    """Of two alike the one that the hint is at is followed; where there is none, none is looked for."""
    both = shown(astronaut, 0)
    both[: astronaut.shape[0], 488:] = astronaut
    with FaceTracker() as tracker:
        for right in (0, 488, 0):
            hint = moved(landmarks[:468], right + 5)
            found = tracker.near(both, hint)
            assert away(found, moved(landmarks, right)) < NEAR
        assert tracker.near(np.full_like(both, 90), landmarks) is None
