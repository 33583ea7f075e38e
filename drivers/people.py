"""One person followed through the frames of a video, whoever else walks by, and the gaps where they are lost.

Coordinates are px as in avatar.drivers.face. A box is (left, top, right, bottom). Shapes: T frames.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.skeleton import BODY, POINTS, SEEN
from avatar.errors import UserError

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Rows = NDArray[np.int64]
Read = tuple[Array, Array]

LEAST_SEEN = 4  # body points, fewer are no person
MARGIN = 0.1  # of its size, how much wider than the seen points the next frame's box is, on each side
JUMP = 0.5  # of its longer side, a box that moves further between two frames is another person's
REACH, WALK = 1.0, 1.0  # of the box's longer side, and more of it a second: where a lost person may turn up
BRIDGED = 1.0  # s, longest gap that is bridged in a straight line; a longer one holds, then moves so long
GUESSED = 0.35  # score of points that were filled in: little, but over SEEN


class Detector(Protocol):
    """What finds people and their keypoints. It may remember the person between frames."""

    name: str

    def settings(self) -> dict[str, str]:
        """All that its results depend on, for the cache."""
        ...

    def find(self, frame: Pixels) -> list[Array]:
        """Boxes of all people in a frame, the largest first."""
        ...

    def start(self, frame: Pixels, boxes: Sequence[Array], number: int) -> Read | None:
        """Keypoints (134, 3) and scores (134,) of one of the people just found; None if there is nobody.

        A keypoint is x and y in px and its depth, px away from the viewer, all 0 where that is not known.
        """
        ...

    def read(self, frame: Pixels, box: Array) -> Read | None:
        """The same in the next frame, in which the person is somewhere in the box."""
        ...


@dataclass(frozen=True)
class Followed:
    """Keypoints (T, 134, 3), scores (T, 134) and whether the person was found, (T,)."""

    keypoints: Array
    scores: Array
    found: NDArray[np.bool_]


def parse_person(spec: str) -> int:
    """The number of a person, counted from 0 by size; "largest" is 0. UserError for anything else."""
    if spec == "largest":
        return 0
    if not (spec.isascii() and spec.isdigit()):
        raise UserError(f"--person {spec}: must be largest or a number, 0 is the largest person")
    return int(spec)


def follow(
    frames: Iterable[Pixels], detector: Detector, fps: float, person: str = "largest", name: str = "video"
) -> Followed:
    """The keypoints of one person in all frames.

    Args:
        frames: (H, W, 3), all of one size.
        detector: what looks.
        fps: frames a second, which says how far a lost person may get.
        person: "largest" or a number counted from 0 by size, in the first frame that shows anybody.
        name: file name for messages.

    Raises:
        UserError: nobody in any frame, or no person of that number.
    """
    number = parse_person(person)
    reads: list[Read | None] = []
    box: Array | None = None  # where the person was last
    lost = 0  # frames since
    for t, frame in enumerate(frames):
        read = None
        if box is not None and not lost:
            read = _believed(detector.read(frame, _widened(box, frame)), box)
        if read is None:
            boxes = detector.find(frame)
            if box is None:
                chosen = _choose(boxes, number, name, t) if boxes else None
            else:
                chosen = _nearest(boxes, box, (lost + 1) / fps)
            if chosen is not None:
                read = _believed(detector.start(frame, boxes, chosen), None)
        lost = 0 if read is not None else lost + 1
        box = box if read is None else _around(*read)
        reads.append(read)
    found = np.array([read is not None for read in reads])
    if not found.any():
        raise UserError(
            f"{name}: no person found in {len(found)} frame{'s'[: len(found) != 1]}; use a film of a person"
            " who fills a good part of the picture, head and shoulders in it"
        )
    empty = np.zeros((POINTS, 3), np.float32), np.zeros(POINTS, np.float32)
    kept = [empty if read is None else read for read in reads]
    return Followed(np.stack([points for points, _ in kept]), np.stack([scores for _, scores in kept]), found)


def _choose(boxes: Sequence[Array], number: int, name: str, frame: int) -> int:
    listed = "; ".join(f"{at}: {','.join(str(round(v)) for v in box)}" for at, box in enumerate(boxes))
    if number >= len(boxes):
        raise UserError(
            f"{name}: there is no person {number} in frame {frame}; found (left,top,right,bottom) {listed}"
        )
    if len(boxes) > 1:
        logger.warning(
            "%s: %d people in frame %d, number %d is followed (left,top,right,bottom) %s",
            name, len(boxes), frame, number, listed,
        )  # fmt: skip
    return number


def _nearest(boxes: Sequence[Array], last: Array, seconds: float) -> int | None:
    """The box that a person lost for `seconds` may have come to, nearest in place and size."""
    if not boxes:
        return None
    size = float((last[2:] - last[:2]).max())
    away = [float(np.linalg.norm(_middle(box) - _middle(last))) for box in boxes]
    nearest = int(np.argmin(away))
    return nearest if away[nearest] <= (REACH + WALK * seconds) * size else None


def _believed(read: Read | None, last: Array | None) -> Read | None:
    """What was read, unless it shows too little of a person or one who is elsewhere at once."""
    if read is None or (read[1][: len(BODY)] > SEEN).sum() < LEAST_SEEN:
        return None
    if last is not None:
        moved = np.linalg.norm(_middle(_around(*read)) - _middle(last))
        if moved > JUMP * (last[2:] - last[:2]).max():
            return None
    return read


def _around(keypoints: Array, scores: Array) -> Array:
    seen = keypoints[scores > SEEN, :2]
    return np.concatenate([seen.min(0), seen.max(0)])


def _widened(box: Array, frame: Pixels) -> Array:
    height, width = frame.shape[:2]
    margin = MARGIN * np.tile(box[2:] - box[:2], 2) * [-1, -1, 1, 1]
    return np.clip(box + margin, 0, [width, height, width, height]).astype(np.float32)


def _middle(box: Array) -> Array:
    return (box[:2] + box[2:]) / 2


# ---- gaps --------------------------------------------------------------------------------------


def fill_gaps(followed: Followed, fps: float, name: str = "video") -> tuple[Array, Array]:
    """Keypoints and scores with short gaps filled in: of single points, and of the whole person.

    A point that is missing for up to BRIDGED seconds moves straight on; one that is missing for longer stays
    missing. A whole person who is lost for longer holds still and then moves to where they are found again;
    before the first and after the last sight the pose is held. What is filled in has the score GUESSED.
    """
    keypoints, scores = followed.keypoints.copy(), followed.scores.copy()
    rows, longest = np.arange(len(keypoints)), max(1, round(BRIDGED * fps))
    whole = np.flatnonzero(followed.found)
    last_found, next_found = _neighbours(whole, rows)
    for point in range(keypoints.shape[1]):
        seen = np.flatnonzero(scores[:, point] >= SEEN)
        if not len(seen):
            continue
        before, after = _neighbours(seen, rows)
        begin = np.clip(after - longest, before, None)
        share = np.clip((rows - begin) / np.maximum(after - begin, 1), 0, 1)[:, None]
        guess = (1 - share) * keypoints[before, point] + share * keypoints[after, point]
        inside = (before < rows) & (rows < after)
        bridged = inside & (after - before - 1 <= longest)
        # While the person is lost, the points that were in sight right before and right after are held.
        held = ~followed.found & np.isin(last_found, seen) & np.isin(next_found, seen)
        filled = bridged | held
        keypoints[filled, point] = guess[filled]
        scores[filled, point] = GUESSED
    for first, last in _runs(~followed.found):
        logger.warning(
            "%s: the person is lost from %.2f s to %.2f s, there the pose is %s",
            name, first / fps, (last + 1) / fps,
            "bridged" if last + 1 - first <= longest and first > 0 and last + 1 < len(rows) else "held",
        )  # fmt: skip
    return keypoints, scores


def _neighbours(places: Rows, rows: Rows) -> tuple[Rows, Rows]:
    """The last of `places` up to each row and the first from it on; where there is none, the nearest."""
    before = places[np.clip(np.searchsorted(places, rows, "right") - 1, 0, None)]
    return before, places[np.clip(np.searchsorted(places, rows), None, len(places) - 1)]


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last place of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]
