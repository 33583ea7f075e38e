"""A head's motion in two parts: what the face mesh must turn, and a similarity that moves the head whole.

Under weak perspective roll, shift and nearness act on the picture alone (`ReferenceMesh.place`), so that the
landmarks of yaw and pitch, moved by the similarity, are those of all six, exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.mesh import CAMERA, ReferenceMesh

Array = NDArray[np.float32]
Wide = NDArray[np.float64]

FLAT = slice(2, 6)  # of a head's six values, those that the similarity is made of


def turned_only(head: Array) -> Array:
    """The part of `head` (T, 6) that is left for the face: yaw and pitch."""
    left = head.copy()
    left[:, FLAT] = 0
    return left


def head_similarity(
    mesh: ReferenceMesh, head: Array, scale: float = 1.0, origin: tuple[float, float] = (0.0, 0.0)
) -> Wide:
    """Affine maps (T, 2, 3) that do the rest of `head` (T, 6), in px of the photo.

    Args:
        mesh: of the reference.
        head: as in `ReferenceMesh.place`.
        scale: px of the photo in one of the picture that the mesh is of.
        origin: where that picture begins in the photo, px.
    """
    wide = head.astype(np.float64)
    zoom = CAMERA / (CAMERA + wide[:, 5])
    cosine, sine = zoom * np.cos(wide[:, 2]), zoom * np.sin(wide[:, 2])
    turn = np.stack([cosine, -sine, sine, cosine], -1).reshape(-1, 2, 2)
    centre = np.array(origin) + scale * mesh.centre[:2].astype(np.float64)
    shift = centre + scale * mesh.height * wide[:, 3:5] - turn @ centre
    return np.concatenate([turn, shift[..., None]], -1)
