"""Head motion from keypoints, made by projecting the mean face under a motion that is known."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES, INDEX
from avatar.drivers.head import LEAST, NOD_SEEN, RIGID, HeadSignal
from avatar.drivers.mesh import CAMERA, HEAD_CENTRE, IBUG, FaceBasis, rotation
from avatar.drivers.pose import PoseSignal
from avatar.drivers.skeleton import FACE, POINTS
from avatar.errors import UserError

Array = NDArray[np.float32]
HEIGHT, PLACE = 110.0, (320, 240)  # px, of the face and where its head is
DEGREES, SHIFT = 1.5, 0.02  # what angles and shifts (face heights) may be off


@pytest.fixture(scope="module")
def basis() -> FaceBasis:
    return FaceBasis.load()


def pose_of(
    basis: FaceBasis, head: Array, curves: Array | None = None, height: float = HEIGHT, deep: bool = False
) -> PoseSignal:
    """Keypoints of the mean face with curves (T, 52) under `head` (T, 6), as ReferenceMesh.place puts them:
    (zoom R (x - centre) + shift) height + place, zoom = CAMERA / (CAMERA + z), of which x and y are seen, and
    z where `deep`."""
    face = np.tile(basis.neutral, (len(head), 1, 1))
    if curves is not None:
        face = face + np.einsum("tk,kld->tld", curves, basis.displacement)
    away = face - (basis.neutral[:468].mean(0) + HEAD_CENTRE)
    zoom = CAMERA / (CAMERA + head[:, None, 5:6])
    placed = (away @ rotation(head).transpose(0, 2, 1) * zoom + head[:, None, 3:6]) * height
    keypoints = np.zeros((len(head), POINTS, 2), np.float32)
    keypoints[:, FACE] = placed[:, list(IBUG), :2] + PLACE
    scores = np.zeros((len(head), POINTS), np.float32)
    scores[:, FACE] = 1
    depth = np.zeros((len(head), POINTS), np.float32)
    if deep:
        depth[:, FACE] = placed[:, list(IBUG), 2]
    return PoseSignal(fps=Fraction(25), keypoints=keypoints, scores=scores, depth=depth, size=(640, 480))


def nod(frames: int = 9) -> Array:
    """All six values move, from 0 on."""
    time = np.linspace(0, 1, frames)
    head = [0.5 * time, 0.3 * np.sin(4 * time), -0.4 * time, 0.3 * time, -0.2 * time, np.sin(6 * time)]
    return np.stack(head, 1).astype(np.float32)


def check(found: Array, expected: Array, deep: bool = False) -> None:
    """Of keypoints with a depth the nod is larger than they show, and so the head's centre is elsewhere."""
    expected = expected / np.array([1, NOD_SEEN if deep else 1, 1, 1, 1, 1], np.float32)
    assert np.degrees(np.abs(found[:, :3] - expected[:, :3])).max() < DEGREES
    shifts = slice(5, 6) if deep else slice(3, 6)
    assert np.abs(found[:, shifts] - expected[:, shifts]).max() < SHIFT


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("value", range(6))
def test_each_motion_comes_back_and_moves_nothing_else(basis: FaceBasis, value: int, deep: bool) -> None:
    head = np.zeros((5, 6), np.float32)
    head[:, value] = [0, 0.2, 0.5, -0.2, -0.5]
    check(HeadSignal.of_pose(pose_of(basis, head, deep=deep), basis).head, head, deep)


@pytest.mark.parametrize("deep", [False, True])
def test_all_motions_together_come_back(basis: FaceBasis, deep: bool) -> None:
    signal = HeadSignal.of_pose(pose_of(basis, nod(), deep=deep), basis)
    assert signal.head.shape == (9, 6) and signal.head.dtype == np.float32 and signal.fps == 25
    check(signal.head, nod(), deep)


def test_the_face_stays_where_it_is_seen_however_far_the_head_nods(basis: FaceBasis) -> None:
    """The middle of its points in two dimensions, to 1 % of the face's height."""
    places = [FACE[point] for point in RIGID]
    seen = pose_of(basis, nod(), deep=True)
    made = pose_of(basis, HeadSignal.of_pose(seen, basis).head)
    away = made.keypoints[:, places].mean(1) - seen.keypoints[:, places].mean(1)
    assert np.abs(away).max() < 0.01 * HEIGHT


def test_motion_is_counted_from_the_first_frame(basis: FaceBasis) -> None:
    """Of a head that is turned from the start, R_t R_0^T; a shift is in face heights of the first frame,
    whose zoom is CAMERA / (CAMERA + z)."""
    start = np.float32([[0.4, 0.1, -0.2, 0.5, 0.1, -2]])
    held = HeadSignal.of_pose(pose_of(basis, np.repeat(start, 3, 0)), basis).head
    assert np.abs(held).max() < 1e-3
    moves = np.repeat(start, 2, 0)
    moves[1, 3] += 0.3
    shifted = HeadSignal.of_pose(pose_of(basis, moves), basis).head
    check(shifted, np.float32([[0] * 6, [0, 0, 0, 0.3 * (CAMERA - 2) / CAMERA, 0, 0]]))


@pytest.mark.parametrize("height", [40.0, 400.0])
def test_the_size_of_the_film_does_not_matter(basis: FaceBasis, height: float) -> None:
    check(HeadSignal.of_pose(pose_of(basis, nod(), height=height), basis).head, nod())


def test_speech_and_blinks_do_not_move_the_head(basis: FaceBasis) -> None:
    curves = np.zeros((5, len(CURVES)), np.float32)
    curves[1:, INDEX["jawOpen"]], curves[2:, INDEX["mouthPucker"]] = 0.7, 0.7
    curves[3:, [INDEX["eyeBlinkLeft"], INDEX["eyeBlinkRight"]]] = 1
    found = HeadSignal.of_pose(pose_of(basis, np.zeros((5, 6), np.float32), curves), basis).head
    assert np.degrees(np.abs(found[:, :3])).max() < DEGREES and np.abs(found[:, 3:5]).max() < SHIFT
    assert np.abs(found[:, 5]).max() < 0.02 * CAMERA  # the size, 1 / (1 + z / CAMERA), to 2 %


def test_a_known_depth_tells_a_nod_from_a_longer_face(basis: FaceBasis) -> None:
    """A nose that is half as long again, as in another face: without depth that tilts the head."""
    pose = pose_of(basis, nod(), deep=True)
    tip = [FACE[point] for point in (30, 33)]
    pose.keypoints[:, tip, 1] += 12
    errors = []
    for given, seen in ((pose, NOD_SEEN), (replace(pose, depth=np.zeros((), np.float32)), 1)):
        errors.append(np.abs(seen * HeadSignal.of_pose(given, basis).head[:, 1] - nod()[:, 1]).max())
    assert errors[0] < 0.6 * errors[1]


def test_points_that_tremble_move_the_head_little(basis: FaceBasis) -> None:
    pose = pose_of(basis, nod())
    noise = np.random.default_rng(0).normal(0, 0.3, pose.keypoints.shape)  # px of a face of 110
    found = HeadSignal.of_pose(
        replace(pose, keypoints=(pose.keypoints + noise).astype(np.float32)), basis
    ).head
    assert np.degrees(np.abs(found[:, :3] - nod()[:, :3])).max() < 4
    assert np.abs(found[:, 3:5] - nod()[:, 3:5]).max() < 0.04


# ---- what is out of sight ----------------------------------------------------------------------


def hidden(pose: PoseSignal, frames: list[int], points: list[int]) -> PoseSignal:
    """The pose without some of iBUG's points; the place of a missing point means nothing."""
    keypoints, scores = pose.keypoints.copy(), pose.scores.copy()
    places = [FACE[point] for point in points]
    keypoints[np.ix_(frames, places)], scores[np.ix_(frames, places)] = 0, 0
    return replace(pose, keypoints=keypoints, scores=scores)


ALL = list(range(68))


def test_frames_without_a_face_hold_the_last_one(basis: FaceBasis) -> None:
    found = HeadSignal.of_pose(hidden(pose_of(basis, nod()), [3, 4, 8], ALL), basis).head
    expected = nod()
    expected[[3, 4]], expected[8] = expected[2], expected[7]
    check(found, expected)
    assert np.array_equal(found[[3, 4]], found[[2, 2]]) and np.array_equal(found[8], found[7])


def test_before_the_face_is_seen_the_head_is_still(basis: FaceBasis) -> None:
    found = HeadSignal.of_pose(hidden(pose_of(basis, nod()), [0, 1], ALL), basis).head
    assert np.abs(found[:3]).max() < 1e-6  # counted from frame 2, the first with a face
    assert np.abs(found[5]).max() > 0.1


def test_points_that_are_missing_are_left_out(basis: FaceBasis) -> None:
    """LEAST points of those that do not act are enough, and the places of the others mean nothing."""
    gone = list(RIGID[: len(RIGID) - LEAST])
    check(HeadSignal.of_pose(hidden(pose_of(basis, nod()), list(range(2, 9)), gone), basis).head, nod())


def test_too_few_points_are_no_face(basis: FaceBasis) -> None:
    found = HeadSignal.of_pose(hidden(pose_of(basis, nod()), [4], list(RIGID[LEAST - 1 :])), basis).head
    assert np.array_equal(found[4], found[3])


def test_only_points_that_do_not_act_count(basis: FaceBasis) -> None:
    others = [point for point in ALL if point not in RIGID]
    full = pose_of(basis, nod())
    found = HeadSignal.of_pose(hidden(full, list(range(9)), others), basis).head
    assert np.array_equal(found, HeadSignal.of_pose(full, basis).head)


def test_a_pose_without_a_face_is_refused(basis: FaceBasis) -> None:
    with pytest.raises(UserError, match="the pose shows no face, so it says nothing of the head"):
        HeadSignal.of_pose(hidden(pose_of(basis, nod()), list(range(9)), ALL), basis)


# ---- the signal --------------------------------------------------------------------------------


def test_strength_mask_and_rate_are_those_of_the_pose(basis: FaceBasis) -> None:
    pose = replace(pose_of(basis, nod()).masked("head", "body"), fps=Fraction(30000, 1001))
    signal = HeadSignal.of_pose(pose.scaled([(0, 0), (0.2, 1)]), basis)
    assert signal.mask == {"head", "body"} and signal.fps == Fraction(30000, 1001)
    assert np.array_equal(signal.strength, pose.scaled([(0, 0), (0.2, 1)]).strength)


def test_a_head_signal_is_cut_and_brought_to_another_rate(basis: FaceBasis) -> None:
    signal = HeadSignal.of_pose(pose_of(basis, nod()), basis)
    assert np.array_equal(signal.cut(0.08, 0.2).head, signal.head[2:5])
    fine = signal.resampled(Fraction(50))
    assert np.allclose(fine.head[1], (signal.head[0] + signal.head[1]) / 2, atol=1e-6)
