"""The skeleton picture, against DWPose's conventions in numbers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.skeleton import (
    COLOURS,
    FACE,
    HAND_EDGES,
    INDEX,
    LEFT_HAND,
    LIMBS,
    NAMES,
    PART_POINTS,
    POINTS,
)
from avatar.drivers.skeleton import draw_skeleton as draw

SIZE = (120, 80)  # width, height


def picture(*points: tuple[int, float, float], score: float = 1.0) -> NDArray[np.uint8]:
    """The drawing of nothing but these points: number, x, y."""
    keypoints, scores = np.zeros((POINTS, 2), np.float32), np.zeros(POINTS, np.float32)
    for number, x, y in points:
        keypoints[number], scores[number] = (x, y), score
    return draw(keypoints, scores, SIZE)


def colours(image: NDArray[np.uint8]) -> set[tuple[int, ...]]:
    return {tuple(colour) for colour in image.reshape(-1, 3).tolist()} - {(0, 0, 0)}


def disc(x: int, y: int, radius: int) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE[::-1], np.uint8)
    cv2.circle(mask, (x, y), radius, 1, -1)
    return mask.astype(bool)


def test_the_layout_is_that_of_dwpose() -> None:
    assert POINTS == 134 == 18 + 6 + 68 + 21 + 21 and len(set(NAMES)) == 134
    places = {"nose": 0, "neck": 1, "right_shoulder": 2, "left_wrist": 7, "right_hip": 8, "left_ear": 17}
    places |= {"left_big_toe": 18, "right_heel": 23, "face_0": 24, "face_67": 91}
    places |= {"left_hand_wrist": 92, "right_hand_wrist": 113, "right_hand_little_4": 133}
    assert {name: INDEX[name] for name in places} == places
    assert len(LIMBS) == 17 and len(COLOURS) == 18
    assert [HAND_EDGES[edge] for edge in (0, 3, 4, 8, 19)] == [(0, 1), (3, 4), (0, 5), (0, 9), (19, 20)]


def test_every_point_is_of_one_region() -> None:
    assert sorted(point for places in PART_POINTS.values() for point in places) == list(range(POINTS))


def test_a_joint_is_a_bright_disc_of_radius_four() -> None:
    for number in range(18):
        image = picture((number, 60.9, 40.2))
        assert colours(image) == {COLOURS[number]}
        assert np.array_equal(image.any(-1), disc(60, 40, 4))


def test_a_limb_is_an_ellipse_at_60_percent_under_its_joints() -> None:
    neck, shoulder = INDEX["neck"], INDEX["right_shoulder"]
    image = picture((neck, 90, 40), (shoulder, 30, 40))
    first_limb = tuple(int(0.6 * level) for level in COLOURS[0])  # limb 0, neck to right shoulder
    assert first_limb == (153, 0, 0)
    assert colours(image) == {first_limb, COLOURS[neck], COLOURS[shoulder]}
    limb = (image == first_limb).all(-1)
    assert np.flatnonzero(limb[:, 60]).tolist() == list(range(36, 45))  # half width 4 in its middle
    assert not limb[36, 40] and limb[40, 40]  # and less towards its ends
    assert (image[40, 90] == COLOURS[neck]).all() and (image[40, 30] == COLOURS[shoulder]).all()


def test_limbs_have_the_colours_of_their_order() -> None:
    for number, (first, second) in enumerate(LIMBS):
        image = picture((first, 30, 20), (second, 90, 60))
        assert tuple(image[40, 60]) == tuple(int(0.6 * level) for level in COLOURS[number])


def test_hands_are_hue_lines_under_blue_discs() -> None:
    wrist, thumb, tip = LEFT_HAND[0], LEFT_HAND[1], LEFT_HAND[20]
    image = picture((wrist, 20, 40), (thumb, 100, 40))
    assert colours(image) == {(255, 0, 0), (0, 0, 255)}  # hue 0
    assert np.array_equal((image == (0, 0, 255)).all(-1), disc(20, 40, 4) | disc(100, 40, 4))
    assert np.flatnonzero((image[:, 60] == (255, 0, 0)).all(-1)).tolist() == [39, 40, 41]  # thickness 2
    last = picture((LEFT_HAND[19], 20, 40), (tip, 100, 40))
    assert tuple(last[40, 60]) == (255, 0, 77)  # hue 19/20: blue 0.3 x 255, rounded


def test_the_face_is_white_dots_of_radius_three() -> None:
    image = picture((FACE[30], 60, 40))
    assert colours(image) == {(255, 255, 255)}
    assert np.array_equal(image.any(-1), disc(60, 40, 3))


def test_feet_are_not_drawn() -> None:
    assert not picture(*((INDEX[f"left_{name}"], 60, 40) for name in ("big_toe", "small_toe", "heel"))).any()


def test_the_threshold_is_three_tenths() -> None:
    for number in (0, LEFT_HAND[3], FACE[3]):
        assert not picture((number, 60, 40), score=0.29).any()
        assert picture((number, 60, 40), score=0.31).any()
    neck, shoulder = INDEX["neck"], INDEX["right_shoulder"]
    keypoints, scores = np.full((POINTS, 2), 40, np.float32), np.zeros(POINTS, np.float32)
    keypoints[shoulder, 0], scores[neck], scores[shoulder] = 90, 1, 0.2
    assert colours(draw(keypoints, scores, SIZE)) == {COLOURS[neck]}  # no limb to a missing joint


@pytest.mark.parametrize("place", [(0.5, 40), (60, 0.9), (-30, 40)])
def test_hands_and_face_at_the_very_edge_are_left_out_but_not_joints(place: tuple[float, float]) -> None:
    assert not picture((FACE[0], *place)).any() and not picture((LEFT_HAND[0], *place)).any()
    assert picture((0, *place)).any() == (place[0] > -4)


def test_points_outside_do_no_harm() -> None:
    wild = np.random.default_rng(0).uniform(-500, 700, (POINTS, 2)).astype(np.float32)
    assert draw(wild, np.ones(POINTS, np.float32), SIZE).shape == (80, 120, 3)
