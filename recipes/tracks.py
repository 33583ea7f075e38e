"""All faces of a shot followed at the same time, each in pieces that become clips.

Coordinates are px of the frames that are shown. Shapes: T frames of a piece, N steps of optical flow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import Crop, Face, look_for_faces, open_detector, quiet
from avatar.drivers.track import FaceTracker
from avatar.metrics import grey, laplacian_variance
from avatar.recipes.camera import SECONDS, Flow, measure, textured
from avatar.recipes.shots import FPS, Shown

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

LOOK = FPS  # frames between two looks for faces where nobody is followed
SELDOM = 2 * FPS  # and where somebody is
LEVELS = (1, 2)  # of tiles that are looked at: faces from a twentieth of the frame's longer side on
FOLLOWED = 5  # faces at the same time, the largest
STEP = round(SECONDS * FPS)  # frames between two pictures of optical flow
SAME = 0.6  # face heights, what is closer than this is the face that is followed already
BODY = (
    1.1,
    0.9,
)  # face heights from the middle of the face to either side and up; down it goes to the border
FASTEST = 90  # percent of a face that moves slower than what its motion is measured by
THUMB = 160  # px, longer side of a picture for the report
BLACK = 24  # level, rows and columns that stay under it are bars
NOBODY = -1


@dataclass
class Piece:
    """A stretch of a shot in which one face is followed; without `points` a shot that shows none.

    Attributes:
        first: number of its first frame.
        thumb: that frame, reduced.
        person: number of the face in the video, or NOBODY.
        count: frames.
        people: faces at every look.
        points: landmarks (478, 3) of every frame.
        sharpness: Laplacian variance of the face in the first second.
        motions: rows as `avatar.recipes.camera.Motion`, and how fast the fastest tenth of the face moves,
            face heights a second.
        bright: highest level of every column and of every row.
    """

    first: int
    thumb: Pixels
    person: int
    count: int = 0
    people: list[int] = field(default_factory=list)
    points: list[Points] = field(default_factory=list)
    sharpness: list[float] = field(default_factory=list)
    motions: list[tuple[float, ...]] = field(default_factory=list)
    bright: tuple[Pixels, Pixels] | None = None

    def see(self, picture: Pixels) -> None:
        columns, rows = picture.max(0), picture.max(1)
        if self.bright is not None:
            columns, rows = np.maximum(columns, self.bright[0]), np.maximum(rows, self.bright[1])
        self.bright = columns, rows

    @property
    def window(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the picture without bars, in shares of its size."""
        if self.bright is None:
            return 0.0, 0.0, 1.0, 1.0
        sides = []
        for line in self.bright:
            shown = np.flatnonzero(line >= BLACK)
            first, last = (shown[0], shown[-1] + 1) if len(shown) else (0, len(line))
            # The pixel beside a bar is half a bar.
            sides.append(((first + (first > 0)) / len(line), (last - (last < len(line))) / len(line)))
        (left, right), (top, bottom) = sides
        return left, top, right, bottom


@dataclass
class _Track:
    tracker: FaceTracker
    piece: Piece


class Followers:
    """Faces of a video, frame after frame; every call gives the pieces that ended.

    Args:
        longest: frames of a piece at most; a longer stretch goes on in the next piece.
    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        with quiet():
            self._detector = open_detector()
            self._detector.process(np.zeros((64, 64, 3), np.uint8))
        self._free: list[FaceTracker] = []
        self._tracks: list[_Track] = []
        self._flow = Flow()
        self._empty: Piece | None = None  # the shot, as long as it shows nobody
        self._persons, self._age = 0, 0
        self._due = 0  # age of the shot at which faces are looked for again

    def __enter__(self) -> Followers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._detector.close()
        for tracker in (*self._free, *(track.tracker for track in self._tracks)):
            tracker.mesh.close()

    def __call__(self, shown: Shown) -> list[Piece]:
        ended: list[Piece] = []
        if shown.first:
            ended += self.finish()
        for track in list(self._tracks):
            ended += self._advance(track, shown.frame)
        if self._age >= self._due:
            ended += self._look(shown)
            self._due = self._age + (SELDOM if self._tracks else LOOK)
        if self._age % STEP == 0:
            self._measure(shown.frame)
        if self._empty is not None:
            self._empty.count += 1
            if self._empty.count >= self._longest:
                ended.append(self._empty)
                self._empty = None
        self._age += 1
        return ended

    def finish(self) -> list[Piece]:
        """The pieces that the end of a shot ends."""
        ended = [self._end(track) for track in list(self._tracks)]
        if self._empty is not None:
            ended.append(self._empty)
        self._empty, self._age, self._due = None, 0, 0
        self._flow.reset()
        return ended

    def _advance(self, track: _Track, frame: Pixels) -> list[Piece]:
        """One more frame of a track; the piece that it ends, if it does."""
        points = track.tracker.follow(frame)
        if points is None:
            return [self._end(track)]
        piece, ended = track.piece, []
        if piece.count >= self._longest:
            ended.append(piece)
            track.piece = Piece(
                piece.first + piece.count, reduced(frame), piece.person, people=piece.people[-1:]
            )
        self._add(track.piece, frame, points)
        return ended

    def _add(self, piece: Piece, frame: Pixels, points: Points) -> None:
        piece.points.append(points)
        piece.count += 1
        if piece.count <= FPS:
            piece.sharpness.append(laplacian_variance(grey(face_part(frame, points))))

    def _end(self, track: _Track) -> Piece:
        self._tracks.remove(track)
        self._due = min(self._due, self._age + LOOK)
        self._free.append(track.tracker)
        return track.piece

    def _look(self, shown: Shown) -> list[Piece]:
        """Look for faces that are not followed yet."""
        boxes = look_for_faces(self._detector, shown.frame, LEVELS)
        for track in self._tracks:
            track.piece.people.append(len(boxes))
        for box in sorted(boxes, key=lambda box: -box.side):
            if len(self._tracks) < FOLLOWED and not any(_same(box, t.piece.points[-1]) for t in self._tracks):
                self._start(shown, box, len(boxes))
        if self._tracks:
            empty, self._empty = self._empty, None
            return [] if empty is None else [empty]
        if self._empty is None:
            self._empty = Piece(shown.number, reduced(shown.frame), NOBODY)
        self._empty.people.append(len(boxes))
        return []

    def _start(self, shown: Shown, box: Crop, people: int) -> None:
        tracker = self._free.pop() if self._free else FaceTracker()
        tracker.start(shown.frame, box)
        points = tracker.follow(shown.frame)
        if points is None or any(_near(points, track.piece.points[-1]) for track in self._tracks):
            self._free.append(tracker)
            return
        piece = Piece(shown.number, reduced(shown.frame), self._persons, people=[people])
        self._persons += 1
        self._add(piece, shown.frame, points)
        self._tracks.append(_Track(tracker, piece))

    def _measure(self, frame: Pixels) -> None:
        flow, picture = self._flow(frame), self._flow.picture
        assert picture is not None
        if self._empty is not None:
            self._empty.see(picture)
        for track in self._tracks:
            track.piece.see(picture)
        if flow is None or not self._tracks:
            return
        seen, scale = textured(picture), picture.shape[1] / frame.shape[1]
        for track in self._tracks:
            face = Face(track.piece.points[-1] * scale)
            person = body_mask(face, picture.shape[0], picture.shape[1])
            fast = np.percentile(np.linalg.norm(face_part(flow, face.landmarks), axis=-1), FASTEST)
            stirring = float(fast) / max(face.height, 1.0) / SECONDS
            track.piece.motions.append((*measure(flow, seen, person), stirring))


def face_part(frame: NDArray[Any], points: Points) -> NDArray[Any]:
    """The part of a frame (H, W, ...) in which the landmarks lie."""
    height, width = frame.shape[:2]
    left, top = np.clip(points[:, :2].min(0), 0, [width - 4, height - 4]).astype(int)
    right, bottom = np.clip(np.ceil(points[:, :2].max(0)), [left + 4, top + 4], [width, height]).astype(int)
    return frame[top:bottom, left:right]


def reduced(frame: Pixels) -> Pixels:
    """A small picture of a frame for the report."""
    scale = THUMB / max(frame.shape[:2])
    return np.asarray(cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def body_mask(face: Face, height: int, width: int) -> NDArray[np.bool_]:
    """Where a person is whose face this is, roughly, (height, width)."""
    x, y, size = face.place
    mask = np.zeros((height, width), bool)
    left, right = (int(np.clip(x + side * BODY[0] * size, 0, width)) for side in (-1, 1))
    mask[int(np.clip(y - BODY[1] * size, 0, height)) :, left:right] = True
    return mask


def _same(box: Crop, points: Points) -> bool:
    middle = np.array([box.x + box.side / 2, box.y + box.side / 2])
    face = Face(points)
    x, y, height = face.place
    return bool(np.linalg.norm(middle - [x, y]) < SAME * max(height, box.side))


def _near(points: Points, others: Points) -> bool:
    one, other = Face(points).place, Face(others).place
    return bool(np.hypot(one[0] - other[0], one[1] - other[1]) < SAME * max(one[2], other[2]))
