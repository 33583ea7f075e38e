"""The pose of the person in a photo whose face is known, found twice: in the photo and in its mirror image.

A driver's joints are smoothed over time, a photo's can not be: the mean of the two looks is nearer to the
truth than one. Where they are far apart, the detector guesses, as it does at forearms that cross. A wrist
that is guessed goes to where a hand is found for itself. An arm that is guessed still must not be cut out of
the picture: it counts as missing, as moving half of it would tear it.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.blazepose import BlazePose
from avatar.drivers.cache import cached
from avatar.drivers.hands import Hand, find_hands
from avatar.drivers.mesh import CHIN, FOREHEAD, IBUG, NOSE_TIP
from avatar.drivers.pose import PoseSignal, picture_pose
from avatar.drivers.puppet import segment_distance
from avatar.drivers.skeleton import FACE, HAND, INDEX, LEFT_HAND, NAMES, POINTS, RIGHT_HAND, SEEN
from avatar.errors import UserError

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

VERSION = "6"  # of how a pose is found here; another one makes it anew
SAME_FACE = 0.4  # face heights that a pose's nose may be from the face's
GUESSED = 0.2  # shoulder widths between the two looks at a joint from which on it counts as guessed
KNOT = 0.15  # shoulder widths, forearms nearer to each other than that cross
REACH = 1.3  # shoulder widths from elbow to wrist at most
SHOWN = 0.65  # of a forearm that leaves the photo; if it shows less, where the wrist is stays a guess
WRONG_SIDE = 0.5  # shoulder widths further away a hand counts for the arm of the other side
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
    looks = [(points, scores), (turned[MIRRORED], sure[MIRRORED])]
    end_arms(looks, find_hands(photo))
    points, scores = agreed(*looks[0], *looks[1])
    end_at_border(points, (width, photo.shape[0]))
    points[FACE], scores[FACE] = face[list(IBUG), :2], 1
    points[INDEX["nose"]], scores[INDEX["nose"]] = nose, 1
    size = (width, photo.shape[0])
    return PoseSignal(fps=Fraction(1), keypoints=points[None], scores=scores[None], size=size)


def end_arms(looks: list[tuple[Array, Array]], hands: list[Hand]) -> None:
    """Put hands where the looks at a person say that the arms end; in place.

    Each look has keypoints (134, 2) and scores (134,). A wrist on which they agree stays; one that they guess
    goes to the hand that is nearest, if the forearm can be that long.
    """
    points = np.mean([look[0] for look in looks], 0)
    seen = np.min([look[1] for look in looks], 0) >= SEEN
    shoulders = INDEX["left_shoulder"], INDEX["right_shoulder"]
    if not seen[list(shoulders)].all():
        return
    unit = max(float(np.linalg.norm(points[shoulders[0]] - points[shoulders[1]])), 1.0)
    pairs = []
    for side in SIDES:
        elbow, wrist = INDEX[f"{side}_elbow"], INDEX[f"{side}_wrist"]
        apart = float(np.linalg.norm(looks[0][0][wrist] - looks[1][0][wrist]))
        if seen[wrist] and apart < GUESSED * unit:
            continue
        for number, hand in enumerate(hands):
            if np.linalg.norm(hand.points[0] - points[elbow]) < REACH * unit:
                way = float(np.linalg.norm(hand.points[0] - points[wrist]))
                pairs.append((way + WRONG_SIDE * unit * (hand.left != (side == "left")), side, number))
    done: set[str | int] = set()
    for _, side, number in sorted(pairs):
        if side in done or number in done:
            continue
        done |= {side, number}
        places = LEFT_HAND if side == "left" else RIGHT_HAND
        for keypoints, scores in looks:
            keypoints[places] = hands[number].points
            keypoints[INDEX[f"{side}_wrist"]] = hands[number].points[0]
            scores[[*places, INDEX[f"{side}_wrist"]]] = 1


def end_at_border(points: Array, size: tuple[int, int]) -> None:
    """Let forearms that leave a photo of this (width, height) end right beyond its border; in place.

    The detector guesses how much further they go. What the photo shows of one is drawn from the elbow to the
    driver's wrist, and must not fall short of it.
    """
    for side in SIDES:
        elbow, wrist = INDEX[f"{side}_elbow"], INDEX[f"{side}_wrist"]
        start, way = points[elbow], points[wrist] - points[elbow]
        room = np.where(way > 0, np.array(size) - start, -start) + np.sign(way)
        share = float((room / np.where(way == 0, np.inf, way)).min(initial=1, where=way != 0))
        if SHOWN < share < 1:
            points[wrist] = start + share * way


def agreed(points: Array, scores: Array, others: Array, sure: Array) -> tuple[Array, Array]:
    """Keypoints (134, 2) and scores (134,) of two looks at one person: the mean, without arms that differ or
    cross."""
    points, scores = points.copy(), scores.copy()
    across = float(np.linalg.norm(points[INDEX["left_shoulder"]] - points[INDEX["right_shoulder"]]))
    apart = np.linalg.norm(points - others, axis=1) / max(across, 1.0)
    seen = np.stack([scores, sure]) >= SEEN
    for side in SIDES:
        elbow, wrist = INDEX[f"{side}_elbow"], INDEX[f"{side}_wrist"]
        # An elbow that its own arm hides is where both looks have it, if the wrist is seen.
        if seen[:, wrist].all() and apart[elbow] < GUESSED:
            seen[:, elbow], scores[elbow] = True, max(scores[elbow], SEEN)
    both = seen.all(0)
    points[both] = (points[both] + others[both]) / 2
    for side in SIDES:
        arm = [INDEX[f"{side}_{name}"] for name in ARM]
        if (apart * seen.any(0))[arm[:2]].max() > GUESSED:
            scores[arm] = 0
    if _knotted(points, max(across, 1.0)):
        scores[[INDEX[f"{side}_{name}"] for side in SIDES for name in ARM]] = 0
    return points, scores


def _knotted(points: Array, unit: float) -> bool:
    """Whether forearms cross: the photo does not show what of the one lies under the other."""
    ends = (INDEX[f"{side}_{joint}"] for side in SIDES for joint in ("elbow", "wrist"))
    elbow, wrist, *other = points[[*ends]].astype(np.float64)
    along = elbow + np.linspace(0, 1, 32)[:, None] * (wrist - elbow)
    return float(segment_distance(along, *other)[0].min()) < KNOT * unit


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
