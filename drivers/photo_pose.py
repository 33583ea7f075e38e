"""The pose of the person in a photo whose face is known, found twice: in the photo and in its mirror image.

A driver's joints are smoothed over time, a photo's can not be: the mean of the two looks is nearer to the
truth than one. Where they are far apart, the detector guesses, as it does at forearms that cross, and an arm
that is guessed anywhere must not be cut out of the picture: it counts as missing, as moving half of it would
tear it.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.blazepose import BlazePose
from avatar.drivers.cache import cached
from avatar.drivers.mesh import CHIN, FOREHEAD, IBUG, NOSE_TIP
from avatar.drivers.pose import PoseSignal, picture_pose
from avatar.drivers.skeleton import FACE, HAND, INDEX, NAMES, POINTS, SEEN
from avatar.errors import UserError

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

VERSION = "1"  # of how a pose is found here; another one makes it anew
SAME_FACE = 0.4  # face heights that a pose's nose may be from the face's
GUESSED = 0.13  # shoulder widths between the two looks at a joint from which on it counts as guessed
ARM = ("elbow", "wrist", *(f"hand_{name}" for name in HAND))  # from the shoulder on
SIDES = {"left": "right", "right": "left"}
# Which point of the mirror image each point is; those of the face are known otherwise.
MIRRORED = [
    INDEX.get(f"{SIDES.get(side, side)}_{rest}", at)
    for at, (side, _, rest) in enumerate(name.partition("_") for name in NAMES)
]


def photo_pose(photo: Pixels, face: Array) -> PoseSignal:
    """The pose of the person in a photo (H, W, 3) whose face has these landmarks (478, 2+), px; of the face
    alone if nobody else finds the person. It is kept in the cache."""
    settings = BlazePose.settings() | {"photo": VERSION, "size": "x".join(map(str, photo.shape))}
    return cached(PoseSignal, photo.tobytes() + face.tobytes(), settings, lambda: _found(photo, face))


def _found(photo: Pixels, face: Array) -> PoseSignal:
    detector, width = BlazePose(), photo.shape[1]
    nose, height = face[NOSE_TIP, :2], float(np.linalg.norm(face[CHIN, :2] - face[FOREHEAD, :2]))
    points, scores = _look(photo, detector, nose, height)
    turned, sure = _look(np.ascontiguousarray(photo[:, ::-1]), detector, nose * [-1, 1] + [width, 0], height)
    turned[:, 0] = width - turned[:, 0]
    points, scores = agreed(points, scores, turned[MIRRORED], sure[MIRRORED])
    points[FACE], scores[FACE] = face[list(IBUG), :2], 1
    points[INDEX["nose"]], scores[INDEX["nose"]] = nose, 1
    size = (width, photo.shape[0])
    return PoseSignal(fps=Fraction(1), keypoints=points[None], scores=scores[None], size=size)


def agreed(points: Array, scores: Array, others: Array, sure: Array) -> tuple[Array, Array]:
    """Keypoints (134, 2) and scores (134,) of two looks at one person: the mean, without arms that differ."""
    points, scores = points.copy(), scores.copy()
    both = (scores >= SEEN) & (sure >= SEEN)
    apart = np.linalg.norm(points - others, axis=1) * both
    points[both] = (points[both] + others[both]) / 2
    across = points[INDEX["left_shoulder"]] - points[INDEX["right_shoulder"]]
    for side in SIDES:
        arm = [INDEX[f"{side}_{name}"] for name in ARM]
        if apart[arm[:2]].max() > GUESSED * max(float(np.linalg.norm(across)), 1.0):
            scores[arm] = 0
    return points, scores


def _look(photo: Pixels, detector: BlazePose, nose: Array, height: float) -> tuple[Array, Array]:
    """Keypoints (134, 2) and scores (134,) of the person whose nose is there; all missing for nobody."""
    for number in range(len(detector.find(photo))):
        try:
            found = picture_pose(photo, detector, str(number))
        except UserError:
            continue
        if np.linalg.norm(found.keypoints[0, INDEX["nose"]] - nose) < SAME_FACE * height:
            return found.keypoints[0].copy(), found.scores[0].copy()
    return np.zeros((POINTS, 2), np.float32), np.zeros(POINTS, np.float32)
