"""Lips that are apart in the reference and shut in a frame."""

from __future__ import annotations

import numpy as np

from avatar.drivers.curves import CURVES, curve_indices
from avatar.drivers.mesh import MOUTH, FaceBasis, ReferenceMesh
from avatar.drivers.mouth import MouthModel, linear
from avatar.drivers.seam import DARK, EDGES, RIM, WIDTH, clear_rims, closing, draw_seam, shade_seam
from avatar.drivers.warp import DrivenReference

SIDE, HEIGHT = 256, 110.0
PAIRS = len(MOUTH.upper)
LIP, TOOTH = (150, 80, 80), 230


def smiling_face() -> tuple[np.ndarray, np.ndarray]:
    """Landmarks of parted lips, and a picture with teeth between them that reach a pixel beyond."""
    basis = FaceBasis.load()
    parting = list(curve_indices("mouthUpperUp", "mouthLowerDown"))
    face = (basis.neutral + basis.displacement[parting].sum(0)) * HEIGHT + SIDE / 2
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    upper, lower = (
        np.interp(columns, face[list(rim), 0], face[list(rim), 1], left=np.nan, right=np.nan)
        for rim in (MOUTH.upper, MOUTH.lower)
    )
    picture = np.full((SIDE, SIDE, 3), LIP, np.uint8)
    picture[(rows > upper - 1) & (rows < lower + 1)] = TOOTH
    return face.astype(np.float32), picture


def test_only_what_was_apart_and_is_shut_counts() -> None:
    opened = np.array([0.2, 2.0, 8.0])
    shut = closing(opened, np.array([[0.0, 0.0, 0.0], [0.2, 1.0, 8.0], [5.0, 5.0, 12.0]]))
    np.testing.assert_allclose(shut, [[0, 1, 1], [0, 0.5, 0], [0, 0, 0]], atol=1e-6)


def test_rims_leave_the_teeth_and_the_corners_stay() -> None:
    source = np.zeros((2, 478, 2), np.float32)
    clear_rims(
        source, np.stack([np.ones(PAIRS), np.zeros(PAIRS)]), HEIGHT, EDGES.pulls(FaceBasis.load().neutral)
    )
    assert not source[1].any() and not source[..., 0].any()
    np.testing.assert_allclose(source[0, list(MOUTH.lower[1:-1]), 1], RIM * HEIGHT, rtol=1e-6)
    np.testing.assert_allclose(source[0, list(MOUTH.upper[1:-1]), 1], -RIM * HEIGHT, rtol=1e-6)
    assert not source[0, [MOUTH.upper[0], MOUTH.upper[-1]]].any()


def test_the_seam_is_a_line_of_its_width() -> None:
    target = np.zeros((2, 478, 2), np.float32)
    for rim in (MOUTH.upper, MOUTH.lower):
        target[:, list(rim)] = np.stack([np.linspace(40, 90, PAIRS), np.full(PAIRS, 64.5)], 1)
    full, half = draw_seam(target, np.stack([np.ones(PAIRS), np.full(PAIRS, 0.5)]), 3 / WIDTH, 128)
    # A deviation of 3 px: 1 in the middle, exp(-1/2) one deviation away; half shut counts a quarter.
    np.testing.assert_allclose(full[[64, 61, 67], 65], [1, np.exp(-0.5), np.exp(-0.5)], atol=0.03)
    np.testing.assert_allclose(half[64, 65], 0.25, atol=0.02)
    assert full[:, :20].max() < 0.01 and full[:40].max() < 0.01
    assert not draw_seam(target, np.zeros((2, PAIRS)), 110, 128).any()


def test_its_shadow_is_redder_than_the_lips_and_grey_stays_grey() -> None:
    picture = np.array([[LIP, (120, 120, 120), LIP]], np.uint8)
    before = linear(picture)
    shade_seam(picture, np.array([[1, 1, 0]], np.float32))
    share = linear(picture) / before
    # Light x (1 - DARK) x sqrt(light / mean light), rounded to 8 bits.
    expected = (1 - DARK) * np.sqrt(before[0, 0] / before[0, 0].mean())
    np.testing.assert_allclose(share[0, 0], expected, atol=0.02)
    np.testing.assert_allclose(share[0, 1], 1 - DARK, atol=0.02)
    assert tuple(picture[0, 2]) == LIP


def test_a_smile_that_shuts_shows_no_teeth_but_a_dark_line() -> None:
    landmarks, picture = smiling_face()
    driver = DrivenReference(ReferenceMesh(FaceBasis.load(), landmarks), picture, MouthModel.load())
    curves, head = np.zeros((3, len(CURVES)), np.float32), np.zeros((3, 6), np.float32)
    curves[1, CURVES.index("jawOpen")] = 0.5
    head[2, 1] = -0.14  # 8 degrees up
    assert MOUTH.gaps(landmarks).max() > 5
    driven = driver(curves, head)
    mouth = slice(110, 180), slice(118, 136)  # the corners of these lips are too steep to shut
    assert driven.seam[1].max() < 0.05 and driven.picture[1][mouth].max() > TOOTH - 30
    for shut in (0, 2):
        assert driven.seam[shut].max() > 0.9
        assert driven.picture[shut][mouth].max() < LIP[0] + 10
        dark = linear(driven.picture[shut][mouth]).mean(-1).min() / linear(picture[0, 0]).mean()
        assert dark < 0.5
