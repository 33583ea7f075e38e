"""A made person, their matte known, moved as a puppet."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from test_retarget import person, signal

from avatar.drivers.body import BodyStage
from avatar.drivers.mesh import CHIN, FOREHEAD
from avatar.drivers.posing import posed_points
from avatar.drivers.puppet import STILL, affine, apply
from avatar.drivers.skeleton import INDEX, POINTS

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
SIDE = 400
SHIRT, SKIN, SLEEVE, HAND = (30, 160, 60), (220, 170, 140), (200, 40, 40), (240, 220, 40)
POINTS_AT = person(100, (200, 150))  # shoulders at 150 and 250, 150; elbows at 230, wrists at 300


def crossed() -> Array:
    """The left forearm before the chest."""
    points = POINTS_AT.copy()
    points[INDEX["left_wrist"]] = (200, 200)
    return points


def picture(points: Array) -> tuple[Pixels, Array]:
    """A person of plain colours before a blue slope, and their matte."""
    photo = np.zeros((SIDE, SIDE, 3), np.uint8)
    photo[..., 2] = np.linspace(120, 220, SIDE)[None]
    matte = np.zeros((SIDE, SIDE), np.uint8)

    def at(name: str) -> tuple[int, int]:
        x, y = points[INDEX[name]].round().astype(int).tolist()
        return x, y

    for canvas, colours in ((photo, (SHIRT, SKIN, SLEEVE, HAND)), (matte, (1, 1, 1, 1))):
        shirt, skin, sleeve, hand = colours
        cv2.rectangle(canvas, (150, 140), (250, 399), shirt, -1)
        cv2.rectangle(canvas, (188, 100), (212, 145), skin, -1)
        cv2.ellipse(canvas, (200, 85), (32, 42), 0, 0, 360, skin, -1)
        for side in ("right", "left"):
            cv2.line(canvas, at(f"{side}_shoulder"), at(f"{side}_elbow"), sleeve, 24)
            cv2.line(canvas, at(f"{side}_elbow"), at(f"{side}_wrist"), hand, 18)
    return photo, matte.astype(np.float32)


def stage(
    points: Array, *missing: str, photo_matte: tuple[Pixels, Array] | None = None
) -> tuple[BodyStage, Pixels]:
    photo, matte = photo_matte or picture(points)
    scores = np.ones(POINTS, np.float32)
    scores[92:] = 0  # no fingers
    scores[[INDEX[name] for name in missing]] = 0
    face = np.full((478, 2), (200, 85), np.float32)
    face[CHIN], face[FOREHEAD] = (200, 125), (200, 55)
    return BodyStage(photo, points, scores, face, matte), photo


def moved(points: Array, **shifts: tuple[float, float]) -> Array:
    out = points.copy()
    for name, shift in shifts.items():
        out[INDEX[name]] += shift
    return out


def test_the_plate_has_none_of_the_persons_colours() -> None:
    body, _ = stage(POINTS_AT)
    assert body.cutout.plate[..., :2].max() <= 2
    assert np.abs(body.cutout.plate[..., 2].astype(int) - np.linspace(120, 220, SIDE)[None]).max() < 6


def test_at_rest_nothing_counts_as_moved_and_little_is_drawn_anew() -> None:
    body, photo = stage(POINTS_AT)
    assert body.moved(POINTS_AT, STILL) == 0 and body.moved(POINTS_AT, None) == 0
    drawn = body(body.sheet, POINTS_AT, STILL)
    assert np.abs(drawn.astype(int) - photo).mean() < 1
    assert body.moved(moved(POINTS_AT, left_wrist=(3, 0)), STILL) == 3


def test_joints_are_where_they_are_told() -> None:
    """The left arm is raised: it is drawn along its new bones and is gone from the old ones."""
    body, _ = stage(POINTS_AT)
    goal = moved(POINTS_AT, left_elbow=(30, -40))
    goal[INDEX["left_wrist"]] = goal[INDEX["left_elbow"]] + (60, -30)
    frame = body(body.sheet, goal, STILL)
    elbow, wrist = goal[INDEX["left_elbow"]], goal[INDEX["left_wrist"]]
    x, y = ((elbow + wrist) / 2).round().astype(int)
    assert np.abs(frame[y, x].astype(int) - HAND).max() < 8
    old = POINTS_AT[[INDEX["left_elbow"], INDEX["left_wrist"]]].mean(0).round().astype(int)
    assert frame[old[1], old[0], 0] < 30
    for pieces in body.cutout.arms:
        for piece, move in body._moves(pieces, goal.astype(np.float64), 1.0):
            assert np.allclose(apply(move, piece.bone.start), goal[INDEX[piece.bone.names[0]]], atol=1e-3)
            if piece.bone.names[1] is not None:
                assert np.allclose(apply(move, piece.bone.end), goal[INDEX[piece.bone.names[1]]], atol=1e-3)


def test_a_forearm_before_the_chest_leaves_shirt_behind_and_is_drawn_over_it() -> None:
    points = crossed()
    body, photo = stage(points)
    x, y = ((points[INDEX["left_elbow"]] + points[INDEX["left_wrist"]]) / 2).round().astype(int)
    assert tuple(photo[y, x]) == HAND
    away = moved(points, left_wrist=(110, 20))
    assert np.abs(body(body.sheet, away, STILL)[y, x].astype(int) - SHIRT).max() < 12
    other, _ = stage(POINTS_AT)
    assert np.abs(other(other.sheet, points, STILL)[y, x].astype(int) - HAND).max() < 12


def test_an_arm_without_an_elbow_is_trunk_and_one_without_a_wrist_is_stiff() -> None:
    whole, _ = stage(POINTS_AT)
    assert [len(arm) for arm in whole.cutout.arms] == [3, 3]
    none, _ = stage(POINTS_AT, "left_elbow", "left_wrist", "right_wrist")
    assert [len(arm) for arm in none.cutout.arms] == [1]
    frame = none(none.sheet, moved(POINTS_AT, right_elbow=(-60, -60)), STILL)
    assert (np.abs(frame.astype(int) - HAND).max(-1) < 12).sum() > 1500  # both forearms are still there


def test_a_forearm_that_leaves_the_photo_goes_where_its_wrist_goes_and_nothing_stays() -> None:
    points = moved(POINTS_AT, left_wrist=(0, 0))
    points[INDEX["left_elbow"]], points[INDEX["left_wrist"]] = (340, 200), (430, 200)  # the photo ends at 400
    body, photo = stage(points, "left_wrist")
    assert np.abs(photo[200, 398].astype(int) - HAND).max() == 0
    assert [len(arm) for arm in body.cutout.arms] == [3, 2]
    up = points.copy()
    up[INDEX["left_wrist"]] = (340, 110)
    frame = body(body.sheet, up, STILL)
    hand = np.abs(frame.astype(int) - HAND).max(-1) < 12
    assert hand[150:190, 340].all() and not hand[:, 360:].any()


def test_what_an_arm_holds_moves_with_it_however_far_it_reaches() -> None:
    photo, matte = picture(POINTS_AT)
    x, y = POINTS_AT[INDEX["left_wrist"]].round().astype(int)
    for canvas, colour in ((photo, HAND), (matte, 1)):
        cv2.line(canvas, (x, y), (x, y + 90), colour, 8)  # a stick, longer than a hand
    matte[y + 60, 250:x] = 0.05  # a thread from the trunk holds nothing
    body, _ = stage(POINTS_AT, photo_matte=(photo, matte))
    frame = body(body.sheet, moved(POINTS_AT, left_wrist=(60, -60)), STILL)
    stick = np.abs(photo[y + 85, x].astype(int) - HAND).max() == 0
    assert stick and frame[y + 85, x, 0] < 30


def test_a_shoulder_is_whole_under_an_arm_that_turns() -> None:
    """Between the line of the shoulders and their outline."""
    body, _ = stage(POINTS_AT)
    assert (body.sheet[141:150, 230:256, 3] == 255).all()


def test_a_forearm_that_leaves_the_side_of_a_trunk_leaves_no_cleft() -> None:
    points = moved(POINTS_AT)
    points[INDEX["left_elbow"]], points[INDEX["left_wrist"]] = (310, 250), (225, 250)
    photo, matte = picture(points)
    side = np.zeros_like(matte)
    side[170:, 250:276] = matte[170:, 250:276] == 0  # broader than the joints of the hips say
    photo[side > 0], matte[side > 0] = SHIRT, 1
    body, _ = stage(points, photo_matte=(photo, matte))
    frame = body(body.sheet, moved(points, left_elbow=(30, -100), left_wrist=(150, -150)), STILL)
    assert np.abs(frame[225:275, 240:268].astype(int) - SHIRT).max() < 40


def test_a_head_moves_as_one_over_a_still_background() -> None:
    body, photo = stage(POINTS_AT, "left_shoulder", "right_shoulder", "left_elbow", "right_elbow")
    shift = np.array([[1.0, 0, 25], [0, 1, 5]])
    frame = body(body.sheet, POINTS_AT, shift)
    assert np.abs(frame[60:110, 205:245].astype(int) - photo[55:105, 180:220]).max() <= 1
    assert np.array_equal(frame[:30], photo[:30]) and np.array_equal(frame[:, :100], photo[:, :100])
    assert frame[85, 172, 0] < 5  # where the head was is background
    neck = np.abs(frame[108:142].astype(int) - SKIN).max(-1) < 30
    assert neck.any(1).all()  # no gap between head and chest
    assert np.abs(frame[300, 200].astype(int) - SHIRT).max() <= 1


@pytest.mark.parametrize("angle", [-0.3, 0.3])
def test_shoulders_turn_the_chest_and_carry_a_head_that_is_not_led(angle: float) -> None:
    body, _ = stage(POINTS_AT)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    goal = POINTS_AT.copy()
    for side in ("left", "right"):
        name = INDEX[f"{side}_shoulder"]
        goal[name] = (200, 150) + turn @ (POINTS_AT[name] - (200, 150))
    head = body.trunk.carried(goal.astype(np.float64))
    assert np.allclose(head[:, :2], turn, atol=1e-4)
    assert np.allclose(apply(head, np.array([200.0, 150])), (200, 150), atol=1e-3)


def test_a_bone_keeps_its_breadth() -> None:
    move = affine(
        (np.zeros(2), np.array([10.0, 0])), (np.array([5.0, 5]), np.array([5.0, 25])), 1.0
    )  # along x, 10 long, to along y, 20 long
    assert np.allclose(apply(move, np.array([[10.0, 0], [0, 3]])), [[5, 25], [2, 5]])


# ---- what a pose tells the puppet --------------------------------------------------------------


def test_strength_and_mask_say_how_much_of_the_body_moves() -> None:
    pose = signal([moved(POINTS_AT, left_shoulder=(4 * t, 0)) for t in range(8)], (SIDE, SIDE))
    assert np.array_equal(posed_points(pose.scaled(0), POINTS_AT), np.tile(POINTS_AT, (8, 1, 1)))
    assert np.array_equal(posed_points(pose.masked("head"), POINTS_AT), np.tile(POINTS_AT, (8, 1, 1)))
    full, half = posed_points(pose, POINTS_AT), posed_points(pose.scaled(0.5), POINTS_AT)
    assert np.allclose(half - POINTS_AT, (full - POINTS_AT) / 2, atol=1e-3)
    assert np.allclose(full[0], POINTS_AT, atol=1) and full[7, INDEX["left_shoulder"], 0] > 270


def test_shoulders_that_the_driver_does_not_show_wait() -> None:
    pose = signal([POINTS_AT + np.float32([9 * t, 0]) for t in range(6)], (SIDE, SIDE))
    scores = pose.scores.copy()
    scores[:, [INDEX["left_shoulder"], INDEX["right_shoulder"]]] = 0
    points = posed_points(replace(pose, scores=scores), POINTS_AT)
    for side in ("left", "right"):
        assert np.allclose(points[:, INDEX[f"{side}_shoulder"]], POINTS_AT[INDEX[f"{side}_shoulder"]])
