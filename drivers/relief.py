"""Shape and motion of a driven face as small pictures, for nets that must know more than where things move.

Nine channels, all 0 around the face: its normals, how they differ from the reference's, and how far the
expression has moved each place, in `BEND` face units. With them goes the factor by which the light on the
skin changes as it turns. Shapes: T frames, S side of the picture in pixels, cells of 4 px.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from avatar.drivers.far_side import FarSide
from avatar.drivers.light import fit_light, gain, skin_mask
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.mouth import linear
from avatar.drivers.raster import draw_triangles, nearest_last

Array = NDArray[np.float32]

CELL = 4  # px
CHANNELS = 9
BEND = 0.05  # face units
SOFT = 0.6  # cells, over which the light's factor is blurred


def facing(basis: FaceBasis) -> NDArray[np.int64]:
    """The triangles of the face (F, 3), their corners in the order that makes all normals face the viewer."""
    triangles = basis.triangles.astype(np.int64)
    a, b, c = (basis.neutral[triangles[:, k], :2] for k in range(3))
    away = np.cross(b - a, c - a) > 0
    triangles[away] = triangles[away][:, ::-1]
    return triangles


class Relief:
    """Makes the pictures described above for one reference.

    Args:
        mesh: of the reference, its landmarks in pixels of `picture`.
        picture: uint8 (S, S, 3).
    """

    def __init__(self, mesh: ReferenceMesh, picture: NDArray[np.uint8]) -> None:
        self.cells = len(picture) // CELL
        self.face = facing(mesh.basis)
        corners = self.face.T.ravel(), np.tile(np.arange(len(self.face)), 3)
        self.touching = csr_matrix((np.ones(len(corners[0]), np.float32), corners))  # (468, F)
        self.normals = self._normals(mesh.landmarks[None])[0]
        self.far_side = FarSide(mesh, self.normals)
        self.light = self._fit_light(mesh, picture)

    def __call__(self, points: Array, moved: Array, target: Array, head: Array) -> tuple[Array, Array]:
        """The relief (T, 9, S / 4, S / 4) and the light's factor (T, S / 4, S / 4).

        Args:
            points: landmarks of the frames, (T, 478, 3) in pixels.
            moved: what the expression added to them, in face units.
            target: where they are drawn, (T, 468 or more, 2) in pixels.
            head: by which the head is turned, (T, 6).
        """
        normals = self._normals(points)
        own = self.far_side.replaced(self.normals, head)
        lit = gain(self.light, own, normals)[..., None]
        values = np.concatenate([normals, normals - own, moved[:, :468] / BEND, lit], -1)
        out = np.zeros((len(points), CHANNELS + 1, self.cells, self.cells), np.float32)
        out[:, CHANNELS] = 1
        for t in range(len(points)):
            self._draw(nearest_last(points[t], self.face), target[t], values[t], out[t])
            out[t, CHANNELS] = cv2.GaussianBlur(out[t, CHANNELS], (0, 0), SOFT)
        return out[:, :CHANNELS], out[:, CHANNELS]

    def _draw(
        self, triangles: NDArray[np.int64], target: Array, values: Array, out: Array
    ) -> NDArray[np.bool_]:
        """Draw the face into out (k, cells, cells), its triangles in this order; returns where it is."""
        drawn = np.zeros((self.cells, self.cells), np.uint8)
        draw_triangles(target / CELL, values, triangles, 1, out, drawn)
        return drawn > 0

    def _normals(self, points: Array) -> Array:
        """Normals (T, 468, 3) of landmarks (T, 478, 3); they face the viewer at z < 0."""
        a, b, c = (points[:, self.face[:, k]] for k in range(3))
        faces = np.cross(b - a, c - a).transpose(1, 0, 2).reshape(len(self.face), -1)
        sums = (self.touching @ faces).reshape(-1, len(points), 3).transpose(1, 0, 2)
        return (sums / np.linalg.norm(sums, axis=-1, keepdims=True).clip(1e-6)).astype(np.float32)

    def _fit_light(self, mesh: ReferenceMesh, picture: NDArray[np.uint8]) -> Array:
        """The light on the reference's face, see `avatar.drivers.light`."""
        normals = np.zeros((3, self.cells, self.cells), np.float32)
        face = self._draw(self.face, mesh.landmarks[:, :2], self.normals, normals)
        small = (self.cells, self.cells)
        bright = cv2.resize(linear(picture).mean(-1), small, interpolation=cv2.INTER_AREA)
        skin = face & skin_mask(mesh.landmarks, mesh.height, len(picture), self.cells)
        return fit_light(normals[:, skin].T, bright[skin])
