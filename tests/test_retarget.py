"""A pose on another body: lengths and place of the reference, directions and motion of the driver."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.pose import PoseSignal
from avatar.drivers.retarget import retarget
from avatar.drivers.skeleton import FACE, INDEX, LEFT_HAND, POINTS, RIGHT_HAND
from avatar.errors import UserError

Array = NDArray[np.float32]
FPS = Fraction(25)
# A person who stands before the camera, in shoulder widths from the neck, x and y.
STANDING = {
    "nose": (0, -0.6), "neck": (0, 0), "left_eye": (0.1, -0.7), "right_eye": (-0.1, -0.7),
    "left_ear": (0.25, -0.65), "right_ear": (-0.25, -0.65),
    "left_shoulder": (0.5, 0), "right_shoulder": (-0.5, 0),
    "left_elbow": (0.6, 0.8), "right_elbow": (-0.6, 0.8),
    "left_wrist": (0.7, 1.5), "right_wrist": (-0.7, 1.5), "left_hip": (0.3, 1.4), "right_hip": (-0.3, 1.4),
    "left_knee": (0.3, 2.4), "right_knee": (-0.3, 2.4), "left_ankle": (0.3, 3.4), "right_ankle": (-0.3, 3.4),
}  # fmt: skip


def person(unit: float, neck: tuple[float, float], head: float = 1.0, arms: float = 1.0) -> Array:
    """(134, 2) keypoints of one person, px: head and arms may be larger than the standing one's."""
    points = np.zeros((POINTS, 2), np.float32)
    for name, place in STANDING.items():
        points[INDEX[name]] = place
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points[FACE] = points[INDEX["nose"]] + 0.3 * np.stack([np.cos(angle), np.sin(angle)], 1)
    for side, hand in (("left", LEFT_HAND), ("right", RIGHT_HAND)):
        points[hand] = points[INDEX[f"{side}_wrist"]] + np.linspace(0, 0.3, 21)[:, None] * [0, 1]
        points[[INDEX[f"{side}_{end}"] for end in ("big_toe", "small_toe", "heel")]] = points[
            INDEX[f"{side}_ankle"]
        ] + np.array([[0.2, 0.1], [0.25, 0.05], [-0.1, 0.1]])
        for start, stop in (("shoulder", "elbow"), ("elbow", "wrist")):
            first, then = INDEX[f"{side}_{start}"], INDEX[f"{side}_{stop}"]
            shift = (arms - 1) * (points[then] - points[first])
            points[then] += shift
            if stop == "elbow":
                points[INDEX[f"{side}_wrist"]] += shift
            points[hand] += shift
    face = [*FACE, *(INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("eye", "ear"))]
    points[face] += (head - 1) * (points[face] - points[INDEX["nose"]])
    return (points * unit + neck).astype(np.float32)


def signal(frames: list[Array], size: tuple[int, int] = (640, 480)) -> PoseSignal:
    scores = np.ones((len(frames), POINTS), np.float32)
    return PoseSignal(fps=FPS, keypoints=np.stack(frames), scores=scores, size=size)


def hidden(pose: PoseSignal, *names: str, frames: slice = slice(None)) -> PoseSignal:
    """The pose without some points, whose places are nonsense."""
    keypoints, scores = pose.keypoints.copy(), pose.scores.copy()
    for name in names:
        keypoints[frames, INDEX[name]], scores[frames, INDEX[name]] = -999, 0
    return replace(pose, keypoints=keypoints, scores=scores)


def length(pose: PoseSignal, first: str, second: str) -> Array:
    return np.linalg.norm(pose.keypoints[:, INDEX[first]] - pose.keypoints[:, INDEX[second]], axis=-1)


REFERENCE = signal([person(40, (300, 200))], (512, 512))


def test_the_same_pose_becomes_the_reference() -> None:
    out = retarget(signal([person(100, (320, 100))]), REFERENCE)
    assert np.allclose(out.keypoints, REFERENCE.keypoints, atol=1e-2) and out.size == (512, 512)


def test_a_signal_on_itself_stays_what_it_is() -> None:
    driver = signal([person(100, (320 + 3 * t, 100 - t)) for t in range(5)])
    assert np.allclose(retarget(driver, driver).keypoints, driver.keypoints, atol=1e-2)


def test_motion_is_scaled_with_the_body() -> None:
    driver = signal([person(100, (320 + 10 * t, 100 + 5 * t)) for t in range(6)])
    out = retarget(driver, REFERENCE)
    assert np.allclose(
        out.keypoints[:, INDEX["neck"]] - [300, 200], [[4 * t, 2 * t] for t in range(6)], atol=1e-2
    )


def test_limbs_have_the_reference_lengths_and_the_drivers_directions() -> None:
    reference = signal([person(40, (300, 200), head=1.4, arms=1.3)])
    raised = person(100, (320, 100))
    for name in ("left_elbow", "left_wrist"):  # the left arm straight up
        raised[INDEX[name]] = raised[INDEX["left_shoulder"]] - [0, 80 if name == "left_elbow" else 150]
    out = retarget(signal([person(100, (320, 100)), raised]), reference)
    for pair in (("left_shoulder", "left_elbow"), ("right_elbow", "right_wrist")):
        assert np.allclose(length(out, *pair), length(reference, *pair), rtol=0.02)
    arm = out.keypoints[1, INDEX["left_elbow"]] - out.keypoints[1, INDEX["left_shoulder"]]
    assert abs(arm[0]) < 1e-2 and arm[1] < 0
    assert np.allclose(
        length(out, "left_ear", "right_ear"), length(reference, "left_ear", "right_ear"), rtol=0.01
    )
    jaw = out.keypoints[:, FACE].max(1) - out.keypoints[:, FACE].min(1)
    own = reference.keypoints[0, FACE].max(0) - reference.keypoints[0, FACE].min(0)
    assert np.allclose(jaw, own, rtol=0.01)


def test_a_missing_point_follows_its_parent_and_stays_missing() -> None:
    frames = [person(100, (320 + 10 * t, 100)) for t in range(4)]
    out = retarget(hidden(signal(frames), "left_elbow", "right_wrist", frames=slice(2, 4)), REFERENCE)
    whole = retarget(signal(frames), REFERENCE)
    assert np.allclose(out.keypoints, whole.keypoints, atol=1e-2)
    assert (out.scores[2:, INDEX["left_elbow"]] == 0).all()


def test_a_point_that_the_driver_never_shows_is_where_the_reference_has_it() -> None:
    legs = [f"{side}_{joint}" for side in ("left", "right") for joint in ("hip", "knee", "ankle")]
    out = retarget(hidden(signal([person(100, (320, 100))]), *legs), REFERENCE)
    assert np.allclose(
        out.keypoints[0, INDEX["left_knee"]], REFERENCE.keypoints[0, INDEX["left_knee"]], atol=1e-2
    )
    assert (out.scores[0, INDEX["left_knee"]]) == 0


def test_the_neck_may_be_missing_for_a_while() -> None:
    frames = [person(100, (320 + 10 * t, 100)) for t in range(5)]
    out = retarget(hidden(signal(frames), "neck", frames=slice(0, 2)), REFERENCE)
    for name in ("nose", "neck", "left_ankle"):
        assert np.allclose(np.diff(out.keypoints[:, INDEX[name], 0]), 4, atol=1e-2)
    assert np.allclose(
        out.keypoints[2, INDEX["neck"]], [300, 200], atol=1e-2
    )  # aligned where it is first seen


def test_a_reference_of_a_face_alone_is_aligned_by_the_nose() -> None:
    body = [
        name
        for name in INDEX
        if not name.startswith("face") and name not in ("nose", "left_eye", "right_eye")
    ]
    face_only = hidden(signal([person(40, (300, 200))]), *body)
    out = retarget(signal([person(100, (320 + 10 * t, 100)) for t in range(3)]), face_only)
    own = face_only.keypoints[0, FACE]
    assert np.allclose(out.keypoints[0, FACE], own, atol=1e-2)
    assert np.allclose(out.keypoints[2, FACE], own + np.array([8, 0]), atol=1e-2)


def test_a_foreshortened_limb_of_the_reference_does_not_shrink_the_drivers() -> None:
    pointing = person(40, (300, 200))
    for side in ("left", "right"):  # both forearms at the camera: 2 px long
        pointing[INDEX[f"{side}_wrist"]] = pointing[INDEX[f"{side}_elbow"]] + [0, 2]
    driver = signal([person(100, (320, 100))])
    out = retarget(driver, signal([pointing]))
    assert np.allclose(
        length(out, "left_elbow", "left_wrist"), 0.4 * length(driver, "left_elbow", "left_wrist")
    )


def test_who_drives_themselves_is_not_scaled() -> None:
    """The first frame shows the person turned, half as broad, with an arm that points at the camera."""
    turned = person(100, (320, 100))
    turned[:, 0] = 320 + 0.5 * (turned[:, 0] - 320)
    turned[INDEX["left_wrist"]] = turned[INDEX["left_elbow"]] + [0, 5]
    driver = signal([turned, *(person(100, (320 + 10 * t, 100)) for t in range(9))])
    out = retarget(driver, driver.cut(0, 1 / FPS))
    assert np.allclose(out.keypoints, driver.keypoints, atol=0.05)


def test_a_driver_whose_arm_points_at_the_camera_at_first_has_its_length_later() -> None:
    folded = person(100, (320, 100))
    for side in ("left", "right"):
        folded[INDEX[f"{side}_wrist"]] = folded[INDEX[f"{side}_elbow"]] + [0, 5]
    out = retarget(signal([folded] * 5 + [person(100, (320, 100))] * 5), REFERENCE)
    pair = "left_elbow", "left_wrist"
    assert np.allclose(length(out, *pair)[5:], length(REFERENCE, *pair), rtol=0.01)
    assert np.allclose(length(out, *pair)[:5], 2, atol=0.05)  # 5 px of the driver, scaled by 0.4


def test_what_has_nothing_in_common_is_refused() -> None:
    driver = signal([person(100, (320, 100))])
    with pytest.raises(UserError, match="neither neck nor nose in common"):
        retarget(hidden(driver, "neck"), hidden(REFERENCE, "nose"))
    with pytest.raises(UserError, match="no limb and no face in common"):
        retarget(driver, hidden(REFERENCE, *(name for name in INDEX if name != "neck")))


def test_depth_is_scaled_as_the_head_is() -> None:
    """Of a driver whose head is half as large again, two thirds of the depth."""
    driver = signal([person(40, (300, 200), head=1.5)])
    deep = replace(driver, depth=np.arange(POINTS, dtype=np.float32)[None])
    assert np.allclose(retarget(deep, REFERENCE).depth, np.arange(POINTS) / 1.5, rtol=0.02)
