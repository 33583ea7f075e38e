"""Reading pictures, sound and video, and the arithmetic of lengths."""

from __future__ import annotations

import logging
import tracemalloc
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import convert, tone, write_wav
from numpy.typing import NDArray
from PIL import Image, ImageCms

from avatar import media
from avatar.errors import UserError
from avatar.writer import VideoWriter


def peak_hertz(sound: NDArray[np.float32], rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum)) * rate / len(sound)


# ---- sound


@pytest.mark.parametrize(
    ("rate", "width", "channels"), [(8000, 2, 1), (44_100, 2, 2), (48_000, 3, 2), (96_000, 3, 1)]
)
def test_any_wav_becomes_16_khz_mono_of_the_same_length_and_loudness(
    tmp_path: Path, rate: int, width: int, channels: int
) -> None:
    sound = np.repeat(tone(1.5, rate)[:, None], channels, axis=1)
    path = write_wav(tmp_path / "in.wav", sound, rate, width)
    heard = media.read_audio(path)
    assert heard.dtype == np.float32 and heard.shape == (24_000,)
    assert peak_hertz(heard, 16_000) == pytest.approx(440, abs=1)
    assert np.abs(heard[2000:-2000]).max() == pytest.approx(0.5, abs=0.01)
    assert media.audio_seconds(path) == Fraction(3, 2)


@pytest.mark.parametrize("kind", ["mp3", "m4a", "flac", "ogg", "mkv"])
def test_compressed_sound_keeps_its_exact_length(tmp_path: Path, kind: str) -> None:
    wav = write_wav(
        tmp_path / "in.wav", tone(2.013, 44_100), 44_100
    )  # not a whole number of mp3 or AAC frames
    path = convert(wav, tmp_path / f"in.{kind}")
    assert media.audio_seconds(path) == media.audio_seconds(wav)
    assert peak_hertz(media.read_audio(path), 16_000) == pytest.approx(440, abs=1)


def test_pieces_of_a_stream_join_to_the_whole(recording: Path) -> None:
    pieces = list(media.stream_audio(recording, 0.5))
    assert [len(piece) for piece in pieces] == [8000] * 4 + [4800]
    assert np.array_equal(np.concatenate(pieces), media.read_audio(recording))


def test_streaming_does_not_hold_the_recording(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "long.wav", np.zeros(16_000 * 300), 16_000)  # 19 MB as float32
    tracemalloc.start()
    assert sum(len(piece) for piece in media.stream_audio(path, 1.0)) == 16_000 * 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_silence_is_allowed_and_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_wav(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    with caplog.at_level(logging.WARNING):
        assert media.audio_seconds(path) == 1
    assert "silent" in caplog.text


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "piped.wav", tone(1, 16_000), 16_000)
    content = bytearray(path.read_bytes())
    content[40:44] = b"\xff\xff\xff\xff"  # what a recorder writes that can not go back to its header
    path.write_bytes(content)
    assert media.audio_seconds(path) == 1


# ---- pictures


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = np.zeros((80, 120, 3), np.uint8)
    picture[:, :60] = 255
    image = Image.fromarray(picture)
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned by a quarter, clockwise
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    read = media.read_image(tmp_path / "turned.jpg")
    assert read.shape == (120, 80, 3)
    assert read[:50].min() > 250 and read[70:].max() < 5


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:32, :, 3] = 255
    Image.fromarray(picture).save(tmp_path / "clear.png")
    Image.fromarray(picture).save(tmp_path / "clear.webp", lossless=True)
    for name in ("clear.png", "clear.webp"):
        read = media.read_image(tmp_path / name)
        assert (read[:32] == 0).all() and (read[32:] == 255).all()


def test_grey_palette_and_16_bit_pictures_keep_their_values(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "grey.png")
    Image.fromarray(ramp).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name in ("grey.png", "palette.png", "deep.png"):
        read = media.read_image(tmp_path / name)
        assert np.abs(read.astype(int) - ramp[..., None]).max() <= 1, name


def test_a_colour_profile_is_converted_to_srgb(tmp_path: Path) -> None:
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ"))
    image = Image.new("RGB", (64, 64), (100, 120, 140))
    image.save(tmp_path / "odd.png", icc_profile=lab_like.tobytes())  # no RGB profile at all: values are kept
    assert (media.read_image(tmp_path / "odd.png") == (100, 120, 140)).all()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    image.save(tmp_path / "srgb.png", icc_profile=srgb.tobytes())
    assert np.abs(media.read_image(tmp_path / "srgb.png").astype(int) - (100, 120, 140)).max() <= 1


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_12000_px_picture_is_reduced(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / f"huge.{kind}"
    Image.new("RGB", (12_000, 3_000), (200, 100, 50)).save(path)
    with caplog.at_level(logging.WARNING):
        read = media.read_image(path)
    assert read.shape == (1024, 4096, 3)
    assert np.abs(read.astype(int) - (200, 100, 50)).max() <= 1
    assert "12000 x 3000" in caplog.text


def test_the_first_frame_of_a_video_is_a_picture(tmp_path: Path, astronaut: NDArray[np.uint8]) -> None:
    with VideoWriter(tmp_path / "film.mp4", size=(512, 512), fps=Fraction(25)) as writer:
        writer.write(astronaut)
        writer.write(255 - astronaut)
    difference = media.read_image(tmp_path / "film.mp4").astype(float) - astronaut
    assert np.abs(difference).mean() < 2.5
    Image.fromarray(astronaut).save(
        tmp_path / "film.gif", save_all=True, append_images=[Image.new("RGB", (512, 512))]
    )
    assert np.abs(media.read_image(tmp_path / "film.gif").astype(float) - astronaut).mean() < 10


# ---- video


def test_video_info_counts_frames_and_applies_rotation(tmp_path: Path, recording: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", size=(96, 64), fps=Fraction(30000, 1001), audio=recording) as writer:
        for level in range(7):
            writer.write(np.full((64, 96, 3), 20 * level, np.uint8))
    info = media.video_info(tmp_path / "a.mp4")
    assert info == media.VideoInfo(width=96, height=64, fps=Fraction(30000, 1001), frames=7, has_audio=True)
    turned = convert(tmp_path / "a.mp4", tmp_path / "b.mp4", "-c", "copy", "-an")
    turned = convert(turned, tmp_path / "c.mov", "-c", "copy", "-metadata:s:v:0", "rotate=90")
    info = media.video_info(turned)
    frame = next(media.read_video(turned))
    assert frame.shape[:2] == (info.height, info.width)
    assert not info.has_audio


def test_frames_come_back_in_order(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", size=(64, 64), fps=Fraction(50)) as writer:
        for level in range(0, 250, 10):
            writer.write(np.full((64, 64, 3), level, np.uint8))
    levels = [frame.mean() for frame in media.read_video(tmp_path / "a.mp4")]
    assert levels == pytest.approx(range(0, 250, 10), abs=1.5)


# ---- lengths


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("25", Fraction(25)),
        ("23.976", Fraction(24000, 1001)),
        ("23.98", Fraction(24000, 1001)),
        ("24", Fraction(24)),
        ("29.97", Fraction(30000, 1001)),
        ("59.94", Fraction(60000, 1001)),
        ("30000/1001", Fraction(30000, 1001)),
        ("12.5", Fraction(25, 2)),
    ],
)
def test_frame_rates_are_exact_fractions(text: str, rate: Fraction) -> None:
    assert media.parse_fps(text) == rate


@pytest.mark.parametrize("text", ["", "abc", "0", "-25", "121", "1/0", "nan", "inf"])
def test_other_frame_rates_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="fps"):
        media.parse_fps(text)


def test_frame_counts_are_rounded_up_exactly() -> None:
    assert media.frame_count(Fraction("2.4"), Fraction(25)) == 60
    assert media.frame_count(Fraction(2), Fraction(25)) == 50
    assert media.frame_count(Fraction(2) + Fraction(1, 48_000), Fraction(25)) == 51
    assert media.frame_count(Fraction(1001, 1000), Fraction(30000, 1001)) == 30
