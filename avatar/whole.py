"""Frames of the face put into a photo whose whole person follows a pose.

The face stage is left yaw and pitch; what else the head does is flat (`avatar.drivers.split`) and is done
here, with the body, by the puppet of `avatar.drivers.body`. Where the pose rests the frame is the face
stage's, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from avatar.composite import Compositor
from avatar.drivers.blazepose import BlazePose
from avatar.drivers.body import BodyStage
from avatar.drivers.head import HeadSignal
from avatar.drivers.mesh import CHIN, FOREHEAD, IBUG, NOSE_TIP, ReferenceMesh
from avatar.drivers.pose import PoseSignal, picture_pose
from avatar.drivers.posing import posed_points
from avatar.drivers.skeleton import FACE, INDEX, POINTS
from avatar.drivers.split import head_similarity
from avatar.errors import UserError
from avatar.render import Frame

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

MOVED = frozenset({"head", "body"})  # parts of a pose's mask that move the person
SAME_FACE = 0.4  # face heights that a pose's nose may be from the face's


def reference_pose(photo: Pixels, face: Array) -> PoseSignal:
    """The pose of the person in a photo (H, W, 3) whose face has these landmarks (478, 2+), px; of the face
    alone if nobody else finds the person."""
    detector = BlazePose()
    nose, height = face[NOSE_TIP, :2], np.linalg.norm(face[CHIN, :2] - face[FOREHEAD, :2])
    size = (photo.shape[1], photo.shape[0])
    keypoints, scores = np.zeros((POINTS, 2), np.float32), np.zeros(POINTS, np.float32)
    for number in range(len(detector.find(photo))):
        try:
            found = picture_pose(photo, detector, str(number))
        except UserError:
            continue
        if np.linalg.norm(found.keypoints[0, INDEX["nose"]] - nose) < SAME_FACE * height:
            keypoints, scores = found.keypoints[0].copy(), found.scores[0].copy()
            break
    keypoints[FACE], scores[FACE] = face[list(IBUG), :2], 1
    keypoints[INDEX["nose"]], scores[INDEX["nose"]] = nose, 1
    return PoseSignal(fps=Fraction(1), keypoints=keypoints[None], scores=scores[None], size=size)


class WholeBody:
    """Makes full frames in which head and body follow a pose.

    Args:
        compositor: of the photo.
        face: landmarks of its face, (478, 2+), px of the compositor's photo.
        mesh: of the crop's picture, whose side is `side` px.
        reference: pose of the photo.
        poses: on the reference's body, as many frames as the video; they add up.
        heads: motion of their heads and what prompts do with the head; none leaves the head on its neck.
    """

    def __init__(
        self,
        compositor: Compositor,
        face: Array,
        mesh: ReferenceMesh,
        side: int,
        reference: PoseSignal,
        poses: Sequence[PoseSignal],
        heads: Sequence[HeadSignal],
    ) -> None:
        self.compositor = compositor
        self.stage = BodyStage(compositor.photo, reference.keypoints[0], reference.scores[0], face)
        own = reference.keypoints[0]
        moves = [posed_points(pose, own) - own for pose in poses]
        frames = len(poses[0]) if poses else len(heads[0])
        self.points = own + np.sum([np.zeros((frames, *own.shape), np.float32), *moves], 0)
        self.heads = None
        if heads:
            crop = compositor.crop
            flat = np.sum([head.strength[:, None] * head.head for head in heads], 0)
            self.heads = head_similarity(mesh, flat, crop.side / side, (crop.x, crop.y))

    def __call__(self, number: int, part: Frame, picture: Pixels) -> Pixels:
        """Frame `number` (H, W, 3): `part` put into a picture that others may be in already."""
        points = self.points[number]
        head = None if self.heads is None else self.heads[number]
        share = min(1.0, self.stage.moved(points, head))
        if share == 0:
            return self.compositor(*part, picture)
        whole = self.stage(self.compositor(*part, self.stage.sheet), points, head, picture)
        if share == 1:
            return whole
        # Within the first pixel the one goes over into the other, as rims are drawn anew.
        still = self.compositor(*part, picture).astype(np.float32)
        return (still + share * (whole - still) + 0.5).astype(np.uint8)
