"""Where a clip is cut out, and its figures, on faces that are drawn or computed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tiny import landmarks, picture

from avatar.drivers.face import Crop, Face
from avatar.recipes.clip_figures import face_motion, outside, sharp_start, sharpness, steady_crop

Points = NDArray[np.float32]
WINDOW = (0.0, 0.0, 1280.0, 720.0)
FACE = landmarks(400)  # in the middle of 400 x 400


def moved(x: Points, y: Points | float = 0.0) -> Points:
    """The face at these places, (T, 478, 3)."""
    shift = np.stack(np.broadcast_arrays(x, y, 0.0), -1)[:, None]
    return (FACE + shift).astype(np.float32)


def test_a_quiet_face_gets_the_square_that_was_asked_for() -> None:
    height = Face(FACE).height
    rng = np.random.default_rng(0)
    crop, wander = steady_crop(moved(400 + rng.normal(0, 3, 50)), 2.6, WINDOW)
    assert crop.side == pytest.approx(2.6 * height, abs=4)
    assert crop.x + crop.side / 2 == pytest.approx(600, abs=8)
    assert wander < 0.8
    assert all(value % 2 == 0 for value in (crop.x, crop.y, crop.side))


def test_a_square_holds_the_face_wherever_it_goes() -> None:
    points = moved(np.linspace(0, 250, 100) + 300)
    crop, wander = steady_crop(points, 1.5, WINDOW)
    assert 1.2 < wander < 3 and outside(points, crop) == 0
    far = moved(np.linspace(0, 900, 100))
    crop, wander = steady_crop(far, 2.6, WINDOW)
    assert wander > 2 and outside(far, crop) > 0.3  # the picture is no higher


def test_a_square_stays_in_the_picture_without_its_bars() -> None:
    window = (161.0, 93.0, 900.0, 620.0)
    for x in (-100.0, 600.0):
        crop, _ = steady_crop(moved(np.full(20, x)), 5.0, window)
        assert crop.x >= 161 and crop.y >= 93
        assert crop.x + crop.side <= 900 and crop.y + crop.side <= 620
    assert outside(moved(np.full(20, -250.0)), Crop(0, 0, 400)) == 1


def test_opening_and_place_are_told_in_face_heights() -> None:
    height = Face(FACE).height
    points = moved(np.linspace(0, height, 11))
    points[5, 14, 1] += 0.1 * height
    motion = face_motion(points)
    np.testing.assert_allclose(motion[:, 1], np.linspace(-0.5, 0.5, 11), atol=1e-3)
    np.testing.assert_allclose(motion[5, 0] - motion[0, 0], 0.1, atol=5e-3)
    np.testing.assert_allclose(motion[:, 2], 0, atol=1e-3)


def test_blur_lowers_sharpness_and_size_contrast_and_noise_do_not() -> None:
    spots = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    drawn = np.uint8(0.5 * cv2.resize(spots, (400, 400)) + 0.5 * picture(400))
    sharp = sharpness(drawn, FACE)
    assert sharpness(cv2.GaussianBlur(drawn, (0, 0), 6).astype(np.uint8), FACE) < 0.4 * sharp
    larger = cv2.resize(drawn, (800, 800), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    assert sharpness(larger, FACE * 2) == pytest.approx(sharp, rel=0.1)
    assert sharpness(np.uint8(drawn * 0.5), FACE) == pytest.approx(sharp, rel=0.1)
    coded = cv2.imdecode(cv2.imencode(".jpg", drawn, [1, 30])[1], 1)
    assert sharpness(np.asarray(coded, np.uint8), FACE) == pytest.approx(sharp, rel=0.15)


def test_a_clip_starts_with_the_first_sharp_frame() -> None:
    assert sharp_start([10, 20, 95, 100, 80]) == 2
    assert sharp_start([100, 20]) == 0
    assert sharp_start([]) == 0
