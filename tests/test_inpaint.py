"""Holes filled from around them."""

from __future__ import annotations

import numpy as np

from avatar.drivers.inpaint import fill

HOLE = np.zeros((96, 128), bool)
HOLE[20:80, 30:100] = True


def test_what_is_known_stays_to_the_bit() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    filled = fill(picture, HOLE)
    assert np.array_equal(filled[~HOLE], picture[~HOLE].astype(np.float32))
    assert np.array_equal(fill(picture, np.zeros_like(HOLE)), picture.astype(np.float32))


def test_colours_inside_never_show() -> None:
    picture = np.full((96, 128, 3), (40, 90, 160), np.uint8)
    picture[HOLE] = (255, 0, 0)
    assert np.allclose(fill(picture, HOLE), (40, 90, 160), atol=1e-2)


def test_a_slope_goes_on_through_the_hole() -> None:
    """A plane is harmonic, so that it is what a hole in it relaxes to: within 2 % of its range."""
    picture = np.repeat(np.linspace(0, 200, 128, dtype=np.float32)[None, :, None], 96, 0).repeat(3, 2)
    assert np.abs(fill(picture, HOLE) - picture).max() < 4


def test_a_picture_that_is_all_hole_is_its_mean() -> None:
    picture = np.zeros((8, 8, 3), np.float32)
    picture[:4] = 100
    assert np.allclose(fill(picture, np.ones((8, 8), bool)), 50)
