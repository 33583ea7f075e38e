"""The head's pose taken from a face mesh, and the net that reads what is left."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny import landmarks

from avatar.drivers.curves import CURVES, INDEX
from avatar.drivers.expression_net import ExpressionConfig, ExpressionNet, facing, head_pose
from avatar.drivers.mesh import HEAD_CENTRE, LANDMARKS, FaceBasis, ReferenceMesh, head_angles, rotation

Array = NDArray[np.float32]
TINY = ExpressionConfig(width=16, layers=2, code=6)
# Yaw, pitch, roll in radians, to both sides and together.
TURNS = np.float32(
    [[0, 0, 0], [0.6, 0, 0], [-0.6, 0, 0], [0, 0.4, 0], [0, -0.4, 0], [0, 0, 0.5], [0.3, -0.2, -0.7]]
)


@pytest.fixture(scope="module")
def basis() -> FaceBasis:
    return FaceBasis.load()


@pytest.fixture(scope="module")
def face(basis: FaceBasis) -> Array:
    """The mean face with an open mouth and a shut eye, (478, 3) in face units."""
    return (
        basis.neutral
        + 0.5 * basis.displacement[INDEX["jawOpen"]]
        + 0.9 * basis.displacement[INDEX["eyeBlinkLeft"]]
    )


def placed(face: Array, turns: Array, size: float, at: tuple[float, float, float]) -> Array:
    """The face turned, `size` px high, moved by `at` px: size R x + at."""
    return (size * face @ rotation(turns).transpose(0, 2, 1) + np.float32(at)).astype(np.float32)


@pytest.mark.parametrize("size", [40.0, 110.0, 900.0])
def test_the_pose_is_the_one_that_the_head_was_given(basis: FaceBasis, size: float) -> None:
    pose = head_pose(placed(basis.neutral, TURNS, size, (300, 200, 50)), basis)
    assert np.abs(head_angles(pose.turn) - TURNS).max() < 1e-4
    assert np.abs(pose.turn @ pose.turn.transpose(0, 2, 1) - np.eye(3)).max() < 1e-5
    assert pose.height == pytest.approx(np.full(len(TURNS), size), rel=1e-4)
    centre = basis.neutral[:468].mean(0) + HEAD_CENTRE  # of the head in face units, x in size R x + at
    assert np.abs(pose.centre - placed(centre[None], TURNS, size, (300, 200, 50))[:, 0]).max() < 1e-3 * size


def test_facing_takes_turn_size_and_place_away(basis: FaceBasis, face: Array) -> None:
    still = facing(face[None], basis)
    assert still.shape == (1, LANDMARKS, 3) and still.dtype == np.float32
    for size, at in ((40.0, (-30, 7, 0)), (110.0, (300, 200, 50)), (900.0, (0, 0, -400))):
        assert np.abs(facing(placed(face, TURNS, size, at), basis) - still).max() < 1e-4


def test_facing_keeps_the_expression_in_face_units(basis: FaceBasis, face: Array) -> None:
    """What the face does is the difference to the mean face: 0.5 jawOpen + 0.9 eyeBlinkLeft."""
    both = facing(np.stack([basis.neutral, face]), basis)
    assert np.abs(both[1] - both[0] - (face - basis.neutral)).max() < 0.01


def test_a_face_that_acts_does_not_turn_the_head(basis: FaceBasis, face: Array) -> None:
    pose = head_pose(np.stack([basis.neutral, face]), basis)
    assert np.degrees(np.abs(head_angles(pose.turn)).max()) < 1
    assert pose.height[1] == pytest.approx(1, abs=0.01)


def test_a_mirrored_head_is_not_mirrored_back(basis: FaceBasis) -> None:
    """The best map of a head onto its mirror image has the determinant -1, which no head can do."""
    mirrored = basis.neutral * np.float32([1, 1, -1])
    assert np.linalg.det(head_pose(mirrored[None], basis).turn[0]) == pytest.approx(1, abs=1e-5)


def test_the_pose_is_that_of_the_mesh_which_places_the_reference(basis: FaceBasis) -> None:
    mesh = ReferenceMesh(basis, landmarks(256))
    head = np.concatenate([TURNS, np.tile(np.float32([[0.1, -0.2, 0]]), (len(TURNS), 1))], 1)
    pose = head_pose(mesh.place(mesh.act(np.zeros((len(TURNS), len(CURVES)), np.float32)), head), basis)
    assert np.abs(head_angles(pose.turn @ pose.turn[0].T) - TURNS).max() < 1e-3
    shift = np.float32([0.1, -0.2, 0]) * mesh.height  # px
    assert np.abs(pose.centre - mesh.centre - shift).max() < 0.01 * mesh.height


# ---- the net -----------------------------------------------------------------------------------


@pytest.fixture
def net() -> ExpressionNet:
    torch.manual_seed(0)
    return ExpressionNet(TINY).eval()


def points(count: int) -> torch.Tensor:
    return torch.randn(count, LANDMARKS, 3, generator=torch.Generator().manual_seed(1))


def test_a_face_becomes_a_code_and_the_code_curves(net: ExpressionNet) -> None:
    code, curves = net(points(5))
    assert code.shape == (5, TINY.code) and curves.shape == (5, len(CURVES))
    assert torch.equal(net.encode(points(5)), code) and torch.equal(net.decode(code), curves)


def test_codes_have_one_length(net: ExpressionNet) -> None:
    """A layer norm without weights: mean 0 and mean square 1, whatever the face is."""
    code = net.encode(torch.cat([points(3), 100 * points(3)]))
    assert code.mean(1).abs().max() < 1e-5
    assert (code.square().mean(1) - 1).abs().max() < 1e-3


def test_frames_stand_alone(net: ExpressionNet) -> None:
    film = points(6)
    whole = net(film)[1]
    assert torch.allclose(net(film[2:4])[1], whole[2:4], atol=1e-6)
    film[0] = 9.0
    assert torch.allclose(net(film)[1][1:], whole[1:], atol=1e-6)
    assert not torch.allclose(net(film)[1][0], whole[0], atol=1e-3)


def test_landmarks_are_counted_from_the_mean_in_deviations(net: ExpressionNet) -> None:
    """(x - mean) / deviation: with both set, 3 x + 2 is read as x was."""
    plain = net(points(2))[1]
    net.mean.fill_(2.0)
    net.deviation.fill_(3.0)
    assert torch.allclose(net(3 * points(2) + 2)[1], plain, atol=1e-4)


def test_the_mean_and_the_deviation_are_kept_with_the_weights(net: ExpressionNet) -> None:
    net.mean.fill_(2.0)
    other = ExpressionNet(TINY)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(points(2))[1], net(points(2))[1])
