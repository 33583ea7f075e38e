"""The side of a face that its photo hides, because the head is turned: stretched from what the photo shows.

Where the mesh of the reference turns away from the viewer, the picture has no skin for it but a few pixels of
rim. As such a point comes into view it takes its place in the picture, bit by bit, from the nearest one that
the picture shows well. What is drawn around the face begins on that side at the outline of the mesh, as the
face oval lies behind the cheek. A face that looks at the viewer has no such side. Shapes: T frames, 468
landmarks, O points of the face oval.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.mesh import FACE_OVAL, LEFT_EYE, MOUTH, RIGHT_EYE, ReferenceMesh, rotation

Array = NDArray[np.float32]

POINTS = 468
OVAL = list(FACE_OVAL)
OPENINGS = [point for slit in (MOUTH, LEFT_EYE, RIGHT_EYE) for point in (*slit.upper, *slit.lower)]
MIRROR = np.array([-1, 1, 1], np.float32)
# Cosines between the view and the normal of a point: under the first it is hidden, if the same point of the
# other side is seen by so much better; turned by so much to the viewer it has left its place.
EDGE_ON, BETTER, TURNED = 0.3, 0.3, 0.3
SPREAD = 2  # points of the face oval, over which its hidden part ends


class FarSide:
    """What of a reference's face is hidden.

    Args:
        mesh: of the reference.
        normals: of its landmarks, (468, 3), to the viewer at z < 0.

    Attributes:
        stand_in: the landmark in whose place each one is drawn, (468,).
        behind: how far each point of the face oval counts as hidden, (O,) in [0, 1].
    """

    def __init__(self, mesh: ReferenceMesh, normals: Array) -> None:
        self.mesh, own = mesh, mesh.own[:POINTS]
        self.normals = normals @ mesh.turn  # of the unturned head
        self.seen = -normals[:, 2]
        other = -(self.normals * MIRROR) @ mesh.turn[2]
        hidden = (self.seen < EDGE_ON) & (other > self.seen + BETTER)
        self.stand_in = np.arange(POINTS)
        shown = np.setdiff1d(np.flatnonzero(self.seen >= EDGE_ON), OPENINGS)
        away = np.linalg.norm(own[hidden, None] - own[shown], axis=-1)
        self.stand_in[hidden] = shown[away.argmin(1)]
        around = range(-SPREAD, SPREAD + 1)
        near = np.any([np.roll(hidden[OVAL], k) for k in around], 0)
        self.behind = np.mean([np.roll(near, k) for k in around], 0)
        corners = mesh.basis.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        self.edges = np.unique(np.sort(corners), axis=0).astype(np.int64)
        ways = own[OVAL, :2] - own[:, :2].mean(0)
        self.ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)

    def replaced(self, values: Array, head: Array) -> Array:
        """Values (468, k) of the reference's points as they are used in frames whose heads are turned by
        `head` (T, 6), (T, 468, k): those of the hidden ones become those of others."""
        turn = rotation(head) @ self.mesh.turn
        gained = -self.normals @ turn[:, 2].T - self.seen[:, None]  # (468, T)
        share = np.clip(gained.T / TURNED, 0, 1)[..., None]
        return values + share * (values[self.stand_in] - values)

    def rim(self, points: Array, head: Array) -> Array:
        """Where the rim of faces (T, 468, 2) lies that turned by `head` (T, 6), (T, O, 2): their oval, and on
        the far side the outline of all their points."""
        rims = points[:, OVAL].copy()
        if not self.behind.any():
            return rims
        for rim, face, turn in zip(rims, points, rotation(head) @ self.mesh.turn, strict=True):
            down = turn[:2, 1] / np.hypot(*turn[:2, 1])
            ways = self.ways @ np.stack([[down[1], -down[0]], down])
            out = face.mean(0) + self._reach(face, ways)[:, None] * ways
            rim += self.behind[:, None] * (out - rim)
        return rims

    def _reach(self, face: Array, ways: Array) -> Array:
        """How far a face (468, 2) reaches from the mean of its points in some directions (n, 2), px, (n,)."""
        start, end = (face[self.edges[:, k]] - face.mean(0) for k in range(2))
        before, after = (ways[:, :1] * at[:, 1] - ways[:, 1:] * at[:, 0] for at in (start, end))
        crossed = before * after <= 0
        share = before / np.where(before == after, 1, before - after)
        along = ways @ start.T + share * (ways @ (end - start).T)
        return np.where(crossed, along, 0).max(1)
