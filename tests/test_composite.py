"""Full-resolution frames: exact where nothing moves, moved by the flow, without a seam."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.composite import Compositor
from avatar.drivers.face import Crop, extract

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
CROP = Crop(98, 40, 252)
CELLS = 64


def still() -> tuple[Floats, Floats, Floats, Floats]:
    """Flow, mask, picture and shade that say: nothing moves, nothing is drawn."""
    shape = (CELLS, CELLS)
    flow, mask = np.zeros((2, *shape), np.float32), np.ones(shape, np.float32)
    return flow, mask, np.zeros((3, *shape), np.float32), np.zeros((3, *shape), np.float32)


def gradient(picture: Pixels) -> Floats:
    return np.abs(np.diff(picture.astype(np.float32), axis=1)).mean(-1)


@pytest.mark.parametrize(
    ("rows", "columns", "size"), [(512, 512, None), (511, 401, None), (512, 400, 300), (300, 512, 800)]
)
def test_a_still_frame_is_the_photo(astronaut: Pixels, rows: int, columns: int, size: int | None) -> None:
    compositor = Compositor(astronaut[:rows, :columns], CROP, size)
    frame = compositor(*still())
    assert np.array_equal(frame, compositor.photo)
    assert frame.shape == (compositor.size[1], compositor.size[0], 3)
    assert compositor.size[0] % 2 == 0 and compositor.size[1] % 2 == 0
    assert max(compositor.size) == (size or max(rows, columns) // 2 * 2)


def test_a_large_photo_is_reduced_to_1080(astronaut: Pixels) -> None:
    large = cv2.resize(astronaut, (2048, 1536))
    assert Compositor(large, CROP.scaled(4)).size == (1080, 810)


def test_an_odd_photo_keeps_its_pixels(astronaut: Pixels) -> None:
    assert np.array_equal(Compositor(astronaut[:511, :511], CROP).photo, astronaut[:510, :510])


def test_the_flow_moves_the_photo_by_whole_pixels(astronaut: Pixels) -> None:
    flow, mask, picture, shade = still()
    crop = Crop(98, 40, 256)
    flow[0], flow[1] = 1.0, -0.5  # cells of 4 px: take the pixels from 4 to the right and 2 above
    frame = Compositor(astronaut, crop)(flow, mask, picture, shade)
    middle = (slice(100, 230), slice(160, 290))
    assert np.array_equal(frame[middle], np.roll(astronaut, (2, -4), (0, 1))[middle])


def test_the_drawn_picture_shows_where_the_mask_is_low(astronaut: Pixels) -> None:
    flow, mask, picture, shade = still()
    mask[30:40, 20:40] = 0
    picture[0], picture[1], picture[2] = 1.0, -1.0, 0.0
    frame = Compositor(astronaut, CROP)(flow, mask, picture, shade)
    cell = CROP.side / CELLS
    inside = frame[
        round(40 + 32 * cell) : round(40 + 38 * cell), round(98 + 23 * cell) : round(98 + 37 * cell)
    ]
    assert (np.abs(inside.astype(int) - (255, 0, 128)) <= 1).all()
    changed = (frame != astronaut).any(-1)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 40 + 29 * cell - 1 and rows.max() <= 40 + 41 * cell + 1
    assert columns.min() >= 98 + 19 * cell - 1 and columns.max() <= 98 + 41 * cell + 1


def test_shade_changes_the_light_and_keeps_the_detail(astronaut: Pixels) -> None:
    flow, mask, picture, shade = still()
    shade[0, 24:40, 24:40] = -0.2
    frame = Compositor(astronaut, CROP)(flow, mask, picture, shade).astype(int)
    middle = (slice(40 + 120, 40 + 140), slice(98 + 120, 98 + 140))
    dark = astronaut[middle].astype(int) - (25.5, 0, 0)
    assert np.abs(frame[middle] - dark.clip(0)).max() <= 1
    assert np.array_equal(frame[:40], astronaut[:40])


def test_the_crop_drawn_over_itself_looks_the_same(astronaut: Pixels) -> None:
    cells = 256
    picture = extract(astronaut, CROP, cells).astype(np.float32).transpose(2, 0, 1) / 127.5 - 1
    flow = np.zeros((2, cells, cells), np.float32)
    mask = np.zeros((cells, cells), np.float32)
    frame = Compositor(astronaut, CROP)(flow, mask, picture, 0 * picture)
    assert np.abs(frame.astype(int) - astronaut).mean() < 1.0


@pytest.mark.parametrize("crop", [CROP, Crop(98, -60, 252), Crop(-40, -40, 600)])
def test_everything_outside_the_crop_and_its_border_stay_the_photo(astronaut: Pixels, crop: Crop) -> None:
    flow, mask, picture, shade = still()
    rng = np.random.default_rng(0)
    flow += rng.normal(0, 2, flow.shape).astype(np.float32)
    mask -= 0.5
    frame = Compositor(astronaut, crop)(flow, mask, picture, shade)
    inside = np.zeros(astronaut.shape[:2], bool)
    top, left = max(crop.y, -1) + 1, max(crop.x, -1) + 1
    inside[top : crop.y + crop.side - 1, left : crop.x + crop.side - 1] = True
    assert np.array_equal(frame[~inside], astronaut[~inside])
    assert not np.array_equal(frame, astronaut)


def test_there_is_no_seam(astronaut: Pixels) -> None:
    flow, mask, picture, shade = still()
    flow[0] = 3.0
    frame = Compositor(astronaut, CROP)(flow, mask, picture, shade)
    rows = slice(CROP.y + 20, CROP.y + CROP.side - 20)
    for border in (CROP.x, CROP.x + CROP.side):
        across = gradient(frame)[rows, border - 2 : border + 2].mean()
        before = gradient(astronaut)[rows, border - 2 : border + 2].mean()
        assert across < 1.2 * before + 0.5


# ---- several faces -----------------------------------------------------------------------------


LEFT, RIGHT = Crop(40, 100, 256), Crop(200, 100, 256)  # they overlap by 96 px
PLACES = [(168.0, 228.0, 110.0), (328.0, 228.0, 110.0)]  # their faces


def shifted(cells: float) -> tuple[Floats, Floats, Floats, Floats]:
    flow, mask, picture, shade = still()
    flow[0] = cells
    return flow, mask, picture, shade


def pair(photo: Pixels) -> tuple[Compositor, Compositor]:
    return Compositor(photo, LEFT, None, PLACES[0], PLACES[1:]), Compositor(
        photo, RIGHT, None, PLACES[1], PLACES[:1]
    )


def test_motion_ends_half_way_to_the_next_face(astronaut: Pixels) -> None:
    left, right = pair(astronaut)
    for compositor, still_side, own in ((left, slice(254, None), 168), (right, slice(None, 242), 328)):
        frame = compositor(*shifted(1))
        assert np.array_equal(
            frame[:, still_side], astronaut[:, still_side]
        )  # the line is at 248, a cell is 4 px
        around = (slice(200, 256), slice(own - 20, own + 20))
        assert np.array_equal(frame[around], np.roll(astronaut, -4, 1)[around])


def test_two_faces_are_put_into_one_frame_in_any_order(astronaut: Pixels) -> None:
    left, right = pair(astronaut)
    one, other = shifted(1), shifted(-0.5)
    both = right(*other, left(*one))
    again = left(*one, right(*other))
    for frame in (both, again):
        assert np.array_equal(frame[:, :240], left(*one)[:, :240])
        assert np.array_equal(frame[:, 256:], right(*other)[:, 256:])
    assert np.abs(both.astype(int) - again).max() <= 8  # along the line, where a pixel has neighbours of both


def test_a_much_smaller_face_bounds_nothing(astronaut: Pixels) -> None:
    """On a shirt or in a picture on the wall, or none at all."""
    alone = Compositor(astronaut, LEFT)(*shifted(1))
    small = Compositor(astronaut, LEFT, None, PLACES[0], [(200.0, 228.0, 50.0)])
    assert np.array_equal(small(*shifted(1)), alone)
