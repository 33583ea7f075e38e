"""What a pose tells the puppet: where every joint of the photo's person is, in every frame.

Shoulders and hips start where the photo has them and move from there as the driver's do; arms have the
driver's directions. A joint that the driver does not show keeps to its parent; shoulders and hips, which have
none that is surer, wait where they were. Shapes: T frames, 134 keypoints of
avatar.drivers.skeleton.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.pose import PoseSignal
from avatar.drivers.skeleton import INDEX, LEFT_HAND, RIGHT_HAND, SEEN

Array = NDArray[np.float32]

# Hz, and Hz per shoulder width a second: what rests is stilled, what moves is not held back.
CALM = (2.0, 10.0)


def posed_points(pose: PoseSignal, reference: Array) -> Array:
    """Keypoints (T, 134, 2) of a retargeted pose in the photo, each at its strength away from the reference.

    Args:
        pose: as `avatar.drivers.retarget.retarget` gives it.
        reference: the keypoints of the photo, (134, 2).
    """
    seen = pose.scores >= SEEN
    points = pose.smoothed(*CALM).keypoints
    for side, hand in (("left", LEFT_HAND), ("right", RIGHT_HAND)):
        shoulder, elbow, wrist = (INDEX[f"{side}_{joint}"] for joint in ("shoulder", "elbow", "wrist"))
        arm = points[:, [elbow, wrist, *hand]] - points[:, [shoulder]]
        for joint in (shoulder, INDEX[f"{side}_hip"]):
            track = _waiting(points[:, joint], seen[:, joint])
            points[:, joint] = reference[joint] + track - track[0]
        points[:, [elbow, wrist, *hand]] = arm + points[:, [shoulder]]
        lost = ~seen[:, hand].all(1)
        points[np.ix_(lost, hand)] = _with_forearm(points[lost], reference, elbow, wrist, hand)
    moved = pose.strength[:, None, None] * (points - reference)
    return (reference + moved if "body" in pose.mask else np.broadcast_to(reference, moved.shape)).astype(
        np.float32
    )


def _waiting(track: Array, seen: NDArray[np.bool_]) -> Array:
    """A track (T, 2) whose unseen part is bridged, and at both ends holds; it stands if it is never seen."""
    known = np.flatnonzero(seen)
    if not len(known):
        return np.zeros_like(track)
    frames = np.arange(len(track))
    return np.stack([np.interp(frames, known, track[known, k]) for k in range(2)], -1)


def _with_forearm(points: Array, reference: Array, elbow: int, wrist: int, hand: range) -> Array:
    """The reference's hand (n, 21, 2), turned as the forearm is in `points` (n, 134, 2)."""
    own, there = (_plane(p[..., wrist, :] - p[..., elbow, :]) for p in (reference, points))
    turn = there * np.conj(own)
    turn /= np.maximum(np.abs(turn), 1e-6)
    turned = turn[:, None] * _plane(reference[hand] - reference[wrist])
    return points[:, [wrist]] + np.stack([turned.real, turned.imag], -1)


def _plane(vectors: Array) -> NDArray[np.complex128]:
    return vectors[..., 0] + 1j * vectors[..., 1].astype(np.complex128)
