"""Head and body of a photo's person moved by a pose, around a still face."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.composite import Compositor
from avatar.drivers.face import extract, find_faces, head_crop
from avatar.drivers.head import HeadSignal
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.photo_pose import photo_pose
from avatar.drivers.pose import PoseSignal
from avatar.drivers.skeleton import FACE, INDEX, SEEN
from avatar.render import Frame
from avatar.whole import WholeBody

Pixels = NDArray[np.uint8]
STILL = Frame(
    np.zeros((2, 64, 64), np.float32),
    np.ones((64, 64), np.float32),
    np.zeros((3, 64, 64), np.float32),
    np.zeros((3, 64, 64), np.float32),
)


@pytest.fixture(scope="module")
def whole(astronaut: Pixels) -> tuple[WholeBody, float]:
    """A head that moves a quarter of its face to the right in the second frame, and the face's height, px."""
    size = (astronaut.shape[1], astronaut.shape[0])
    face = find_faces(astronaut)[0]
    crop = head_crop(face, size)
    compositor = Compositor(astronaut, crop)
    mesh = ReferenceMesh(FaceBasis.load(), crop.to_crop(face.landmarks, 256))
    assert extract(astronaut, crop, 256).shape == (256, 256, 3)
    reference = photo_pose(astronaut, face.landmarks)
    points = np.repeat(reference.keypoints, 2, 0)
    scores = np.repeat(reference.scores, 2, 0)
    pose = PoseSignal(fps=Fraction(25), keypoints=points, scores=scores, size=size)
    moves = np.zeros((2, 6), np.float32)
    moves[1, 3] = 0.25
    head = HeadSignal(fps=Fraction(25), head=moves)
    body = WholeBody(compositor, face.landmarks, mesh, 256, reference, [pose], [head])
    return body, mesh.height * crop.side / 256


def test_a_person_is_found_by_their_face(astronaut: Pixels) -> None:
    face = find_faces(astronaut)[0]
    found = photo_pose(astronaut, face.landmarks)
    assert (found.scores[0, [INDEX["left_shoulder"], INDEX["right_shoulder"]]] >= SEEN).all()
    alone = photo_pose(np.zeros_like(astronaut), face.landmarks)
    assert (alone.scores[0, FACE] == 1).all() and (alone.scores[0, 1:8] < SEEN).all()


def test_where_nothing_moves_the_frame_is_the_face_stages(
    astronaut: Pixels, whole: tuple[WholeBody, float]
) -> None:
    assert np.array_equal(whole[0](0, STILL, astronaut), astronaut)


def test_a_head_moves_before_a_still_room(astronaut: Pixels, whole: tuple[WholeBody, float]) -> None:
    body, height = whole
    frame, shift = body(1, STILL, astronaut).astype(int), 0.25 * height
    eyes = astronaut[90:110, 200:240].astype(int)
    near = [np.abs(frame[90:110, 200 + k : 240 + k] - eyes).mean() for k in range(40)]
    assert abs(int(np.argmin(near)) - shift) <= 1 and min(near) < 8
    assert np.array_equal(frame[:, 400:][:100], astronaut[:, 400:][:100])
    suit = slice(400, None), slice(120, 330)
    assert np.abs(frame[suit] - astronaut[suit]).mean() < 2
