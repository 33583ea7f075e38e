"""Every video on one grid of time: rates, rotations and late sound, read and cut out."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import convert, level_film, number_of, tone, write_wav

from avatar.drivers.face import Crop
from avatar.errors import UserError
from avatar.media import RATE, read_audio, read_video, video_info
from avatar.recipes.clip_file import probe, read_sound, write_clip
from avatar.recipes.film import Film
from avatar.writer import VideoWriter


def test_a_head_tells_size_as_it_is_shown(tmp_path: Path) -> None:
    film = level_film(tmp_path / "film.mp4", 25, 10)
    assert (probe(film).width, probe(film).height, probe(film).has_sound) == (160, 96, False)
    turned = convert(film, tmp_path / "turned.mp4", "-c", "copy", "-metadata:s:v:0", "rotate=90")
    wide = convert(film, tmp_path / "wide.mp4", "-vf", "setsar=2", "-crf", "1")
    assert (probe(wide).width, probe(wide).height) == (320, 96)
    for path in (turned, wide):
        footage = probe(path)
        with Film(path, footage, 0, 1, 1) as film:
            assert next(iter(film)).shape == (*footage.small[::-1], 3)
            assert film.still(0).shape == (footage.height, footage.width, 3)


def test_what_is_no_video_is_said(tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no film at all" * 100)
    with pytest.raises(UserError, match=r"bad\.mp4: not a video"):
        probe(tmp_path / "bad.mp4")
    sound = write_wav(tmp_path / "sound.wav", tone(1.0, RATE), RATE)
    with pytest.raises(UserError, match="not a video"):
        probe(sound)


def test_sound_that_starts_late_has_silence_in_front(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "sound.wav", tone(1.0, RATE), RATE)
    film = level_film(tmp_path / "film.mp4", 25, 50)
    late = tmp_path / "late.mkv"
    convert(
        film, late, "-itsoffset", "0.6", "-i", str(sound), "-map", "0:v", "-map", "1:a", "-c:a", "pcm_s16le"
    )
    heard = np.concatenate(list(read_sound(late, 0, None)))
    assert np.flatnonzero(np.abs(heard) > 0.1)[0] == pytest.approx(0.6 * RATE, abs=0.02 * RATE)
    part = np.concatenate(list(read_sound(late, 20, 10)))
    assert len(part) == pytest.approx(0.4 * RATE, abs=2)
    assert np.abs(part).max() > 0.4


def test_a_clip_has_its_frames_and_its_sound(tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "sound.wav", np.concatenate([np.zeros(RATE), tone(1.0, RATE)]), RATE)
    film = level_film(tmp_path / "film.mp4", 25, 50, sound)
    write_clip(film, tmp_path / "clip", first=20, count=21, crop=Crop(30, 10, 64), size=128, sound=True)
    info = video_info(tmp_path / "clip.mp4")
    assert (info.width, info.height, info.frames, float(info.fps), info.has_audio) == (
        128,
        128,
        21,
        25.0,
        True,
    )
    found = [number_of(frame) for frame in read_video(tmp_path / "clip.mp4")]
    np.testing.assert_allclose(found, np.arange(20, 41), atol=0.5)
    heard = read_audio(tmp_path / "clip.wav")
    assert len(heard) == 21 * RATE // 25
    # The tone starts at 1 s, 5 frames into the clip.
    assert np.flatnonzero(np.abs(heard) > 0.1)[0] == pytest.approx(5 * RATE / 25, abs=0.01 * RATE)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clip.mp4",
        "clip.wav",
        "film.mp4",
        "sound.wav",
    ]


def test_a_clip_shows_its_square(tmp_path: Path) -> None:
    frame = np.zeros((96, 160, 3), np.uint8)
    frame[20:60, 40:80] = 200
    with VideoWriter(tmp_path / "film.mp4", size=(160, 96), fps=Fraction(25), crf=1) as writer:
        for _ in range(10):
            writer.write(frame)
    crop = Crop(40, 20, 40)
    write_clip(tmp_path / "film.mp4", tmp_path / "clip", first=0, count=9, crop=crop, size=64, sound=False)
    shown = next(iter(read_video(tmp_path / "clip.mp4")))
    assert np.abs(shown.astype(int) - 200).mean() < 3
    assert not (tmp_path / "clip.wav").exists()
    with pytest.raises(UserError, match="could not be written"):
        write_clip(
            tmp_path / "film.mp4", tmp_path / "no" / "clip", first=0, count=9, crop=crop, size=64, sound=False
        )
