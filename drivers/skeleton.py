"""The 134 keypoints of DWPose, and the skeleton picture that DWPose draws of them, to the pixel.

Layout: 18 body points in OpenPose's order, 6 of the feet, 68 of the face (iBUG's order), 21 of each hand, the
person's left one first. Left and right are the person's. Conventions after IDEA-Research/DWPose,
annotator/dwpose/util.py: RGB on black, limbs at 60 % under bright joints, then hands, then the face; the feet
are not drawn.
"""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.mesh import IBUG

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

BODY = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
FEET = (
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
FINGERS = ("thumb", "index", "middle", "ring", "little")
HAND = ("wrist", *(f"{finger}_{joint}" for finger in FINGERS for joint in range(1, 5)))
NAMES = (
    *BODY,
    *FEET,
    *(f"face_{number}" for number in range(68)),
    *(f"{side}_hand_{name}" for side in ("left", "right") for name in HAND),
)
POINTS = len(NAMES)  # 134
INDEX = {name: number for number, name in enumerate(NAMES)}

FACE = range(24, 92)
LEFT_HAND, RIGHT_HAND = range(92, 113), range(113, 134)
# Places by the parts of a signal's mask, see avatar.drivers.signal.
MOUTH_POINTS = tuple(FACE[48:68])
EYE_POINTS = (*FACE[17:27], *FACE[36:48])
CHEEK_POINTS = tuple(place for place in FACE if place not in {*MOUTH_POINTS, *EYE_POINTS})
HEAD_POINTS = (0, 14, 15, 16, 17)
BODY_POINTS = tuple(place for place in range(POINTS) if place not in {*FACE, *HEAD_POINTS})
PART_POINTS = {
    "mouth": MOUTH_POINTS,
    "eyes": EYE_POINTS,
    "cheeks": CHEEK_POINTS,
    "head": HEAD_POINTS,
    "body": BODY_POINTS,
}

OF_MESH = {"nose": (1,), "right_eye": (33, 133), "left_eye": (362, 263)}  # means of these of the face mesh
SEEN = 0.3  # score under which a point counts as missing
STICK = 4  # px, half the width of a limb
JOINT, DOT = 4, 3  # px, radius of joints and of the face's dots
DIM = 0.6  # of the limbs' colours
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
HAND_EDGES = tuple(
    (0 if joint % 4 == 1 else joint - 1, joint) for joint in range(1, 21)
)  # five chains of four
# DWPose's wheel of 18 hues.
COLOURS = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0),
    (0, 255, 85), (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255),
    (170, 0, 255), (255, 0, 255), (255, 0, 170), (255, 0, 85),
)  # fmt: skip
BLUE, WHITE = (0, 0, 255), (255, 255, 255)


def face_keypoints(landmarks: Array) -> tuple[Array, Array]:
    """What a face mesh (478 or 468, 2+) says of a person: keypoints (134, 2) and scores (134,), 1 or 0."""
    keypoints, scores = np.zeros((POINTS, 2), np.float32), np.zeros(POINTS, np.float32)
    for name, corners in OF_MESH.items():
        keypoints[INDEX[name]], scores[INDEX[name]] = landmarks[list(corners), :2].mean(0), 1
    keypoints[FACE], scores[FACE] = landmarks[list(IBUG), :2], 1
    return keypoints, scores


def draw_skeleton(keypoints: Array, scores: Array, size: tuple[int, int]) -> Pixels:
    """The skeleton picture of one person, (H, W, 3).

    Args:
        keypoints: (134, 2), px of a picture of this size.
        scores: (134,); under SEEN a point is left out.
        size: (width, height), px.
    """
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    canvas = _draw_body(canvas, keypoints[:18].astype(np.float64), scores[:18] > SEEN)
    pixels = keypoints.astype(np.float64).astype(np.int64)
    # What lies in the first row or column is left out with what is missing, as DWPose does.
    shown = (scores >= SEEN) & (pixels > 0).all(1)
    for hand in (LEFT_HAND, RIGHT_HAND):
        _draw_hand(canvas, pixels[hand], shown[hand])
    for x, y in pixels[FACE][shown[FACE]].tolist():
        cv2.circle(canvas, (x, y), DOT, WHITE, thickness=-1)
    return canvas


def _draw_body(canvas: Pixels, points: NDArray[np.float64], shown: NDArray[np.bool_]) -> Pixels:
    for (first, second), colour in zip(LIMBS, COLOURS, strict=False):  # one limb less than colours
        if not (shown[first] and shown[second]):
            continue
        x, y = points[[first, second]].mean(0)
        across, down = points[first] - points[second]
        axes = (int(math.hypot(across, down) / 2), STICK)
        angle = int(math.degrees(math.atan2(down, across)))
        polygon = cv2.ellipse2Poly((int(x), int(y)), axes, angle, 0, 360, 1)
        cv2.fillConvexPoly(canvas, polygon, colour)
    canvas = (canvas * DIM).astype(np.uint8)
    for (x, y), colour in zip(points[shown], np.array(COLOURS)[shown].tolist(), strict=True):
        cv2.circle(canvas, (int(x), int(y)), JOINT, colour, thickness=-1)
    return canvas


def _draw_hand(canvas: Pixels, pixels: NDArray[np.int64], shown: NDArray[np.bool_]) -> None:
    for number, (first, second) in enumerate(HAND_EDGES):
        if shown[first] and shown[second]:
            hue = colorsys.hsv_to_rgb(number / len(HAND_EDGES), 1, 1)
            colour = [255 * value for value in hue]
            cv2.line(canvas, pixels[first].tolist(), pixels[second].tolist(), colour, thickness=2)
    for x, y in pixels[shown].tolist():
        cv2.circle(canvas, (x, y), JOINT, BLUE, thickness=-1)
