"""The pose of a photo from two looks at it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.face import find_faces
from avatar.drivers.hands import Hand
from avatar.drivers.photo_pose import (
    GUESSED,
    KNOT,
    MIRRORED,
    REACH,
    SHOWN,
    agreed,
    end_arms,
    end_at_border,
    photo_pose,
)
from avatar.drivers.skeleton import FACE, INDEX, LEFT_HAND, POINTS, SEEN

Array = NDArray[np.float32]
WIDTH = 100.0  # px between the shoulders
ARM = [INDEX[name] for name in ("left_elbow", "left_wrist", "left_hand_wrist", "left_hand_index_1")]


def person() -> tuple[Array, Array]:
    points = np.random.default_rng(0).uniform(0, 300, (POINTS, 2)).astype(np.float32)
    points[INDEX["left_shoulder"]], points[INDEX["right_shoulder"]] = (200, 100), (200 - WIDTH, 100)
    points[INDEX["left_elbow"]], points[INDEX["right_elbow"]] = (220, 150), (80, 150)
    points[INDEX["left_wrist"]], points[INDEX["right_wrist"]] = (240, 150), (60, 150)
    return points, np.ones(POINTS, np.float32)


def test_the_mirror_changes_sides_and_back() -> None:
    assert MIRRORED[INDEX["left_wrist"]] == INDEX["right_wrist"]
    assert MIRRORED[INDEX["right_hand_thumb_2"]] == INDEX["left_hand_thumb_2"]
    assert MIRRORED[INDEX["neck"]] == INDEX["neck"]
    assert [MIRRORED[at] for at in MIRRORED] == list(range(POINTS))


def test_two_looks_are_averaged_where_both_see() -> None:
    points, scores = person()
    others, sure = points + 4, scores.copy()
    sure[INDEX["left_knee"]] = 0
    found, known = agreed(points, scores, others, sure)
    np.testing.assert_allclose(found[INDEX["right_wrist"]], points[INDEX["right_wrist"]] + 2, atol=1e-4)
    np.testing.assert_array_equal(found[INDEX["left_knee"]], points[INDEX["left_knee"]])
    assert (known == 1).all()


def test_an_arm_that_is_guessed_anywhere_is_missing() -> None:
    points, scores = person()
    for joint in ("left_elbow", "left_wrist"):
        for far, gone in ((0.9, []), (1.1, ARM)):
            others = points.copy()
            others[INDEX[joint], 1] += far * GUESSED * WIDTH
            _, known = agreed(points, scores, others, scores)
            assert [at for at in ARM if known[at] < SEEN] == gone
            assert known[INDEX["right_elbow"]] == 1


def test_an_elbow_that_its_arm_hides_is_known_where_both_looks_have_it_and_the_wrist_is_seen() -> None:
    points, scores = person()
    elbow, wrist = INDEX["left_elbow"], INDEX["left_wrist"]
    scores[elbow] = 0.1
    for far, sight, known in ((0.9, 1.0, True), (1.1, 1.0, False), (0.9, 0.1, False)):
        others, sure = points.copy(), scores.copy()
        others[elbow, 0] += far * GUESSED * WIDTH
        sure[wrist] = sight
        found, share = agreed(points, scores, others, sure)
        assert (share[elbow] >= SEEN) == known
        assert found[elbow, 0] == pytest.approx(
            points[elbow, 0] + (far * GUESSED * WIDTH / 2 if known else 0)
        )


def test_arms_that_cross_stay_on_the_trunk() -> None:
    points, scores = person()
    for far, crossed in ((1.1, False), (0.9, True)):  # the right wrist under the left forearm
        points[INDEX["right_wrist"]] = (230, 150 + far * KNOT * WIDTH)
        _, known = agreed(points, scores, points, scores)
        assert (known[[*ARM, INDEX["right_elbow"]]] < SEEN).all() == crossed


def test_a_forearm_that_leaves_the_photo_ends_right_beyond_its_border() -> None:
    """One of which less than SHOWN is in the photo keeps the guess."""
    for length, end in ((0.9 * 100 / SHOWN, 401), (1.1 * 100 / SHOWN, 300 + 1.1 * 100 / SHOWN), (90, 390)):
        points, _ = person()
        points[INDEX["left_elbow"]], points[INDEX["left_wrist"]] = (300, 200), (300 + length, 200)
        end_at_border(points, (400, 400))
        np.testing.assert_allclose(points[INDEX["left_wrist"]], (end, 200), atol=1e-3)


def looks_at(apart: float, away: float) -> tuple[list[tuple[Array, Array]], Hand, Array]:
    """Two looks that put the left wrist so many px apart, a hand so many px from the elbow, and the wrist."""
    points, scores = person()
    others = points.copy()
    others[INDEX["left_wrist"], 1] += apart
    hand = np.random.default_rng(1).uniform(0, 20, (21, 2)).astype(np.float32)
    hand += np.float32([220, 150 + away]) - hand[0]
    return (
        [(points, scores), (others, scores.copy())],
        Hand(hand, left=True),
        points[INDEX["left_wrist"]].copy(),
    )


@pytest.mark.parametrize(("apart", "away", "taken"), [(1.1, 0.9, True), (0.9, 0.9, False), (1.1, 1.1, False)])
def test_a_hand_ends_an_arm_whose_wrist_is_guessed(apart: float, away: float, taken: bool) -> None:
    looks, hand, wrist = looks_at(apart * GUESSED * WIDTH, away * REACH * WIDTH)
    end_arms(looks, [hand])
    for points, _ in looks:
        assert np.array_equal(points[LEFT_HAND], hand.points) == taken
    assert np.array_equal(looks[0][0][INDEX["left_wrist"]], hand.points[0] if taken else wrist)
    _, known = agreed(*looks[0], *looks[1])
    assert (known[INDEX["left_wrist"]] >= SEEN) == (taken or apart < 1)


def test_each_hand_ends_one_arm_and_hands_know_their_side() -> None:
    looks, left, _ = looks_at(1.1 * GUESSED * WIDTH, 30)
    for points, _ in looks:  # both arms are guessed, at the same place
        points[INDEX["right_elbow"]] = points[INDEX["left_elbow"]]
    looks[0][0][INDEX["right_wrist"]] = looks[0][0][INDEX["left_wrist"]]
    looks[1][0][INDEX["right_wrist"]] = looks[1][0][INDEX["left_wrist"]]
    right = Hand(left.points + np.float32([6, 0]), left=False)
    end_arms(looks, [right, left])
    assert np.array_equal(looks[0][0][INDEX["left_wrist"]], left.points[0])
    assert np.array_equal(looks[0][0][INDEX["right_wrist"]], right.points[0])


def test_a_photo_is_looked_at_once(
    astronaut: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    face = find_faces(astronaut)[0].landmarks
    found = photo_pose(astronaut, face)
    (kept,) = tmp_path.rglob("*.safetensors")
    written = kept.stat().st_mtime_ns
    known = photo_pose(astronaut, face)
    assert np.array_equal(known.keypoints, found.keypoints) and np.array_equal(known.scores, found.scores)
    assert known.size == found.size and kept.stat().st_mtime_ns == written
    photo_pose(astronaut, face + 1)
    assert len([*tmp_path.rglob("signals/*.safetensors")]) == 2


def test_a_mirrored_photo_has_the_mirrored_pose(astronaut: NDArray[np.uint8]) -> None:
    """Both looks are taken of both, in the other order."""
    face = find_faces(astronaut)[0].landmarks
    found = photo_pose(astronaut, face)
    width = astronaut.shape[1]
    turned = photo_pose(np.ascontiguousarray(astronaut[:, ::-1]), face * [-1, 1, 1] + [width, 0, 0])
    back = turned.keypoints[0][MIRRORED] * [-1, 1] + [width, 0]
    body = [at for at in range(POINTS) if at not in FACE and found.scores[0, at] >= SEEN]
    assert len(body) > 6
    assert np.abs(back - found.keypoints[0])[body].max() < 1.5  # px of 512
