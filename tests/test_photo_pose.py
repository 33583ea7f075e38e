"""The pose of a photo from two looks at it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.face import find_faces
from avatar.drivers.photo_pose import GUESSED, MIRRORED, agreed, photo_pose
from avatar.drivers.skeleton import FACE, INDEX, POINTS, SEEN

Array = NDArray[np.float32]
WIDTH = 100.0  # px between the shoulders
ARM = [INDEX[name] for name in ("left_elbow", "left_wrist", "left_hand_wrist", "left_hand_index_1")]


def person() -> tuple[Array, Array]:
    points = np.random.default_rng(0).uniform(0, 300, (POINTS, 2)).astype(np.float32)
    points[INDEX["left_shoulder"]], points[INDEX["right_shoulder"]] = (200, 100), (200 - WIDTH, 100)
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
