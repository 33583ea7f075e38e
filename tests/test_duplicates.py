"""Copies of a clip are found however they were changed, and nothing else is taken for one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from tiny import picture

from avatar.recipes.acting import smooth_walk
from avatar.recipes.duplicates import TOGETHER, likeness, near_duplicates, picture_vector, surplus

Array = NDArray[np.float64]


def motion(seed: int, frames: int = 200) -> Array:
    rng = np.random.default_rng(seed)
    return np.stack([0.1 * smooth_walk(rng, frames, 4.0) for _ in range(3)], 1)


def noisy(clip: Array, amount: float, seed: int = 9) -> Array:
    return clip + amount * clip.std() * np.random.default_rng(seed).standard_normal(clip.shape)


def test_a_trimmed_and_noisy_copy_moves_alike() -> None:
    clip = motion(1)
    assert likeness(clip, clip) > 0.999
    assert likeness(clip, noisy(clip[30:170], 0.1)) > TOGETHER
    assert likeness(noisy(clip[30:170], 0.1), clip) > TOGETHER
    assert likeness(clip, clip + 5) > 0.999  # another place in the picture


def test_other_moments_do_not() -> None:
    assert max(likeness(motion(1), motion(seed)) for seed in range(2, 12)) < TOGETHER
    assert likeness(motion(1), np.zeros((200, 3))) == 0


def test_pictures_look_alike_at_any_size_and_quality() -> None:
    one, other = picture(256, 1), picture(256, 2)
    small = cv2.resize(one, (100, 100), interpolation=cv2.INTER_AREA)
    coded = cv2.imdecode(cv2.imencode(".jpg", one, [1, 30])[1], 1)
    for copy in (small, coded):
        assert picture_vector(one) @ picture_vector(np.asarray(copy, np.uint8)) > 0.98
    assert picture_vector(one) @ picture_vector(other) < 0.9
    assert np.linalg.norm(picture_vector(np.zeros((64, 64, 3), np.uint8))) <= 1.0001


def test_the_better_copy_stays_and_one_room_is_no_copy() -> None:
    vectors = np.stack([picture_vector(picture(128, seed)) for seed in (1, 1, 1, 2)])
    clip = motion(1)
    motions = [clip, noisy(clip[20:], 0.05), motion(2), clip]
    # 0 and 1 are copies; 2 is the same room at another time; 3 moves alike elsewhere.
    assert near_duplicates(vectors, motions, [1.0, 2.0, 5.0, 0.0]) == {0: 1}
    assert near_duplicates(vectors, motions, [2.0, 1.0, 5.0, 0.0]) == {1: 0}


def test_copies_of_copies_all_name_one_that_stays() -> None:
    vectors = np.stack([picture_vector(picture(128, 1))] * 4)
    motions = [noisy(motion(1), 0.05, seed) for seed in range(4)]
    assert near_duplicates(vectors, motions, [1.0, 1.0, 3.0, 1.0]) == {0: 2, 1: 2, 3: 2}


def test_a_crowded_cluster_is_thinned_and_keeps_its_best() -> None:
    rng = np.random.default_rng(0)
    centres = 10 * np.eye(4)
    sizes = (40, 5, 5, 5)
    vectors = np.concatenate(
        [c + 0.1 * rng.standard_normal((n, 4)) for c, n in zip(centres, sizes, strict=True)]
    )
    better = list(range(55))
    out = surplus(vectors, better, share=3.0, clusters=4)
    assert out == set(range(25))  # 15 = 3 medians of 5 stay, the best ones
    assert surplus(vectors, better, share=0, clusters=4) == set()
    assert surplus(vectors, better, share=8.0, clusters=4) == set()


def test_identical_clips_do_not_stop_the_clustering() -> None:
    assert surplus(np.ones((20, 8)), [0.0] * 20, share=3.0) == set()
