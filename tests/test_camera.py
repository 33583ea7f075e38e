"""Every one of the fourteen movements, filmed over a drawn scene with somebody in front of it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.recipes.camera import MOVEMENTS, SECONDS, Flow, Motion, measure, movement, textured

Pixels = NDArray[np.uint8]
HEIGHT, WIDTH = 90, 160
STEPS = 12
SPEED = 3.0  # px a step, 0.09 widths a second


def texture(side: int, seed: int) -> Pixels:
    """Smooth spots of about 10 px."""
    spots = np.random.default_rng(seed).integers(40, 216, (side // 10, side // 10, 3), np.uint8)
    return np.uint8(cv2.resize(spots, (side, side), interpolation=cv2.INTER_CUBIC))


def film(x: float, y: float, zoom: float, nearness: float, shake: float = 0.0) -> list[Pixels]:
    """Frames whose background moves by x, y px a step and grows; the person is `nearness` times as fast."""
    behind, front = texture(500, 1), texture(120, 7)
    rng = np.random.default_rng(0)
    frames = []
    for step in range(STEPS + 1):
        jitter = shake * rng.standard_normal(2)
        move = np.array([x, y]) * step + jitter
        scale = (1 + zoom) ** step
        middle = np.array([250 - WIDTH / 2, 250 - HEIGHT / 2])
        inner = np.float32(
            [
                [1 / scale, 0, 250 - (WIDTH / 2 + move[0]) / scale],
                [0, 1 / scale, 250 - (HEIGHT / 2 + move[1]) / scale],
            ]
        )
        assert middle.min() > 0
        frame = cv2.warpAffine(behind, inner, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        own = np.array([x, y]) * step * nearness + jitter + [60, 20] - np.array([x, y]) * STEPS * nearness / 2
        place = np.float32([[1, 0, own[0]], [0, 1, own[1]]])
        mask = cv2.warpAffine(np.ones((70, 44), np.uint8), place, (WIDTH, HEIGHT))
        person = cv2.warpAffine(front[:70, :44], place, (WIDTH, HEIGHT))
        frames.append(np.where(mask[..., None] > 0, person, frame))
    return frames


def person_mask(x: float, y: float, nearness: float, step: int) -> NDArray[np.bool_]:
    own = np.array([x, y]) * step * nearness + [60, 20] - np.array([x, y]) * STEPS * nearness / 2
    mask = np.zeros((HEIGHT, WIDTH), bool)
    left, top = max(0, round(own[0])), max(0, round(own[1]))
    mask[top : max(0, round(own[1] + 70)), left : max(0, round(own[0] + 44))] = True
    return mask


def told(x: float, y: float, zoom: float = 0.0, nearness: float = 1.0, shake: float = 0.0) -> str:
    flow = Flow()
    rows = []
    for step, frame in enumerate(film(x, y, zoom, nearness, shake)):
        found = flow(frame)
        if found is not None:
            assert flow.picture is not None
            rows.append(measure(found, textured(flow.picture), person_mask(x, y, nearness, step)))
    return movement(np.array(rows))


# Contents move against the camera; what is near moves more than the background when the camera itself moves,
# as much when it only turns, and not at all when it goes around the person.
CASES = {
    "static shot": (0, 0, 0, 1, 0),
    "handheld shot": (0, 0, 0, 1, 1.5),
    "zoom in": (0, 0, 0.02, 1, 0),
    "zoom out": (0, 0, -0.02, 1, 0),
    "pan left": (SPEED, 0, 0, 2, 0),
    "pan right": (-SPEED, 0, 0, 2, 0),
    "pan up": (0, SPEED, 0, 2, 0),
    "pan down": (0, -SPEED, 0, 2, 0),
    "tilt left": (SPEED, 0, 0, 1, 0),
    "tilt right": (-SPEED, 0, 0, 1, 0),
    "tilt up": (0, SPEED, 0, 1, 0),
    "tilt down": (0, -SPEED, 0, 1, 0),
    "around left": (-SPEED, 0, 0, 0, 0),
    "around right": (SPEED, 0, 0, 0, 0),
}


def test_there_are_fourteen() -> None:
    assert len(MOVEMENTS) == 14 and set(CASES) == set(MOVEMENTS)


@pytest.mark.parametrize("name", CASES)
def test_a_movement_is_told_from_all_others(name: str) -> None:
    x, y, zoom, nearness, shake = CASES[name]
    if name.startswith("pan"):
        x, y = x / 2, y / 2  # the person must stay in the picture
    assert told(x, y, zoom, nearness, shake) == name


def test_speed_is_measured_in_widths() -> None:
    rows = []
    flow = Flow()
    for frame in film(2.0, 0, 0, 1.0):
        found = flow(frame)
        if found is not None and flow.picture is not None:
            rows.append(measure(found, textured(flow.picture), np.zeros((HEIGHT, WIDTH), bool)))
    assert np.mean([row.x for row in rows]) == pytest.approx(2.0 / WIDTH, rel=0.1)
    assert np.mean([row.growth for row in rows]) == pytest.approx(0, abs=0.002)


def test_a_wall_without_texture_tells_nothing() -> None:
    plain = np.full((HEIGHT, WIDTH), 90, np.uint8)
    assert not textured(plain).any()
    still = measure(np.ones((HEIGHT, WIDTH, 2)), textured(plain), np.zeros((HEIGHT, WIDTH), bool))
    assert still == Motion(0, 0, 0, 0, 0)
    assert movement(np.zeros((0, 5))) == "static shot"
    assert pytest.approx(0.2) == SECONDS
