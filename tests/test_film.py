"""A film read once: which frame is which, in both sizes, and that nothing waits for ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import convert, level_film, number_of
from PIL import Image

from avatar import ffmpeg
from avatar.errors import UserError
from avatar.recipes.clip_file import probe
from avatar.recipes.film import Film
from avatar.recipes.shots import FPS


@pytest.mark.parametrize("rate", [25, 50, 30])
def test_frame_i_is_what_is_shown_at_its_time(tmp_path: Path, rate: int) -> None:
    path = level_film(tmp_path / "film.mp4", rate, 2 * rate if rate < 50 else rate)
    footage = probe(path)
    with Film(path, footage, 0, None, 4) as film:
        found = [number_of(frame) for frame in film]
        stills = [number_of(film.still(number)) for number in film.stills(0, len(found))]
    expected = np.arange(len(found)) * rate / FPS
    assert len(found) == pytest.approx(footage.seconds * FPS, abs=1)
    np.testing.assert_allclose(found, expected, atol=0.8)  # the nearest frame of the film, and its coding
    np.testing.assert_allclose(stills, found[::4], atol=0.1)
    # At 30 a second some times lie in the middle of two frames: either is the nearest.
    slack = 1.1 if rate == 30 else 0.1
    for first in (0, 7, 18):
        with Film(path, footage, first, 5, 3) as film:
            some = [number_of(frame) for frame in film]
            np.testing.assert_allclose(some, found[first : first + 5], atol=slack)
            assert film.stills(0, 5) == [0, 3] and film.stills(1, 3) == [3] and film.stills(1, 2) == []
            assert number_of(film.still(3)) == pytest.approx(some[3], abs=0.1)


@pytest.mark.parametrize("matrix", ["smpte170m", "bt709"])
def test_colours_are_those_of_the_picture(tmp_path: Path, matrix: str) -> None:
    colours = np.repeat(np.array([[220, 40, 30], [30, 200, 60], [40, 60, 210]], np.uint8), 64, 0)
    Image.fromarray(np.tile(colours, (96, 1, 1))).save(tmp_path / "picture.png")
    shape = f"scale=out_color_matrix={matrix}:out_range=tv:{ffmpeg.EXACT}"
    shape += f",format=yuv420p,setparams=colorspace={matrix}"
    path = convert(
        tmp_path / "picture.png", tmp_path / "film.mp4", "-vf", shape, "-c:v", "libx264", "-crf", "1"
    )
    with Film(path, probe(path), 0, 1, 1) as film:
        for shown in (next(iter(film)), film.still(0)):
            assert np.abs(shown[8:88, 8::64].astype(int) - colours[::64]).max() <= 3


def test_a_still_can_be_asked_for_before_any_frame(tmp_path: Path) -> None:
    """More frames come before it than pipes hold: 200 of 23 KB, and a pipe of 1 MB at most."""
    path = level_film(tmp_path / "film.mp4", 25, 50)
    long = convert(path, tmp_path / "long.mp4", "-vf", "loop=4:50", "-crf", "1")
    with Film(long, probe(long), 0, None, 25) as film:
        assert number_of(film.still(225)) == pytest.approx(25, abs=0.5)
        found = [number_of(frame) for frame in film]
    np.testing.assert_allclose(found, np.arange(250) % 50, atol=0.5)


def test_what_is_not_there_or_let_go_is_said(tmp_path: Path) -> None:
    path = level_film(tmp_path / "film.mp4", 25, 20)
    with Film(path, probe(path), 0, None, 5) as film:
        film.still(15)
        film.forget(10)
        assert number_of(film.still(10)) == pytest.approx(10, abs=0.5)
        for gone in (5, 20):
            with pytest.raises(UserError, match="run the same command again"):
                film.still(gone)
