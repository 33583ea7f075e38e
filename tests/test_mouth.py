"""The drawn mouth: what moves its parts, what covers what, and the paints found in clips."""

import numpy as np
import pytest
import tiny

from avatar.drivers.curves import INDEX
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.mouth import (
    DARK,
    ENAMEL,
    FLESH,
    LOWER_TEETH,
    SEATS,
    TONGUE,
    UPPER_TEETH,
    MouthModel,
    develop,
    linear,
)
from avatar.drivers.warp import DrivenReference, face_light
from avatar.recipes.driven import fit_paints
from avatar.recipes.surfaces import MOUTH_PART, SKIN_PART

SIDE = 256
HEIGHT = 110.0  # px
BOX = slice(0, 80), slice(0, 100)


@pytest.fixture(scope="module")
def mouth() -> MouthModel:
    return MouthModel.load()


def place(mouth: MouthModel, **curves: float) -> np.ndarray:
    row = np.zeros((1, 52), np.float32)
    for name, value in curves.items():
        row[0, INDEX[name]] = value
    return mouth.place(row, np.array(SEATS, np.float32))[0]


def drawn(mouth: MouthModel, **curves: float) -> np.ndarray:
    """Layers of a mouth whose lips meet in the box's row 30 and column 50."""
    points = HEIGHT * place(mouth, **curves) + np.array([50, 30, 0], np.float32)
    return mouth.layers(points.astype(np.float32), HEIGHT, BOX, 0.1)


def test_the_edges_lie_where_the_seats_say(mouth: MouthModel) -> None:
    points = place(mouth)
    near = mouth.points[:, 2] < mouth.points[:, 2].min() + 0.1
    front = {part: near & (mouth.part == part) for part in (UPPER_TEETH, LOWER_TEETH)}
    assert points[front[UPPER_TEETH], 1].max() == pytest.approx(SEATS[0], abs=0.01)
    assert points[front[LOWER_TEETH], 1].min() == pytest.approx(SEATS[1], abs=0.01)


def test_the_jaw_takes_its_teeth_along_and_leaves_the_skulls(mouth: MouthModel) -> None:
    moved = place(mouth, jawOpen=0.5) - place(mouth)
    assert np.abs(moved[mouth.part == UPPER_TEETH]).max() == 0
    assert moved[mouth.part == LOWER_TEETH, 1].min() > 0.02
    assert moved[mouth.part == TONGUE, 1].mean() > 0.02
    out = place(mouth, tongueOut=1.0) - place(mouth)
    assert np.abs(out[mouth.part != TONGUE]).max() == 0 and out[mouth.part == TONGUE, 2].min() < -0.1


def test_an_open_mouth_shows_teeth_above_flesh_and_dark_between(mouth: MouthModel) -> None:
    column = drawn(mouth, jawOpen=0.7)[:, 30:, 46:54].mean(2)
    assert column[ENAMEL, 0] > 0.5 > column[FLESH, 0]
    assert column[FLESH, 5:].max() > 0.3
    wide = drawn(mouth, jawOpen=1.0)
    assert wide[DARK].max() > 0.8 and (drawn(mouth)[DARK] * drawn(mouth)[ENAMEL]).max() < 0.3


def test_teeth_have_gaps(mouth: MouthModel) -> None:
    row = drawn(mouth, jawOpen=0.7)[ENAMEL, 30, 35:65]
    assert np.diff(np.sign(np.diff(row))).astype(bool).sum() >= 6
    assert row.min() > 0.2


def test_light_is_linear_both_ways() -> None:
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(develop(linear(values)), values, atol=1e-3)


def test_paints_are_found_in_a_clip_that_shows_them(mouth: MouthModel) -> None:
    picture, marks = tiny.picture(SIDE), tiny.landmarks(SIDE)
    curves, head = tiny.motion(17)
    paints = np.array([[0.6, 0.5, 0.4], [0.4, 0.1, 0.12], [0.05, 0.02, 0.02]], np.float32)
    mesh = ReferenceMesh(FaceBasis.load(), marks)
    seats = np.array(SEATS, np.float32)
    shown = DrivenReference(mesh, picture, mouth, seats, paints)(curves, head)
    clip = {
        "reference": picture,
        "frames": shown.picture,
        "curves": curves.astype(np.float16),
        "head": head,
        "seats": seats,
        "parts": np.full((17, 128, 128), MOUTH_PART, np.uint8),
    }
    found = fit_paints(clip, mesh, mouth)
    np.testing.assert_allclose(found[:2], paints[:2], rtol=0.15, atol=0.02)
    clip["parts"][:] = SKIN_PART
    usual = mouth.lit_paints(face_light(picture, marks))
    np.testing.assert_allclose(fit_paints(clip, mesh, mouth), usual, rtol=1e-4)
