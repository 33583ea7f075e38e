"""People found by MediaPipe, whose models come with its wheel, in the layout of DWPose.

BlazePose, face mesh and hands look at one person at a time.

Small toes are not known to it. Its face and hands have no scores: they are there with score 1 or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import quiet
from avatar.drivers.mesh import IBUG
from avatar.drivers.skeleton import FACE, INDEX, LEFT_HAND, POINTS, RIGHT_HAND, face_keypoints
from avatar.drivers.track import FaceTracker

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Read = tuple[Array, Array]

LARGEST = 1280  # px, longer frames are reduced: the nets see 256 px of a person
SETTLE = 2  # passes over a first frame: the second looks where the first one's points are
WIDE = 1.3  # width / height from which a frame is looked at in squares
SAME = 0.25  # of a body's reach from hips to hand, two chests closer to each other are one person's
# Places in BlazePose's 33 points.
FROM_BLAZE = {
    "nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8,
    "left_shoulder": 11, "right_shoulder": 12, "left_elbow": 13, "right_elbow": 14,
    "left_wrist": 15, "right_wrist": 16, "left_hip": 23, "right_hip": 24, "left_knee": 25, "right_knee": 26,
    "left_ankle": 27, "right_ankle": 28, "left_heel": 29, "right_heel": 30,
    "left_big_toe": 31, "right_big_toe": 32,
}  # fmt: skip
FINDER = """
input_stream: "image"
output_stream: "detections"
node {
  calculator: "PoseDetectionCpu"
  input_stream: "IMAGE:image"
  output_stream: "DETECTIONS:detections"
}
"""


class BlazePose:
    """A `people.Detector` that follows one person from frame to frame."""

    name = "mediapipe"

    def __init__(self) -> None:
        self._face = FaceTracker()  # sees the face larger than the reader does: it knows better how it turns

    @cached_property
    def _graphs(self) -> tuple[Any, Any]:
        """MediaPipe's finder of people and reader of one, opened when first asked: a pose that is in the
        cache needs neither."""
        from google.protobuf import text_format
        from mediapipe.framework import calculator_pb2
        from mediapipe.python.solution_base import SolutionBase
        from mediapipe.python.solutions.holistic import Holistic

        graph = text_format.Parse(FINDER, calculator_pb2.CalculatorGraphConfig())
        finder = SolutionBase(graph_config=graph, outputs=["detections"])
        reader = Holistic(model_complexity=1, smooth_landmarks=False)
        blank = np.zeros((64, 64, 3), np.uint8)
        finder.process({"image": blank})  # the nets are loaded, and say so, by threads of their own
        reader.process(blank)
        return finder, reader

    @classmethod
    def settings(cls) -> dict[str, str]:
        from mediapipe import __version__

        return {"detector": cls.name, "version": __version__, "layout": "3"}

    def find(self, frame: Pixels) -> list[Array]:
        """Boxes of all people, the largest first: squares around the hips that hold the whole body.

        The finder sees 224 px: a wide frame is shown to it in overlapping squares. What it says of hips that
        are out of the picture is a guess; the middle of the shoulders tells people apart.
        """
        height, width = frame.shape[:2]
        people = []
        with quiet():
            finder, _ = self._graphs
            for left, right in _squares(width, height):
                found = finder.process({"image": _reduced(frame[:, left:right])}).detections or []
                for detection in found:
                    scale = np.array([right - left, height])
                    points = [(point.x, point.y) for point in detection.location_data.relative_keypoints]
                    hips, rim, chest = np.array(points[:3]) * scale + [left, 0]
                    people.append((detection.score[0], float(np.linalg.norm(rim - hips)), hips, chest))
        kept: list[tuple[float, Array, Array]] = []
        for _, reach, hips, chest in sorted(people, key=lambda person: -person[0]):
            if all(np.linalg.norm(chest - other) > SAME * max(reach, others) for others, _, other in kept):
                kept.append((reach, hips, chest))
        boxes = [
            np.concatenate([hips - reach, hips + reach])
            for reach, hips, _ in sorted(kept, key=lambda one: -one[0])
        ]
        return [np.clip(box, 0, [width, height, width, height]).astype(np.float32) for box in boxes]

    def start(self, frame: Pixels, boxes: Sequence[Array], number: int) -> Read | None:
        """As `people.Detector`: from now on only a strip around the person is looked at.

        It is at least square, and ends half way to the neighbours.
        """
        height, width = frame.shape[:2]
        middles = [float(box[0] + box[2]) / 2 for box in boxes]
        own = middles[number]
        half = max(height / 2, float(boxes[number][2] - boxes[number][0]))
        ends = [(other + own) / 2 for other in middles if other != own]
        left = max([0.0, own - half, *(end for end in ends if end < own)])
        right = min([float(width), own + half, *(end for end in ends if end > own)])
        self._strip = round(left), round(right)
        self._face.forget()
        with quiet():
            self._graphs[1].reset()
            for _ in range(SETTLE):
                read = self._look(frame)
        return read

    def read(self, frame: Pixels, box: Array) -> Read | None:
        """As `people.Detector`; where to look is known from the last frame."""
        return self._look(frame)

    def _look(self, frame: Pixels) -> Read | None:
        left, right = self._strip
        found = self._graphs[1].process(_reduced(frame[:, left:right]))
        if not found.pose_landmarks:
            return None
        size = np.array([right - left, frame.shape[0], right - left], np.float32)
        place = np.array([left, 0, 0], np.float32)
        parts = {
            name: None if not landmarks else _points(landmarks) * size + place
            for name, landmarks in (
                ("face", found.face_landmarks),
                ("left", found.left_hand_landmarks),
                ("right", found.right_hand_landmarks),
            )
        }
        if parts["face"] is not None and (sharper := self._face.near(frame, parts["face"])) is not None:
            parts["face"] = sharper
        return to_layout(
            _points(found.pose_landmarks) * size + place,
            np.array([point.visibility for point in found.pose_landmarks.landmark], np.float32),
            np.array([frame.shape[1], frame.shape[0]], np.float32),
            **parts,
        )


def to_layout(
    pose: Array,
    visibility: Array,
    size: Array,
    *,
    face: Array | None,
    left: Array | None,
    right: Array | None,
) -> tuple[Array, Array]:
    """MediaPipe's points in DWPose's layout: keypoints (134, 3) and scores (134,).

    Only the face's depth is kept, which the face mesh knows well.

    Args:
        pose, visibility: BlazePose's points (33, 3), px, and how surely they are seen, (33,).
        size: (width, height) of the picture, px; what lies outside has the score 0.
        face: of the face mesh, (468 or more, 3), px, or None.
        left, right: of the person's hands, (21, 3), px, or None.
    """
    keypoints, scores = np.zeros((POINTS, 3), np.float32), np.zeros(POINTS, np.float32)
    for name, place in FROM_BLAZE.items():
        keypoints[INDEX[name], :2], scores[INDEX[name]] = pose[place, :2], visibility[place]
    shoulders = [INDEX["left_shoulder"], INDEX["right_shoulder"]]
    keypoints[INDEX["neck"]] = keypoints[shoulders].mean(0)
    scores[INDEX["neck"]] = scores[shoulders].min()
    if face is not None:  # it is surer of the middle of the face than BlazePose
        own, known = face_keypoints(face)
        keypoints[known > 0, :2] = own[known > 0]
        keypoints[FACE, 2], scores[FACE] = face[list(IBUG), 2], 1
    for places, points in ((LEFT_HAND, left), (RIGHT_HAND, right)):
        if points is not None:
            keypoints[places, :2], scores[places] = points[:, :2], 1
    scores[((keypoints[:, :2] < 0) | (keypoints[:, :2] >= size)).any(1)] = 0
    return keypoints, scores


def _points(landmarks: Any) -> Array:
    return np.array([(point.x, point.y, point.z) for point in landmarks.landmark], np.float32)


def _squares(width: int, height: int) -> list[tuple[int, int]]:
    """First and last column of squares of the frame's height that cover it and overlap by half; of the whole
    frame when it is hardly wider than that."""
    if width < WIDE * height:
        return [(0, width)]
    count = math.ceil(2 * width / height) - 1
    return [(round(left), round(left) + height) for left in np.linspace(0, width - height, count)]


def _reduced(frame: Pixels) -> Pixels:
    scale = LARGEST / max(frame.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(frame)
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
