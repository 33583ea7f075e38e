"""Who is in the photo, to the pixel: measured on a photo, and the guided filter on a made one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.matte import guided, person_matte


def test_the_rim_of_a_mask_goes_to_the_edge_of_the_picture() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, 32:] = 200
    mask = np.zeros((64, 64), np.float32)
    mask[:, 30:] = 1  # two pixels too many
    soft = guided(picture, mask, 4, 1e-3)
    assert np.diff(soft[32, 24:40]).argmax() == 31 - 24  # the steepest step is the one onto pixel 32


def test_a_matte_covers_the_person_and_not_the_room(astronaut: NDArray[np.uint8]) -> None:
    """The astronaut's face is at (222, 110); the flag and the shuttle of the picture are not she."""
    matte = person_matte(astronaut, np.array([222.0, 110.0], np.float32), [], 0)
    assert matte.shape == astronaut.shape[:2] and matte.min() >= 0 and matte.max() <= 1
    assert matte[60:170, 190:260].mean() > 0.98  # face
    assert matte[300:400, 150:250].mean() > 0.98  # suit
    assert matte[:100, 400:].mean() < 0.02 and matte[100:200, :60].mean() < 0.05
