"""Head motion from keypoints: how a head turns and moves, by 2D points of the parts that do not act.

The points are those of the mean face, turned, scaled and moved. Where their depth is known, the motion is
that which brings the face nearest to them; without it, they are its points under weak perspective, and the
best linear map from it to them has the rotation and the scale in it.
Shapes: T frames, 134 keypoints of avatar.drivers.skeleton.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.mesh import CAMERA, HEAD_CENTRE, IBUG, FaceBasis, head_angles, kabsch, rotation
from avatar.drivers.pose import PoseSignal
from avatar.drivers.signal import Signal
from avatar.drivers.skeleton import FACE, POINTS, SEEN
from avatar.errors import UserError

Array = NDArray[np.float32]

# Temples and upper jaw, nose, eye corners: of iBUG's 68, those that neither speech nor expression moves much.
RIGID = (0, 1, 2, 14, 15, 16, 27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)
LEAST = 8  # of these must be seen
# Share of a nod that MediaPipe's face mesh shows, in x and y as in depth: slope on the true pitch of 500
# rendered clips, and of five rendered films. Of yaw it shows 1.1, which is left: turned pictures turn less by
# as much.
NOD_SEEN = 0.78


@dataclass(frozen=True, kw_only=True)
class HeadSignal(Signal):
    """How a head moves.

    Attributes:
        head: (T, 6), yaw, pitch, roll in radians and the shift in face heights, relative to the first frame;
            see `avatar.drivers.mesh.ReferenceMesh.place`.
    """

    KIND: ClassVar[str] = "head"
    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]] = {"head": (6,)}
    ELEMENTS: ClassVar[Mapping[str, Mapping[str, Sequence[int]]]] = {"head": {"head": range(6)}}

    head: Array

    @classmethod
    def of_pose(cls, pose: PoseSignal, basis: FaceBasis) -> HeadSignal:
        """The motion of the head in a pose; where its face is out of sight the last one holds.

        Raises:
            UserError: no frame shows the face.
        """
        places = [FACE[point] for point in RIGID]
        shown = pose.scores[:, places] >= SEEN
        seen = np.flatnonzero(shown.sum(1) >= LEAST)
        if not len(seen):
            raise UserError("the pose shows no face, so it says nothing of the head; use a film with one")
        model = basis.neutral[[IBUG[point] for point in RIGID]]
        anchor = basis.neutral[:468].mean(0) + HEAD_CENTRE
        turns, heights, middles, ats = [], [], [], []
        for frame in seen:
            own, there = model[shown[frame]], pose.keypoints[frame, places][shown[frame]].astype(np.float64)
            depth = pose.depth[frame, places][shown[frame]]
            middle, at = own.mean(0), there.mean(0)
            if depth.any():
                turned, size = kabsch(own, np.column_stack([there, depth]))
            else:
                turned, size = _fit(own - middle, there - at)
            turns.append(turned)
            heights.append(size)
            middles.append(middle)
            ats.append(at)
        turn, height = np.stack(turns), np.array(heights)
        angles = head_angles(turn @ turn[0].T)
        if pose.depth.any():  # only the face mesh knows it
            angles[:, 1] /= NOD_SEEN
        # Where the points are seen, however far the head is taken to nod.
        away = rotation(angles) @ turn[0] @ (anchor - np.stack(middles))[..., None]
        centre = np.stack(ats) + height[:, None] * away[:, :2, 0]
        moved = np.concatenate(
            [
                angles,
                (centre - centre[0]) / height[0],
                CAMERA * (height[0] / height[:, None] - 1),
            ],
            1,
        )
        rows = np.maximum(np.searchsorted(seen, np.arange(len(pose)), "right") - 1, 0)
        return cls(fps=pose.fps, head=moved[rows].astype(np.float32), strength=pose.strength, mask=pose.mask)


def meshes_pose(meshes: Array, size: tuple[int, int]) -> PoseSignal:
    """The pose of faces alone, one a second.

    Args:
        meshes: (T, 478, 3), px.
        size: (width, height) of their pictures, px.
    """
    points = np.zeros((len(meshes), POINTS, 3), np.float32)
    scores = np.zeros((len(meshes), POINTS), np.float32)
    points[:, FACE], scores[:, FACE] = meshes[:, list(IBUG)], 1
    return PoseSignal(
        fps=Fraction(1), keypoints=points[..., :2], depth=points[..., 2], scores=scores, size=size
    )


def _fit(model: NDArray, points: NDArray) -> tuple[NDArray, float]:
    """Rotation (3, 3) and scale for which the first two rows of scale x rotation map the model (n, 3) to the
    points (n, 2), both about their means."""
    rows = np.linalg.lstsq(model, points, rcond=None)[0].T  # (2, 3)
    scale = float(np.linalg.norm(rows, axis=1).mean())
    full = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1]) / scale])
    u, _, vt = np.linalg.svd(full)
    return u @ vt, scale
