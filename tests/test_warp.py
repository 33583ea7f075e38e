"""The driven reference: stillness, borders, obedience and the mouth's hole."""

import cv2
import numpy as np
import pytest

from avatar.drivers.curves import CURVES
from avatar.drivers.mesh import CHIN, FACE_OVAL, LEFT_EYE, LIDS_MEET, MOUTH, FaceBasis, ReferenceMesh, Slit
from avatar.drivers.mouth import ENAMEL, FLESH, MouthModel, linear
from avatar.drivers.warp import DrivenReference

SIDE = 256
JAW = CURVES.index("jawOpen")


@pytest.fixture(scope="module")
def driver() -> DrivenReference:
    basis = FaceBasis.load()
    face = basis.neutral.copy()
    face[list(MOUTH.lower), 1] = face[list(MOUTH.upper), 1]  # lips that meet exactly
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(60, 200, (32, 32, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    mesh = ReferenceMesh(basis, (face * 110 + SIDE / 2).astype(np.float32))
    return DrivenReference(mesh, picture, MouthModel.load())


def still(frames: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((frames, len(CURVES)), np.float32), np.zeros((frames, 6), np.float32)


def test_no_motion_gives_the_picture_itself(driver: DrivenReference) -> None:
    driven = driver(*still(2))
    assert np.abs(driven.flow).max() < 1e-3
    np.testing.assert_array_equal(driven.picture[1], driver.picture)
    assert driven.hole.sum() == 0


def test_the_border_never_moves(driver: DrivenReference) -> None:
    curves, head = still(1)
    head[:] = [0.2, 0.2, 0.15, 0.05, 0.05, 0.0]
    flow = driver(curves, head).flow[0]
    rim = np.concatenate([flow[:, [0, -1]].ravel(), flow[:, :, [0, -1]].ravel()])
    assert np.abs(rim).max() < 0.2
    assert np.abs(flow).max() > 5


def test_an_open_jaw_shows_a_hole_between_the_lips(driver: DrivenReference) -> None:
    curves, head = still(3)
    curves[:, JAW] = [0.0, 0.25, 0.5]
    driven = driver(curves, head)
    areas = driven.hole.sum((1, 2))
    assert areas[0] == 0
    assert 0 < areas[1] < areas[2]
    landmarks = driver.mesh.place(driver.mesh.act(curves[2:]), head[2:])[0]
    rows, columns = np.nonzero(driven.hole[2] > 0.5)
    assert landmarks[13, 1] - 2 < rows.min() and rows.max() < landmarks[14, 1] + 2
    assert landmarks[78, 0] - 2 < columns.min() and columns.max() < landmarks[308, 0] + 2
    assert driven.picture[2][driven.hole[2] > 0.9].mean() < driver.picture.mean()


def test_a_jaw_that_opens_goes_in_front_of_the_collar() -> None:
    """A light neck over a dark collar 0.06 face heights under the chin: of the neck nothing is dragged
    below the collar's line, where 12 px of it showed beside the face."""
    basis = FaceBasis.load()
    points = (basis.neutral * 110 + SIDE / 2).astype(np.float32)
    line = int(points[CHIN, 1] + 0.06 * 110)
    picture = np.full((SIDE, SIDE, 3), 170, np.uint8)
    picture[line:] = 10
    driver = DrivenReference(ReferenceMesh(basis, points), picture, MouthModel.load())
    curves, head = still(1)
    curves[:, JAW] = 0.7
    face = np.zeros((SIDE, SIDE), np.uint8)
    moved = driver.mesh.place(driver.mesh.act(curves), head)[0, list(FACE_OVAL), :2]
    cv2.fillPoly(face, [moved.round().astype(np.int32)], 1)
    beside = cv2.dilate(face, np.ones((3, 3))) == 0
    light = driver(curves, head).picture[0].mean(-1) > 60
    assert face[line + 3 :].any() and not (light & beside)[line + 1 :].any()


def test_flow_points_from_a_landmark_to_its_place_in_the_reference(driver: DrivenReference) -> None:
    curves, head = still(1)
    curves[:, JAW], head[0, 0] = 0.3, 0.1
    target = driver.mesh.place(driver.mesh.act(curves), head)[0]
    for point in (1, 50, 280, 199):  # nose, cheeks, chin
        x, y = target[point, :2].astype(int)
        found = np.array([x, y]) + 0.5 + driver(curves, head).flow[0, :, y, x]
        assert np.abs(found - driver.mesh.landmarks[point, :2]).max() < 1.5


def test_frames_do_not_depend_on_their_neighbours(driver: DrivenReference) -> None:
    curves, head = still(4)
    curves[:, JAW] = [0.1, 0.4, 0.2, 0.3]
    whole = driver(curves, head)
    np.testing.assert_array_equal(whole.picture[2], driver(curves[2:3], head[2:3]).picture[0])


def made_up(inside: int, slit: Slit, gap: float = 0.0) -> DrivenReference:
    """A grey face on which a slit shows a value of its own; its lips are `gap` face heights apart."""
    face = FaceBasis.load().neutral.copy()
    face[list(MOUTH.lower), 1] = face[list(MOUTH.upper), 1]
    face[list(MOUTH.lower)[1:-1], 1] += gap
    landmarks = (face * 110 + SIDE / 2).astype(np.float32)
    picture = np.full((SIDE, SIDE, 3), 120, np.uint8)
    ring = landmarks[[*slit.upper, *slit.lower[-2:0:-1]], :2].round().astype(np.int32)
    cv2.fillPoly(picture, [ring], (inside,) * 3)
    cv2.polylines(picture, [ring[: len(slit.upper)]], False, (60,) * 3)  # lashes
    return DrivenReference(ReferenceMesh(FaceBasis.load(), landmarks), picture, MouthModel.load())


def test_a_shut_eye_shows_no_eye() -> None:
    driver = made_up(250, LEFT_EYE)
    curves, head = still(3)
    curves[:, [CURVES.index("eyeBlinkLeft"), CURVES.index("eyeBlinkRight")]] = [[0.4], [0.95], [1.0]]
    bright = (driver(curves, head).picture > 200).sum((1, 2, 3))
    assert bright[0] > 100 and max(bright[1:]) < 0.15 * bright[0]


def test_an_eye_that_opens_wider_shows_no_skin() -> None:
    """From lashes to lower lid all is the bright eyeball: as many more pixels of it as the eye is wider."""
    driver = made_up(250, LEFT_EYE)
    curves, head = still(2)
    curves[1, CURVES.index("eyeWideRight")] = 1
    bright = (driver(curves, head).picture > 200).sum((1, 2, 3))
    gaps = LEFT_EYE.gaps(driver.mesh.act(curves)).mean(1)
    assert gaps[1] > 1.3 * gaps[0]
    assert bright[1] / bright[0] == pytest.approx(gaps[1] / gaps[0], rel=0.15)


def test_lids_are_marked_where_and_as_far_as_an_eye_closes() -> None:
    driver = made_up(250, LEFT_EYE)
    curves, head = still(3)
    curves[:, CURVES.index("eyeBlinkRight")] = [0.0, 0.5, 1.0]  # the person's right is the picture's left
    lids = driver(curves, head).lids
    assert lids[0].max() == 0 and lids.max((1, 2))[1:] == pytest.approx([0.5 / LIDS_MEET, 1.0], abs=0.12)
    rows, columns = np.nonzero(lids[2])
    eye = driver.mesh.landmarks[[*LEFT_EYE.upper, *LEFT_EYE.lower]]
    assert eye[:, 0].min() - 8 < columns.min() and columns.max() < eye[:, 0].max() + 8
    assert eye[:, 1].min() - 8 < rows.min() and rows.max() < eye[:, 1].max() + 8


def test_lips_that_hardly_part_stay_shut(driver: DrivenReference) -> None:
    curves, head = still(2)
    curves[:, JAW] = [0.02, 0.12]
    area = driver(curves, head).hole.sum((1, 2))
    assert area[0] == 0 and area[1] > 20


def test_teeth_that_the_reference_shows_are_its_enamel() -> None:
    smiling, dark = made_up(240, MOUTH, 0.08), made_up(20, MOUTH, 0.08)
    np.testing.assert_allclose(smiling.paints[ENAMEL], linear(np.array(240)), rtol=1e-3)
    assert smiling.mouth_shown.max() == 1
    assert dark.paints[ENAMEL].max() < linear(np.array(240)) / 2
    assert dark.mouth_shown.max() == 0


def test_a_grey_photo_has_a_grey_mouth() -> None:
    grey = made_up(20, MOUTH)
    assert np.ptp(grey.paints, axis=1).max() < 1e-6
    picture = np.round(grey.picture * [1.0, 0.8, 0.6]).astype(np.uint8)
    skin = DrivenReference(grey.mesh, picture, grey.mouth)
    assert (skin.paints[FLESH, 0] > 1.5 * skin.paints[FLESH, 1:]).all()
