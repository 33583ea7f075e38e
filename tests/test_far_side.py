"""A photo of a turned head: what it hides is not torn out of the background, whichever way the head turns."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES
from avatar.drivers.mesh import FACE_OVAL, MOUTH, FaceBasis, ReferenceMesh, rotation
from avatar.drivers.mouth import MouthModel
from avatar.drivers.warp import DrivenReference

SIDE = 256
ROOM, SKIN = (20, 40, 220), (200, 160, 130)
CLEAR = 6  # px inside the outline, where rounding mixes nothing in


def turned(degrees: float) -> NDArray:
    return np.array([[np.radians(degrees), 0, 0, 0, 0, 0]], np.float32)


def reference(degrees: float) -> DrivenReference:
    """A head that is turned by so much, of one colour, before a room of another."""
    basis = FaceBasis.load()
    face = basis.neutral.copy()
    face[list(MOUTH.lower), 1] = face[list(MOUTH.upper), 1]  # lips that meet exactly
    face = face @ rotation(turned(degrees))[0].T
    landmarks = (face * 110 + SIDE / 2).astype(np.float32)
    picture = np.full((SIDE, SIDE, 3), ROOM, np.uint8)
    cv2.fillConvexPoly(picture, outline(landmarks), SKIN)
    return DrivenReference(ReferenceMesh(basis, landmarks), picture, MouthModel.load())


def outline(landmarks: NDArray) -> NDArray:
    return cv2.convexHull(landmarks[:468, :2].round().astype(np.int32))


def drawn(driver: DrivenReference, degrees: float) -> tuple[NDArray, NDArray]:
    """The picture, the head turned by so much more, and the flow."""
    driven = driver(np.zeros((1, len(CURVES)), np.float32) + driver.mesh.rest, turned(degrees))
    return driven.picture[0].astype(int), driven.flow[0]


def test_a_face_that_looks_at_the_viewer_hides_nothing() -> None:
    far = reference(0).far_side
    assert far.behind.max() == 0 and np.array_equal(far.stand_in, np.arange(468))


@pytest.mark.parametrize("side", [-1, 1])
def test_a_turned_head_rests_as_it_is(side: int) -> None:
    driver = reference(30 * side)
    assert driver.far_side.behind.max() == 1
    assert np.abs(drawn(driver, 0)[1]).max() < 1e-3


@pytest.mark.parametrize("side", [-1, 1])
def test_a_head_that_turns_back_shows_skin_where_the_photo_has_none(side: int) -> None:
    """Light changes, so that the room is known by its hue: blue over red."""
    driver = reference(30 * side)
    picture, _ = drawn(driver, -30 * side)
    whole = np.zeros((SIDE, SIDE), np.uint8)
    oval = driver.mesh.place(driver.mesh.own[None], turned(-30 * side))[0][list(FACE_OVAL), :2]
    cv2.fillPoly(whole, [oval.round().astype(np.int32)], 1)
    inside = cv2.erode(whole, np.ones((2 * CLEAR + 1, 2 * CLEAR + 1), np.uint8)) > 0
    assert inside.sum() > 5000
    assert (picture[inside][:, 2] > picture[inside][:, 0]).mean() < 0.001


@pytest.mark.parametrize("side", [-1, 1])
def test_a_head_that_turns_away_hides_its_far_cheek_behind_the_near_one(side: int) -> None:
    """All that is drawn of a face in profile is of triangles that face the viewer, which lie to the near side
    of the nose's ridge in the reference."""
    driver = reference(0)
    _, flow = drawn(driver, 55 * side)
    there = driver.mesh.place(driver.mesh.own[None], turned(55 * side))[0]
    for point in (5, 4, 101 if side > 0 else 330, 50 if side > 0 else 280):  # the ridge, the near cheek
        x, y = there[point, :2].astype(int)
        found = np.array([x, y]) + 0.5 + flow[:, y, x]
        assert np.abs(found - driver.mesh.landmarks[point, :2]).max() < 3


@pytest.mark.parametrize("side", [-1, 1])
def test_hair_beside_a_face_that_turns_is_not_drawn_out(side: int) -> None:
    """Rings that lie right behind the rim of the face drew it out five times."""
    driver = reference(0)
    _, flow = drawn(driver, 30 * side)
    there = driver.mesh.place(driver.mesh.own[None], turned(30 * side))[0][list(FACE_OVAL), :2]
    left, top = there.min(0).astype(int)
    right, low = there.max(0).astype(int)
    beside = slice(0, left - 2) if side > 0 else slice(right + 2, SIDE)  # to where the head turns from
    step = 1 + np.diff(flow[0, (top + low) // 2 - 30 : (top + low) // 2 + 20], axis=1)[:, beside]
    assert step.min() > 0.3  # px of the photo in one of the frame
