"""Frames of the face put into a photo whose whole person follows a pose.

The face stage is left yaw and pitch; what else the head does is flat (`avatar.drivers.split`) and is done
here, with the body, by the puppet of `avatar.drivers.body`. Where the pose rests the frame is the face
stage's, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from avatar.composite import Compositor
from avatar.drivers.body import BodyStage
from avatar.drivers.head import HeadSignal
from avatar.drivers.mesh import ReferenceMesh
from avatar.drivers.pose import PoseSignal
from avatar.drivers.posing import posed_points
from avatar.drivers.split import head_similarity
from avatar.render import Frame

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

MOVED = frozenset({"head", "body"})  # parts of a pose's mask that move the person


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
        self.compositor, self.reference, self.face = compositor, reference, face
        own = reference.keypoints[0]
        moves = [posed_points(pose, own) - own for pose in poses]
        frames = len(poses[0]) if poses else len(heads[0])
        self.points = own + np.sum([np.zeros((frames, *own.shape), np.float32), *moves], 0)
        self.heads = None
        if heads:
            crop = compositor.crop
            flat = np.sum([head.strength[:, None] * head.head for head in heads], 0)
            self.heads = head_similarity(mesh, flat, crop.side / side, (crop.x, crop.y))

    @cached_property
    def stage(self) -> BodyStage:
        """The photo cut up; done with the first frame, when the nets are at the next ones already."""
        keypoints, scores = self.reference.keypoints[0], self.reference.scores[0]
        return BodyStage(self.compositor.photo, keypoints, scores, self.face)

    def __call__(self, number: int, part: Frame, picture: Pixels) -> Pixels:
        """Frame `number` (H, W, 3): `part` put into a picture that others may be in already."""
        points = self.points[number]
        head = None if self.heads is None else self.heads[number]
        share = min(1.0, self.stage.moved(points, head))
        if share == 0:
            return self.compositor(*part, picture)
        around = None if picture is self.compositor.photo else picture
        whole = self.stage(self.compositor(*part, self.stage.sheet), points, head, around)
        if share == 1:
            return whole
        # Within the first pixel the one goes over into the other, as rims are drawn anew.
        still = self.compositor(*part, picture).astype(np.float32)
        return (still + share * (whole - still) + 0.5).astype(np.uint8)
