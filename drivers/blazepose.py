"""People found by MediaPipe, whose models come with its wheel: BlazePose, face mesh and hands, one person at a
time, put into the layout of DWPose.

Small toes are not known to it. Its face and hands have no scores: they are there with score 1 or not at all.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import quiet
from avatar.drivers.skeleton import FACE, INDEX, LEFT_HAND, POINTS, RIGHT_HAND

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

LARGEST = 1280  # px, longer frames are reduced: the nets see 256 px of a person
GREY = 114  # what is painted over the other people
# Places in BlazePose's 33 points.
FROM_BLAZE = {
    "nose": 0, "left_eye": 2, "right_eye": 5, "left_ear": 7, "right_ear": 8,
    "left_shoulder": 11, "right_shoulder": 12, "left_elbow": 13, "right_elbow": 14,
    "left_wrist": 15, "right_wrist": 16, "left_hip": 23, "right_hip": 24, "left_knee": 25, "right_knee": 26,
    "left_ankle": 27, "right_ankle": 28, "left_heel": 29, "right_heel": 30,
    "left_big_toe": 31, "right_big_toe": 32,
}  # fmt: skip
# Places in the face mesh of iBUG's 68 points: jaw, brows, nose, eyes, outer and inner lips.
FROM_MESH = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 98, 97, 2, 326, 327,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,
    78, 82, 13, 312, 308, 317, 14, 87,
)  # fmt: skip
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
        from google.protobuf import text_format
        from mediapipe.framework import calculator_pb2
        from mediapipe.python.solution_base import SolutionBase
        from mediapipe.python.solutions.holistic import Holistic

        graph = text_format.Parse(FINDER, calculator_pb2.CalculatorGraphConfig())
        with quiet():
            self._finder = SolutionBase(graph_config=graph, outputs=["detections"])
            self._reader = Holistic(model_complexity=1, smooth_landmarks=False)

    def settings(self) -> dict[str, str]:
        from mediapipe import __version__

        return {"detector": self.name, "version": __version__, "layout": "1"}

    def find(self, frame: Pixels) -> list[Array]:
        """Boxes of all people, the largest first: squares around the hips that hold the whole body."""
        height, width = frame.shape[:2]
        with quiet():
            found = self._finder.process({"image": _reduced(frame)}).detections or []
        boxes = []
        for detection in found:
            points = detection.location_data.relative_keypoints
            hips, rim = (np.array([point.x * width, point.y * height]) for point in points[:2])
            reach = np.linalg.norm(rim - hips)
            box = np.concatenate([hips - reach, hips + reach])
            boxes.append((reach, np.clip(box, 0, [width, height, width, height]).astype(np.float32)))
        return [box for _, box in sorted(boxes, key=lambda item: -item[0])]

    def read(self, frame: Pixels, box: Array, fresh: bool) -> tuple[Array, Array] | None:
        """As `people.Detector`. The box counts when `fresh`, later the last points say where to look."""
        if fresh:
            frame = _alone(frame, box)
            with quiet():
                self._reader.reset()
        with quiet():
            found = self._reader.process(_reduced(frame))
        if not found.pose_landmarks:
            return None
        size = np.array([frame.shape[1], frame.shape[0]], np.float32)
        return to_layout(
            _points(found.pose_landmarks) * size,
            np.array([point.visibility for point in found.pose_landmarks.landmark], np.float32),
            size,
            face=None if not found.face_landmarks else _points(found.face_landmarks) * size,
            left=None if not found.left_hand_landmarks else _points(found.left_hand_landmarks) * size,
            right=None if not found.right_hand_landmarks else _points(found.right_hand_landmarks) * size,
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
    """MediaPipe's points in DWPose's layout: keypoints (134, 2) and scores (134,).

    Args:
        pose, visibility: BlazePose's points (33, 2), px, and how surely they are seen, (33,).
        size: (width, height) of the picture, px; what lies outside has the score 0.
        face: of the face mesh, (468 or more, 2), px, or None.
        left, right: of the person's hands, (21, 2), px, or None.
    """
    keypoints, scores = np.zeros((POINTS, 2), np.float32), np.zeros(POINTS, np.float32)
    for name, place in FROM_BLAZE.items():
        keypoints[INDEX[name]], scores[INDEX[name]] = pose[place], visibility[place]
    shoulders = [INDEX["left_shoulder"], INDEX["right_shoulder"]]
    keypoints[INDEX["neck"]] = keypoints[shoulders].mean(0)
    scores[INDEX["neck"]] = scores[shoulders].min()
    rest = ((FACE, None if face is None else face[list(FROM_MESH)]), (LEFT_HAND, left), (RIGHT_HAND, right))
    for places, points in rest:
        if points is not None:
            keypoints[places], scores[places] = points, 1
    scores[((keypoints < 0) | (keypoints >= size)).any(1)] = 0
    return keypoints, scores


def _points(landmarks: Any) -> Array:
    return np.array([(point.x, point.y) for point in landmarks.landmark], np.float32)


def _reduced(frame: Pixels) -> Pixels:
    scale = LARGEST / max(frame.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(frame)
    return cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)


def _alone(frame: Pixels, box: Array) -> Pixels:
    """The frame with nothing outside of a box."""
    left, top, right, bottom = (round(float(value)) for value in box)
    out = np.full_like(frame, GREY)
    out[top:bottom, left:right] = frame[top:bottom, left:right]
    return out
