"""A head's motion in two parts."""

from __future__ import annotations

import numpy as np
from tiny import landmarks

from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.split import head_similarity, turned_only

HEAD = np.array([[0.3, -0.2, 0.25, 0.4, -0.1, -0.8], [0, 0, -0.4, 0, 0.3, 1.0]], np.float32)


def test_both_parts_together_are_the_whole_motion() -> None:
    mesh = ReferenceMesh(FaceBasis.load(), landmarks(256))
    points = np.broadcast_to(mesh.own, (2, *mesh.own.shape))
    whole = mesh.place(points, HEAD)[..., :2]
    turned = mesh.place(points, turned_only(HEAD))[..., :2]
    scale, origin = 2.5, (70.0, -30.0)
    for moved, there, similarity in zip(
        turned, whole, head_similarity(mesh, HEAD, scale, origin), strict=True
    ):
        got = (scale * moved + origin) @ similarity[:, :2].T + similarity[:, 2]
        assert np.allclose(got, scale * there + origin, atol=0.02)


def test_a_head_at_rest_is_not_moved_at_all() -> None:
    mesh = ReferenceMesh(FaceBasis.load(), landmarks(256))
    rest = head_similarity(mesh, np.zeros((1, 6), np.float32))[0]
    assert np.array_equal(rest, [[1, 0, 0], [0, 1, 0]])
    assert np.array_equal(turned_only(HEAD)[:, 2:], np.zeros((2, 4))) and HEAD[0, 3] != 0
