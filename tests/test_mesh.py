"""The reference's mesh: openings, head motion and the measures taken of them."""

import numpy as np
import pytest

from avatar.drivers.curves import CURVES, curve_indices
from avatar.drivers.mesh import (
    CHIN,
    FOREHEAD,
    LEFT_EYE,
    MOUTH,
    NOSE_TIP,
    OPEN_BY_LIPS,
    FaceBasis,
    ReferenceMesh,
    face_mask,
    kabsch,
    measure_motion,
    part_masks,
    rotation,
)

SIDE = 256


@pytest.fixture(scope="module")
def basis() -> FaceBasis:
    return FaceBasis.load()


def landmarks(basis: FaceBasis, gap: float = 0.0) -> np.ndarray:
    """A mean face 110 px high in the middle of a picture, its lips `gap` face heights apart."""
    face = basis.neutral.copy()
    face[list(MOUTH.lower)[1:-1], 1] += gap
    return (face * 110 + SIDE / 2).astype(np.float32)


def act(mesh: ReferenceMesh, **curves: float) -> np.ndarray:
    row = np.zeros((1, len(CURVES)), np.float32)
    for name, value in curves.items():
        row[0, CURVES.index(name)] = value
    return mesh.act(row)[0]


@pytest.mark.parametrize("gap", [0.0, 0.04, 0.15])
def test_closed_curves_close_the_lips_whatever_the_reference_shows(basis: FaceBasis, gap: float) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis, gap))
    assert np.abs(MOUTH.gaps(act(mesh))).max() < 1e-5


@pytest.mark.parametrize("gap", [0.0, 0.04, 0.15])
def test_lips_that_may_stay_parted_leave_the_reference_as_it_is(basis: FaceBasis, gap: float) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis, gap))
    mesh.parted = 1.0
    np.testing.assert_allclose(mesh.act(mesh.rest[None])[0], mesh.own, atol=1e-5)
    half = ReferenceMesh(basis, mesh.landmarks)
    half.parted = 0.5
    lips = min(MOUTH.gaps(mesh.own)[5], OPEN_BY_LIPS)  # the rest is the jaw's, which the curves say
    assert np.ptp([MOUTH.gaps(m.act(m.rest[None]))[0, 5] for m in (half, mesh)]) == pytest.approx(
        lips / 2, abs=2e-3
    )
    assert mesh.parting() @ mesh.mouth_change[:, 5] == pytest.approx(MOUTH.gaps(mesh.own)[5], abs=1e-5)
    closed = mesh.act((mesh.rest - mesh.parting())[None])[0]
    assert MOUTH.gaps(closed)[5] < 1e-5


def test_lips_that_close_are_carried_whole_and_not_stretched(basis: FaceBasis) -> None:
    parting = basis.displacement[list(curve_indices("mouthUpperUp", "mouthLowerDown"))].sum(0)
    parted = ((basis.neutral + parting) * 110 + SIDE / 2).astype(np.float32)
    mesh = ReferenceMesh(basis, parted)
    moved = act(mesh)[:, 1] - mesh.own[:, 1]
    for outer, inner in ((0, 13), (17, 14)):
        assert parting[outer, 1] / parting[inner, 1] == pytest.approx(0.83, abs=0.03)
        assert 0.55 < moved[outer] / moved[inner] < 0.9


@pytest.mark.parametrize("gap", [0.0, 0.04, 0.15])
def test_the_jaw_opens_the_lips_by_the_same_amount_whatever_the_reference_shows(
    basis: FaceBasis, gap: float
) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis, gap))
    opened = MOUTH.gaps(act(mesh, jawOpen=0.5))[5]
    assert opened == pytest.approx(0.5 * mesh.mouth_change[CURVES.index("jawOpen"), 5], abs=1e-5)
    assert opened > 0.08


def test_pucker_narrows_and_stretch_widens_the_mouth(basis: FaceBasis) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis))
    stretched = {"mouthStretchLeft": 0.7, "mouthStretchRight": 0.7}
    moves = {"rest": {}, "pucker": {"mouthPucker": 0.7}, "stretch": stretched}
    width = {name: np.ptp(act(mesh, **move)[[61, 291], 0]) for name, move in moves.items()}
    assert width["pucker"] < width["rest"] < width["stretch"]


def test_a_blink_closes_one_eye_only(basis: FaceBasis) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis))
    shut = act(mesh, eyeBlinkRight=1.0)  # the person's right eye is the picture's left one
    assert np.abs(LEFT_EYE.gaps(shut)).max() < 0.02 * LEFT_EYE.gaps(mesh.own).max()
    np.testing.assert_allclose(shut[386], mesh.own[386], atol=1e-5)


def test_zero_motion_gives_back_the_reference(basis: FaceBasis) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis))
    np.testing.assert_allclose(
        mesh.place(mesh.own[None], np.zeros((1, 6), np.float32))[0], mesh.landmarks, atol=1e-3
    )


@pytest.mark.parametrize(("axis", "coordinate", "sign"), [(0, 0, 1), (1, 1, 1), (3, 0, 1), (4, 1, 1)])
def test_the_nose_follows_the_documented_directions(
    basis: FaceBasis, axis: int, coordinate: int, sign: int
) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis))
    head = np.zeros((1, 6), np.float32)
    head[0, axis] = 0.1
    moved = mesh.place(mesh.own[None], head)[0] - mesh.landmarks
    assert sign * moved[NOSE_TIP, coordinate] > 2


def test_roll_turns_clockwise_and_a_nearer_head_is_larger(basis: FaceBasis) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis))
    rolled = mesh.place(mesh.own[None], np.float32([[0, 0, 0.1, 0, 0, 0]]))[0]
    assert rolled[FOREHEAD, 0] > mesh.landmarks[FOREHEAD, 0]
    near = mesh.place(mesh.own[None], np.float32([[0, 0, 0, 0, 0, -0.5]]))[0]
    assert np.ptp(near[[FOREHEAD, CHIN], 1]) > np.ptp(mesh.landmarks[[FOREHEAD, CHIN], 1])


def test_kabsch_finds_a_known_turn(basis: FaceBasis) -> None:
    turn = rotation(np.float32([[0.3, -0.2, 0.1]]))[0]
    found, scale = kabsch(basis.neutral, 3.0 * basis.neutral @ turn.T)
    np.testing.assert_allclose(found, turn, atol=1e-5)
    assert scale == pytest.approx(3.0, abs=1e-4)


def test_motion_is_measured_in_percent_of_the_face_height(basis: FaceBasis) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis))
    curves, head = np.zeros((50, len(CURVES)), np.float32), np.zeros((50, 6), np.float32)
    head[::2, 3] = 0.02  # a square wave of two percent has a standard deviation of one
    np.testing.assert_allclose(measure_motion(mesh, curves, head), [0.5, 0.0], atol=1e-3)
    curves[::2, CURVES.index("jawOpen")] = 0.5
    assert measure_motion(mesh, curves, 0 * head)[1] > 0.3


def test_the_face_mask_covers_face_and_chin_and_nothing_else(basis: FaceBasis) -> None:
    mask = face_mask(landmarks(basis), SIDE, 32)
    points = (landmarks(basis)[[NOSE_TIP, 14, CHIN], :2] / 8).astype(int)
    assert (mask[points[:, 1], points[:, 0]] > 0.5).all()
    assert mask[:4].max() == mask[:, :4].max() == 0


def test_parts_of_the_face_share_it_out(basis: FaceBasis) -> None:
    """Cells are 8 px: the lips lie in the mouth's, irises and brows in the eyes', the nose in neither."""
    points = landmarks(basis)
    mouth, eyes, rest = part_masks(points, SIDE, 32)
    assert np.allclose(mouth + eyes + rest, face_mask(points, SIDE, 32), atol=1e-6) and rest.min() >= 0

    def at(mask: np.ndarray, *places: int) -> list[float]:
        return [float(mask[tuple((points[place, 1::-1] / 8).astype(int))]) for place in places]

    assert min(at(mouth, 13, 14, 61, 291)) > 0.4 and max(at(eyes, 13, 14, 61, 291, 1)) == 0
    assert min(at(eyes, 468, 473, 105, 334)) > 0.4 and max(at(mouth, 468, 473, 105, 334, 1)) == 0
    assert at(rest, 1)[0] > 0.9


@pytest.mark.parametrize("smile", [-0.8, 0.8])
def test_a_smile_leaves_the_opening_to_the_jaw(basis: FaceBasis, smile: float) -> None:
    mesh = ReferenceMesh(basis, landmarks(basis))
    plain, smiling = (
        act(mesh, jawOpen=0.4, mouthSmileLeft=amount, mouthSmileRight=amount) for amount in (0.0, smile)
    )
    np.testing.assert_allclose(MOUTH.gaps(smiling), MOUTH.gaps(plain), atol=1e-4)
