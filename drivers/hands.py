"""All hands of a picture, found by MediaPipe Hands whatever the arms do.

A pose detector that guesses an arm looks for its hand where the guess is. This one looks everywhere, so that
a wrist is known even where the arm points at the camera.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import quiet

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

MOST = 6  # hands that are looked for
LEAST = 0.5  # chance of a hand under which it is none


class Hand(NamedTuple):
    """Points (21, 2), px, the wrist first; and whether it looks like a left one."""

    points: Array
    left: bool


def find_hands(photo: Pixels) -> list[Hand]:
    """All hands of a picture (H, W, 3)."""
    from mediapipe.python.solutions.hands import Hands

    height, width = photo.shape[:2]
    with (
        quiet(),
        Hands(static_image_mode=True, max_num_hands=MOST, min_detection_confidence=LEAST) as net,
    ):
        found = net.process(np.ascontiguousarray(photo))
    hands = []
    for marks, side in zip(found.multi_hand_landmarks or [], found.multi_handedness or [], strict=True):
        points = np.array([(mark.x * width, mark.y * height) for mark in marks.landmark], np.float32)
        # The net is made for selfies, which are mirrored.
        hands.append(Hand(points, side.classification[0].label == "Right"))
    return hands
