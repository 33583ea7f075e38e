"""Light on a face: a known light is found, and what it does to skin that turns."""

import numpy as np
import pytest
from tiny import landmarks

from avatar.drivers.light import BOUNDS, GAMMA, fit_light, gain, skin_mask


def sphere(count: int = 2000) -> np.ndarray:
    """Random normals of the half that faces the viewer, (count, 3)."""
    normals = np.random.default_rng(0).standard_normal((count, 3))
    normals[:, 2] = -np.abs(normals[:, 2])
    return (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32)


def test_a_known_light_is_found() -> None:
    normals = sphere()
    true = np.array([0.8, -0.3, -0.1, -0.4])
    brightness = 0.35 * (true[0] + normals @ true[1:])
    found = fit_light(normals, brightness.astype(np.float32))
    np.testing.assert_allclose(
        found / found[0], true / true[0], atol=0.05
    )  # it is pulled a little to even light


def test_dark_spots_do_not_bend_the_light() -> None:
    normals = sphere()
    brightness = 1 - 0.4 * normals[:, 0]
    spots = (normals[:, 0] > 0.3) & (np.arange(len(normals)) % 4 == 0)  # a beard on one cheek
    clean, spotted = (fit_light(normals, np.where(dark, 0.1, brightness)) for dark in (spots & False, spots))
    np.testing.assert_allclose(spotted / spotted[0], clean / clean[0], atol=0.08)


def test_even_light_has_no_direction() -> None:
    light = fit_light(sphere(), np.full(2000, 0.5, np.float32))
    assert light == pytest.approx([1, 0, 0, 0], abs=1e-3)


def test_gain_is_the_ratio_of_what_skin_receives() -> None:
    light = np.array([0.7, 0.0, 0.0, -0.3], np.float32)  # from the viewer
    ahead, up = np.array([[0, 0, -1]], np.float32), np.array([[0, -1, 0]], np.float32)
    assert gain(light, ahead, up) == pytest.approx(0.7 ** (1 / GAMMA))
    assert gain(light, up, up) == 1
    strong = np.array([0.2, 0.0, 2.0, -0.3], np.float32)
    assert gain(strong, ahead, -up) == pytest.approx(BOUNDS[1] ** (1 / GAMMA))


def test_lips_and_eyes_are_no_skin() -> None:
    points = landmarks(256)
    mask = skin_mask(points, 110.0, 256, 64)
    for inside in (13, 0, 17, 159, 386):
        x, y = (points[inside, :2] / 4).astype(int)
        assert not mask[y, x]
    for outside in (1, 50, 280, 10, 152):
        x, y = (points[outside, :2] / 4).astype(int)
        assert mask[y, x]
