"""Following one person among several, and filling the gaps, with a detector of coloured blocks."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import find_objects, label

from avatar.drivers.people import GUESSED, Followed, fill_gaps, follow, parse_person
from avatar.drivers.skeleton import POINTS, SEEN
from avatar.errors import UserError

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]
FPS = 10.0
BIG, SMALL = 24, 16  # px, sides of two people


class Blocks:
    """A detector whose people are bright blocks: their keypoints lie all over the block."""

    name = "blocks"

    def settings(self) -> dict[str, str]:
        return {}

    def find(self, frame: Pixels) -> list[Array]:
        places, _ = label(frame[..., 0] > 0)
        boxes = [np.array([x.start, y.start, x.stop, y.stop], np.float32) for y, x in find_objects(places)]
        return sorted(boxes, key=lambda box: -float(np.prod(box[2:] - box[:2])))

    def start(self, frame: Pixels, boxes: Sequence[Array], number: int) -> tuple[Array, Array]:
        return self.read(frame, boxes[number])

    def read(self, frame: Pixels, box: Array) -> tuple[Array, Array]:
        left, top, right, bottom = np.round(box).astype(int)
        rows, columns = np.nonzero(frame[top:bottom, left:right, 0])
        scores = np.full(POINTS, float(len(rows) > 0), np.float32)
        if not len(rows):
            return np.zeros((POINTS, 3), np.float32), scores
        share = np.linspace(0, 1, POINTS)[:, None]
        low = np.array([left + columns.min(), top + rows.min()])
        high = np.array([left + columns.max() + 1, top + rows.max() + 1])
        flat = np.pad(low + share * (high - low), ((0, 0), (0, 1)))
        return flat.astype(np.float32), scores


def film(*people: tuple[int, Sequence[float | None]]) -> list[Pixels]:
    """Blocks of a size at these x in every frame, None where out of sight; side by side they stand apart."""
    frames = []
    for t in range(len(people[0][1])):
        frame = np.zeros((60, 200, 3), np.uint8)
        for side, places in people:
            x = places[t]
            if x is not None:
                frame[10 : 10 + side, round(x) : round(x) + side] = 255
        frames.append(frame)
    return frames


def lefts(followed: Followed) -> list[float]:
    return followed.keypoints[:, 0, 0].tolist()


def test_the_largest_is_followed_and_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    big, small = [20.0 + t for t in range(12)], [120.0 - t for t in range(12)]
    frames = film((SMALL, small), (BIG, big))
    assert lefts(follow(frames, Blocks(), FPS, name="two.mp4")) == big
    assert "two.mp4: 2 people in frame 0, number 0 is followed" in caplog.text
    assert "0: 20,10,44,34; 1: 120,10,136,26" in caplog.text
    assert lefts(follow(frames, Blocks(), FPS, "1")) == small


def test_one_person_alone_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    follow(film((BIG, [20.0] * 3)), Blocks(), FPS)
    assert caplog.text == ""


def test_a_lost_person_is_found_again_where_they_may_be_and_nobody_else_is_taken() -> None:
    small = [20.0, 22, None, None, 28, 30]
    frames = film((SMALL, small), (BIG, [150.0] * 6))
    followed = follow(frames, Blocks(), FPS, "1")
    assert followed.found.tolist() == [True, True, False, False, True, True]
    assert [x for x, found in zip(lefts(followed), followed.found, strict=True) if found] == [20, 22, 28, 30]
    assert (followed.scores[2:4] == 0).all()


def test_a_jump_to_another_place_is_not_the_same_person() -> None:
    frames = film((BIG, [20.0, 20, 20, 150, 150]))
    assert follow(frames, Blocks(), FPS).found.tolist() == [True, True, True, False, False]


def test_somebody_else_who_is_read_instead_is_not_believed() -> None:
    class Wandering(Blocks):
        """Begins where it is told, then reads the rightmost block of the frame."""

        def start(self, frame: Pixels, boxes: Sequence[Array], number: int) -> tuple[Array, Array]:
            return super().read(frame, boxes[number])

        def read(self, frame: Pixels, box: Array) -> tuple[Array, Array]:
            return super().read(frame, max(self.find(frame), key=lambda other: float(other[0])))

    frames = film((BIG, [20.0, 22, 24, 26]), (SMALL, [None, None, 150, 150]))
    assert Wandering().read(frames[2], np.zeros(4, np.float32))[0][0, 0] == 150
    assert lefts(follow(frames, Wandering(), FPS)) == [20, 22, 24, 26]


def test_who_appears_late_is_followed_from_then_on() -> None:
    frames = film((BIG, [None, None, 40, 42]))
    followed = follow(frames, Blocks(), FPS)
    assert followed.found.tolist() == [False, False, True, True] and lefts(followed)[2:] == [40, 42]


def test_nobody_at_all_is_refused() -> None:
    with pytest.raises(UserError, match=r"empty\.mp4: no person found in 3 frames"):
        follow(film((BIG, [None] * 3)), Blocks(), FPS, name="empty.mp4")
    with pytest.raises(UserError, match="no person found in 1 frame;"):
        follow(film((BIG, [None])), Blocks(), FPS)


def test_a_number_that_there_is_not_is_refused() -> None:
    with pytest.raises(UserError, match=r"there is no person 2 in frame 1; found .* 0: 20,10,44,34; 1: 90,"):
        follow(film((BIG, [None, 20]), (SMALL, [None, 90])), Blocks(), FPS, "2")
    for spec in ("", "-1", "1.5", "tall", "\u0663"):
        with pytest.raises(UserError, match="must be largest or a number"):
            parse_person(spec)


# ---- gaps --------------------------------------------------------------------------------------


def walk(frames: int, lost: Sequence[int] = ()) -> Followed:
    """Everything moves by 1 px a frame; in the frames `lost` nobody is found."""
    keypoints = np.zeros((frames, POINTS, 2), np.float32)
    keypoints[..., 0] = np.arange(frames)[:, None]
    scores, found = np.ones((frames, POINTS), np.float32), np.ones(frames, bool)
    keypoints[list(lost)], scores[list(lost)], found[list(lost)] = 0, 0, False
    return Followed(keypoints, scores, found)


def test_a_short_absence_is_bridged(caplog: pytest.LogCaptureFixture) -> None:
    keypoints, scores = fill_gaps(walk(20, range(5, 12)), FPS, "a.mp4")
    assert np.allclose(keypoints[:, 7, 0], np.arange(20), atol=1e-4)
    assert np.allclose(scores[5:12], GUESSED) and (scores[[4, 12]] == 1).all() and GUESSED > SEEN
    assert "a.mp4: the person is lost from 0.50 s to 1.20 s, there the pose is bridged" in caplog.text


def test_a_long_absence_holds_and_then_moves_on(caplog: pytest.LogCaptureFixture) -> None:
    keypoints, scores = fill_gaps(walk(40, range(5, 30)), FPS)
    x = keypoints[:, 7, 0]
    assert (x[5:20] == 4).all()  # held until one second before the person is back
    assert np.allclose(np.diff(x[20:31]), 2.6, atol=1e-3) and x[30] == 30
    assert np.allclose(scores[5:30], GUESSED)
    assert "lost from 0.50 s to 3.00 s, there the pose is held" in caplog.text


def test_before_the_first_sight_and_after_the_last_the_pose_is_held() -> None:
    keypoints, scores = fill_gaps(walk(20, [0, 1, 2, 18, 19]), FPS)
    assert keypoints[:4, 0, 0].tolist() == [3] * 4 and keypoints[17:, 0, 0].tolist() == [17] * 3
    assert np.allclose(scores[[0, 19]], GUESSED)


def test_a_single_point_is_bridged_when_it_is_missing_for_a_short_time_only() -> None:
    track = walk(40)
    track.scores[5:9, 4] = 0.1
    track.keypoints[5:9, 4] = 500
    track.scores[20:35, 7] = 0.1  # 1.5 s
    track.scores[10:, 10] = 0.0
    keypoints, scores = fill_gaps(track, FPS)
    assert np.allclose(keypoints[:, 4, 0], np.arange(40), atol=1e-4) and np.allclose(scores[5:9, 4], GUESSED)
    assert np.allclose(scores[20:35, 7], 0.1) and (scores[10:, 10] == 0).all()


def test_a_point_that_was_out_of_sight_before_is_not_made_up_while_the_person_is_lost() -> None:
    track = walk(30, range(8, 20))
    track.scores[:, 13], track.scores[:8, 12], track.scores[20:, 11] = 0, 0, 0
    _, scores = fill_gaps(track, FPS)
    assert (scores[:, 13] == 0).all() and (scores[:20, 12] == 0).all() and (scores[8:, 11] == 0).all()
    assert np.allclose(scores[8:20, 0], GUESSED)


def test_nothing_is_said_or_changed_when_nothing_is_missing(caplog: pytest.LogCaptureFixture) -> None:
    track = walk(10)
    with caplog.at_level(logging.INFO):
        keypoints, scores = fill_gaps(track, FPS)
    assert np.array_equal(keypoints, track.keypoints) and np.array_equal(scores, track.scores)
    assert caplog.text == ""
