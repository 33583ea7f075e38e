"""Finding, choosing and cutting out faces, on real photos."""

from __future__ import annotations

import logging
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.face import Crop, Face, choose_face, cut, extract, find_faces, head_crop, parse_choice
from avatar.errors import UserError

Pixels = NDArray[np.uint8]
BOX = (179, 68, 93, 110)  # of the astronaut's face: x, y, width, height


@pytest.fixture(scope="module")
def face(astronaut: Pixels) -> Face:
    return find_faces(astronaut)[0]


def size_of(image: Pixels) -> tuple[int, int]:
    return image.shape[1], image.shape[0]


def turned(face: Face, degrees: float) -> Face:
    """The same head turned to the side about its own upright axis."""
    points = face.landmarks.astype(np.float64)
    middle = points.mean(0)
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    return replace(face, landmarks=((points - middle) @ rotation.T + middle).astype(np.float32))


def test_a_face_is_found_where_it_is(face: Face) -> None:
    assert face.landmarks.shape == (478, 3) and face.landmarks.dtype == np.float32
    assert np.abs(np.subtract(face.box, BOX)).max() <= 3
    assert face.height == pytest.approx(110, abs=3)
    assert abs(face.yaw) < 5


def test_finding_is_repeatable(astronaut: Pixels, face: Face) -> None:
    assert np.array_equal(find_faces(astronaut)[0].landmarks, face.landmarks)


@pytest.mark.parametrize("scale", [0.45, 3.0])
def test_landmarks_scale_with_the_picture(astronaut: Pixels, face: Face, scale: float) -> None:
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    found = find_faces(cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=kind).astype(np.uint8))
    error = np.abs(found[0].landmarks[:, :2] / scale - face.landmarks[:, :2])
    assert error.mean() < 0.02 * face.height


def test_a_small_face_in_a_large_picture_is_found(astronaut: Pixels, face: Face) -> None:
    wide = np.full((2500, 3600, 3), 128, np.uint8)
    wide[1900:2412, 2900:3412] = astronaut
    found = find_faces(wide)
    assert len(found) == 1
    assert np.abs(found[0].landmarks - face.landmarks - [2900, 1900, 0]).mean() < 2


def test_a_face_that_fills_the_picture_is_found(astronaut: Pixels, face: Face) -> None:
    found = find_faces(np.ascontiguousarray(astronaut[50:190, 160:290]))
    assert np.abs(found[0].landmarks - face.landmarks + [160, 50, 0]).mean() < 3


def test_several_faces_come_largest_first(astronaut: Pixels) -> None:
    small = cv2.resize(astronaut, (300, 300), interpolation=cv2.INTER_AREA)
    both = np.zeros((512, 812, 3), np.uint8)
    both[:300, :300], both[:, 300:] = small, astronaut
    faces = find_faces(both)
    assert [round(face.height / 55) for face in faces] == [2, 1]
    assert choose_face(faces, "largest", size_of(both)) is faces[0]
    assert choose_face(faces, "1", size_of(both)) is faces[1]
    assert choose_face(faces, "90,30,70,70", size_of(both)) is faces[1]
    with pytest.raises(UserError, match=r"there is no face 2; found .*0: 4\d\d,6\d,.*; 1: 10\d,"):
        choose_face(faces, "2", size_of(both))
    with pytest.raises(UserError, match="there is no face in 0,400,50,50"):
        choose_face(faces, "0,400,50,50", size_of(both))


@pytest.mark.parametrize("spec", ["", "biggest", "1.5", "1,2,3", "1,2,3,x", "1,2,0,4", "1,2,nan,4"])
def test_other_choices_are_refused(spec: str) -> None:
    with pytest.raises(UserError, match="largest, a number, or x,y,w,h"):
        parse_choice(spec)


def test_pictures_without_a_face_are_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert find_faces(noise) == []
    with pytest.raises(UserError, match=r"noise\.png: no face found"):
        choose_face([], "largest", (400, 300), "noise.png")


def test_a_tiny_face_is_refused(astronaut: Pixels) -> None:
    small = cv2.resize(astronaut, (190, 190), interpolation=cv2.INTER_AREA)
    with pytest.raises(UserError, match=r"only 4\d px high, at least 48"):
        choose_face(find_faces(small), "largest", size_of(small))


@pytest.mark.parametrize("degrees", [-65, 65])
def test_a_profile_is_refused(face: Face, degrees: float) -> None:
    turned_away = turned(face, degrees)
    assert turned_away.yaw == pytest.approx(face.yaw + degrees, abs=3)
    with pytest.raises(UserError, match=r"turned \d\d degrees to the side"):
        choose_face([turned_away], "largest", (512, 512))
    assert choose_face([turned(face, degrees / 2)], "largest", (512, 512))


def test_a_cut_face_is_refused_and_a_cut_forehead_is_noted(
    astronaut: Pixels, face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    eyes_cut = astronaut[112:]
    with pytest.raises(UserError, match="cut by the border"):
        choose_face([Face(face.landmarks - np.float32([0, 112, 0]))], "largest", size_of(eyes_cut))
    forehead_cut = np.ascontiguousarray(astronaut[80:])
    with caplog.at_level(logging.WARNING):
        assert choose_face(find_faces(forehead_cut), "largest", size_of(forehead_cut))
    assert "outside the picture" in caplog.text


def test_the_head_crop_holds_the_head(astronaut: Pixels, face: Face) -> None:
    crop = head_crop(face, size_of(astronaut))
    inside = crop.to_crop(face.landmarks[:, :2], 1)
    assert crop.side % 2 == 0 and crop.side == pytest.approx(2.3 * face.height, abs=2)
    assert inside.min() > 0.2 and inside.max() < 0.8
    assert crop.y == 0  # moved inside from -3: nothing has to be made up


def test_a_crop_far_over_the_border_stays_centred_on_the_face(astronaut: Pixels, face: Face) -> None:
    close = Face(face.landmarks - np.float32([160, 50, 0]))
    crop = head_crop(close, (130, 140))
    assert crop.x < 0 and crop.y < 0
    picture = cut(astronaut[50:190, 160:290], crop)
    assert picture.shape == (crop.side, crop.side, 3)
    assert (picture[: -crop.y, -crop.x : -crop.x + 130] == astronaut[50, 160:290]).all()


def test_points_travel_to_the_crop_and_back(face: Face) -> None:
    crop = Crop(-7, 12, 230)
    assert np.allclose(crop.to_image(crop.to_crop(face.landmarks, 256), 256), face.landmarks, atol=1e-3)
    assert np.allclose(crop.to_crop(np.float32([[-7, 12], [223, 242]]), 256), [[0, 0], [256, 256]])


def test_extract_agrees_with_the_mapping_of_points() -> None:
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[100:110, 150:160] = 255
    drawn = extract(picture, Crop(100, 50, 100), 256)
    rows, columns = np.nonzero(drawn[..., 0] > 127)
    middle = Crop(100, 50, 100).to_crop(np.float32([[155, 105]]), 256)[0]
    assert np.allclose([columns.mean() + 0.5, rows.mean() + 0.5], middle, atol=0.5)
