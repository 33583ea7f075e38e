"""Writing mp4 files: exact lengths, sound in step, true colours, nothing left behind."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import tone, write_wav
from numpy.typing import NDArray

from avatar import ffmpeg, media
from avatar.errors import UserError
from avatar.writer import VideoWriter, check_output

RATES = ["23.976", "25", "29.97", "30", "50", "60"]


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


def grey_film(path: Path, frames: int, **options: object) -> None:
    with VideoWriter(path, size=(64, 64), **options) as writer:  # type: ignore[arg-type]
        for _ in range(frames):
            writer.write(np.full((64, 64, 3), 128, np.uint8))


@pytest.mark.parametrize("rate", RATES)
def test_length_is_exact_at_every_frame_rate(tmp_path: Path, recording: Path, rate: str) -> None:
    fps = media.parse_fps(rate)
    frames = media.frame_count(media.audio_seconds(recording), fps)
    assert 0 <= frames / fps - Fraction(23, 10) < 1 / fps
    grey_film(tmp_path / "a.mp4", frames, fps=fps, audio=recording, seconds=frames / fps)
    info = media.video_info(tmp_path / "a.mp4")
    assert (info.frames, info.fps, info.has_audio) == (frames, fps, True)
    assert abs(media.audio_seconds(tmp_path / "a.mp4") - frames / fps) < Fraction(1, 1000)


@pytest.mark.parametrize("seconds", [Fraction(1), Fraction(4)])
def test_sound_is_cut_or_filled_to_the_video(tmp_path: Path, recording: Path, seconds: Fraction) -> None:
    grey_film(tmp_path / "a.mp4", int(25 * seconds), fps=Fraction(25), audio=recording, seconds=seconds)
    assert media.video_info(tmp_path / "a.mp4").frames == 25 * seconds
    assert abs(media.audio_seconds(tmp_path / "a.mp4") - seconds) < Fraction(1, 1000)


def test_sound_stays_in_step_with_the_frames(tmp_path: Path) -> None:
    sound = np.concatenate([np.zeros(44_100), tone(1, 44_100)])
    wav = write_wav(tmp_path / "late.wav", sound, 44_100)
    with VideoWriter(
        tmp_path / "a.mp4", size=(64, 64), fps=Fraction(25), audio=wav, seconds=Fraction(2)
    ) as writer:
        for number in range(50):
            writer.write(np.full((64, 64, 3), 255 * (number >= 25), np.uint8))
    heard = media.read_audio(tmp_path / "a.mp4")
    starts = np.argmax(np.abs(heard) > 0.1) / 16_000
    seen = [frame.mean() > 128 for frame in media.read_video(tmp_path / "a.mp4")].index(True) / 25
    assert abs(starts - seen) < 0.01


def test_a_still_photo_comes_back(tmp_path: Path, astronaut: NDArray[np.uint8]) -> None:
    with VideoWriter(tmp_path / "a.mp4", size=(512, 512), fps=Fraction(25)) as writer:
        for _ in range(10):
            writer.write(astronaut)
    frame = list(media.read_video(tmp_path / "a.mp4"))[5]
    assert (
        psnr(frame, astronaut) > 38
    )  # 41 is what 4:2:0 chroma leaves of this picture without any compression
    assert np.abs(frame.astype(float).mean((0, 1)) - astronaut.mean((0, 1))).max() < 0.5


def test_opencv_and_players_see_the_same_colours(tmp_path: Path) -> None:
    import cv2

    colours = np.array([[200, 40, 30], [30, 180, 60], [40, 60, 200], [220, 170, 140]], np.uint8)
    picture = np.repeat(np.repeat(colours.reshape(2, 2, 3), 32, 0), 32, 1)
    with VideoWriter(tmp_path / "a.mp4", size=(64, 64), fps=Fraction(25)) as writer:
        writer.write(picture)
    seen = cv2.VideoCapture(str(tmp_path / "a.mp4")).read()[1][..., ::-1]
    middles = seen[16::32, 16::32].astype(int)
    assert np.abs(middles - colours.reshape(2, 2, 3)).max() <= 4
    log = subprocess.run(ffmpeg.command("-i", str(tmp_path / "a.mp4")), capture_output=True, text=True).stderr
    assert re.search(r"h264 .*yuv420p\(tv, smpte170m/bt709/bt709", log)


def test_odd_sizes_lose_a_row_and_a_column(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", size=(65, 67), fps=Fraction(25)) as writer:
        writer.write(np.zeros((67, 65, 3), np.uint8))
    info = media.video_info(tmp_path / "a.mp4")
    assert (info.width, info.height) == (64, 66)


@pytest.mark.parametrize(
    "name",
    [
        "sp ace.mp4",
        "\u00fcn\u00efc\u00f6d\u00e9 \u6620\u753b.mp4",
        "-dash.mp4",
        "a:b.mp4",
        "100%d.mp4",
        "q'uo\"te.mp4",
    ],
)
def test_any_file_name_works(
    tmp_path: Path, recording: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sound = Path(name).with_suffix(".wav")
    sound.write_bytes(recording.read_bytes())
    grey_film(Path(name), 5, fps=Fraction(25), audio=sound, seconds=Fraction(1, 5))
    assert media.video_info(name).frames == 5
    assert sorted(os.listdir()) == sorted([name, str(sound)])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_film_leaves_nothing(tmp_path: Path, stop: type[BaseException]) -> None:
    with pytest.raises(stop), VideoWriter(tmp_path / "a.mp4", size=(64, 64), fps=Fraction(25)) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
        raise stop
    assert not any(tmp_path.iterdir())


def test_force_replaces_only_when_the_new_film_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a.mp4"
    target.write_bytes(b"old")
    with pytest.raises(UserError, match="--force"):
        check_output(target)
    with pytest.raises(KeyboardInterrupt), VideoWriter(target, size=(64, 64), fps=Fraction(25), force=True):
        raise KeyboardInterrupt
    assert target.read_bytes() == b"old"
    grey_film(target, 3, fps=Fraction(25), force=True)
    assert media.video_info(target).frames == 3


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder, make it first"):
        check_output(tmp_path / "none" / "a.mp4")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.mp4"):
        check_output(tmp_path / "a.avi")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that nobody may write into: /sys")
def test_a_read_only_folder_is_named() -> None:
    with pytest.raises(UserError, match="/sys: can not write"):
        check_output("/sys/a.mp4")


FILL = """
import sys, numpy as np
from fractions import Fraction
from avatar.errors import UserError
from avatar.writer import VideoWriter
noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
try:
    with VideoWriter(sys.argv[1], size=(256, 256), fps=Fraction(25)) as writer:
        for shift in range(200):
            writer.write(np.roll(noise, 7 * shift, 1))
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    """A real full file system where the kernel lets us mount one, else a limit on the size of files."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(tmp_path)]
    if sys.platform == "linux" and subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            told = subprocess.run(
                [sys.executable, "-c", FILL, tmp_path / "a.mp4"], capture_output=True, text=True
            )
            left = list(tmp_path.iterdir())
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)
    else:
        told = subprocess.run(
            [sys.executable, "-c", FILL, tmp_path / "a.mp4"],
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
        )
        left = list(tmp_path.iterdir())
    assert "the disk is full" in told.stdout and told.stdout.count("\n") == 1, told.stderr
    assert left == []
