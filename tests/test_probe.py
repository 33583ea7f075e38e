"""The response probe on a drawn face whose obedience is set by hand."""

import numpy as np
import pytest

from avatar import probe
from avatar.drivers.curves import CURVES

SIDE = 64


def sitter(curves: probe.Array, angles: probe.Array) -> tuple[probe.Frames, probe.Array]:
    head = np.pad(angles, ((0, 0), (0, 3)))
    return drawn(1.0)(curves, head), head


def drawn(obedience: float) -> probe.Renderer:
    """A soft disc for each condition, which brightens with it; the head shifts the whole picture's tone."""
    y, x = np.mgrid[:SIDE, :SIDE]
    parts = {
        "jawOpen": (48, 32),
        "mouthPucker": (40, 32),
        "eyeBlinkLeft": (20, 40),
        "eyeBlinkRight": (20, 24),
    }

    def render(curves: probe.Array, head: probe.Array) -> probe.Frames:
        video = np.full((len(curves), SIDE, SIDE, 3), 100.0)
        for name, (row, column) in parts.items():
            disc = np.exp(-((y - row) ** 2 + (x - column) ** 2) / 60.0)
            video += obedience * 80 * curves[:, CURVES.index(name), None, None, None] * disc[..., None]
        video += obedience * 100 * head[:, 0, None, None, None] * (x / SIDE)[..., None]
        return video.round().astype(np.uint8)

    return render


@pytest.mark.parametrize("obedience", [1.0, 0.5, 0.0])
def test_the_response_is_the_obedience(obedience: float) -> None:
    found = probe.probe(lambda picture: drawn(obedience), [sitter], landmarks=False)
    assert list(found) == ["jaw", "lips", "blink", "head"]
    for response in found.values():
        assert response.along == pytest.approx(obedience, abs=0.05)
        assert response.size == pytest.approx(obedience, abs=0.05)
        assert response.landmarks is None


def test_a_change_in_the_wrong_place_is_no_response() -> None:
    def swapped(curves: probe.Array, head: probe.Array) -> probe.Frames:
        other = curves.copy()
        jaw, left = CURVES.index("jawOpen"), CURVES.index("eyeBlinkLeft")
        other[:, [jaw, left]] = curves[:, [left, jaw]]
        return drawn(1.0)(other, head)

    found = probe.probe(lambda picture: swapped, [sitter], landmarks=False)
    assert found["jaw"].along < 0.1
    assert found["lips"].along == pytest.approx(1.0, abs=0.05)


def test_one_condition_moves_and_returns() -> None:
    for condition in probe.CONDITIONS:
        curves, angles = probe.conditions(condition)
        assert curves.shape == (17, 52) and angles.shape == (17, 3)
        assert not curves[[0, -1]].any() and not angles[[0, -1]].any()
        assert angles[8, 0] == pytest.approx(condition.yaw)
        assert curves[8].max() == pytest.approx(condition.height)


def test_median_over_people() -> None:
    obedience = iter([0.2, 0.9, 0.6])
    found = probe.probe(lambda picture: drawn(next(obedience)), [sitter] * 3, landmarks=False)
    assert found["jaw"].along == pytest.approx(0.6, abs=0.05)
    assert len(probe.table(found).rows) == 4
