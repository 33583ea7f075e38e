"""The relief of a driven face: shape, turn, expression and light where the face is."""

import numpy as np
import pytest
from tiny import landmarks

from avatar.drivers.curves import CURVES
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.mouth import MouthModel
from avatar.drivers.relief import facing
from avatar.drivers.warp import DrivenReference

SIDE = 256
JAW = CURVES.index("jawOpen")


@pytest.fixture(scope="module")
def driver() -> DrivenReference:
    """A face lit from the picture's left, on an even ground."""
    picture = np.repeat(np.linspace(200, 60, SIDE)[None, :, None], SIDE, 0).repeat(3, 2).astype(np.uint8)
    return DrivenReference(ReferenceMesh(FaceBasis.load(), landmarks(SIDE)), picture, MouthModel.load())


def still(frames: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((frames, len(CURVES)), np.float32), np.zeros((frames, 6), np.float32)


def test_all_triangles_face_the_viewer() -> None:
    basis = FaceBasis.load()
    a, b, c = (basis.neutral[facing(basis)[:, k]] for k in range(3))
    assert (np.cross(b - a, c - a)[:, 2] <= 0).all()


def test_the_relief_tells_shape_turn_and_expression(driver: DrivenReference) -> None:
    curves, head = still(3)
    head[1, 0], curves[2, JAW] = 0.3, 0.3
    relief = driver(curves, head).relief
    length = np.linalg.norm(relief[:, :3], axis=1)
    assert (length > 0).mean() == pytest.approx(np.mean(length > 0.9), abs=0.02)  # unit normals, or no face
    nose = tuple((driver.mesh.landmarks[1, 1::-1] / 4).astype(int))
    chin = tuple((driver.mesh.landmarks[152, 1::-1] / 4).astype(int))
    assert relief[0, 2][nose] < -0.7  # the nose faces the viewer
    assert np.abs(relief[0, 3:]).max() < 1e-3
    assert relief[1, 3][nose] == pytest.approx(np.sin(0.3), abs=0.12)  # turned to the picture's right
    assert np.abs(relief[1, 6:]).max() < 1e-3
    assert relief[2, 7][chin] > 0.3 and np.abs(relief[2, 6:, nose[0] - 12, nose[1]]).max() < 0.1


def test_a_face_at_rest_keeps_its_light_and_a_turn_to_it_brightens(driver: DrivenReference) -> None:
    curves, head = still(3)
    head[1:, 0] = [-0.3, 0.3]  # to the picture's left, where the light is, and away from it
    gain = driver(curves, head).gain
    nose = tuple((driver.mesh.landmarks[1, 1::-1] / 4).astype(int))
    assert np.abs(gain[0] - 1).max() < 1e-4
    assert gain[1][nose] > 1.03 and gain[2][nose] < 0.97
    assert (gain[:, 0] == 1).all() and (gain[:, :, 0] == 1).all()  # not around the face


def test_the_driven_picture_is_lit(driver: DrivenReference) -> None:
    curves, head = still(1)
    head[0, 0] = 0.3
    driven = driver(curves, head)
    x, y = driver.mesh.place(driver.mesh.act(curves), head)[0, 1, :2].astype(int)
    came = np.array([y, x]) + 0.5 + driven.flow[0, ::-1, y, x]
    before = driver.picture[tuple(came.astype(int))].mean()
    assert driven.picture[0, y, x].mean() == pytest.approx(before * driven.gain[0, y // 4, x // 4], rel=0.04)
