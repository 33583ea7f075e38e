"""What the soundtrack sees: motion, time, windows, videos of every kind."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from conftest import convert
from numpy.typing import NDArray

from avatar.drivers.sight import (
    MOTION,
    PARTS,
    Seen,
    VAEEyes,
    frame_total,
    look,
    motion,
    video_seconds,
    watch,
)
from avatar.errors import UserError
from avatar.soundtrack_presets import LATENT_SECONDS
from avatar.writer import VideoWriter


def moving(frames: int, right: float, down: float) -> NDArray[np.uint8]:
    """Waves of 16 px, brighter at the right, that move by (right, down) px a frame, (frames, 64, 64, 3)."""
    y, x = np.mgrid[:64, :64].astype(float)
    time = np.arange(frames)[:, None, None]
    light = 128 + 50 * np.sin((x - right * time) / 2.5) + 50 * np.sin((y - down * time) / 2.5)
    return np.repeat(light[..., None], 3, -1).astype(np.uint8)


def video(path: Path, frames: int, fps: int = 25, size: tuple[int, int] = (96, 64)) -> Path:
    with VideoWriter(path, size=size, fps=Fraction(fps)) as writer:
        for i in range(frames):
            writer.write(np.full((size[1], size[0], 3), 40 + 150 * i // max(frames - 1, 1), np.uint8))
    return path


@pytest.mark.parametrize(("right", "down"), [(0.5, 0.0), (0.0, -0.5), (-0.4, 0.3)])
def test_flow_is_that_of_the_picture(right: float, down: float) -> None:
    found = motion(moving(3, right, down)).reshape(3, PARTS, 8, 8)
    assert found[0].abs().max() == 0  # the first frame follows nothing
    assert found[1, 2].mean().item() == pytest.approx(right, abs=0.12)
    assert found[1, 3].mean().item() == pytest.approx(down, abs=0.12)


def test_a_flash_is_a_sign_without_flow() -> None:
    frames = np.full((2, 64, 64, 3), 100, np.uint8)
    frames[1, :8, 56:] = 151  # the upper right cell, 0.2 brighter
    strength, sign, right, down = motion(frames).reshape(2, PARTS, 8, 8)[1]
    assert sign[0, 7].item() == pytest.approx(2.0, abs=0.01)  # 10 x 0.2
    assert strength[0, 7].item() == pytest.approx(np.log1p(50 * 0.2), abs=0.01)
    assert torch.count_nonzero(strength) == 1
    assert right.abs().max() < 3 and down.abs().max() < 3


def test_pieces_give_what_the_whole_gives() -> None:
    vae = tiny.vae(random=False)
    frames = moving(13, 1, 0)
    whole = look(VAEEyes(vae), iter([frames]))
    parts = look(VAEEyes(vae), iter([frames[:5], frames[5:6], frames[6:]]))
    assert whole.motion.shape == (13, MOTION) and whole.looks.shape == (4, 1024)
    torch.testing.assert_close(parts.motion, whole.motion)
    torch.testing.assert_close(parts.looks, whole.looks, atol=1e-5, rtol=1e-5)


def test_a_mirrored_film_has_mirrored_motion() -> None:
    frames = moving(5, 0.5, 0.3)
    seen, mirrored = (Seen(motion(f), torch.zeros(2, 1024)) for f in (frames, frames[:, :, ::-1]))
    torch.testing.assert_close(seen.mirrored().motion, mirrored.motion, atol=1e-4, rtol=1e-4)


def test_a_window_shows_the_frames_around_each_sound_latent() -> None:
    seen = Seen(torch.arange(101.0)[:, None].repeat(1, 256), torch.arange(26.0)[:, None].repeat(1, 1024))
    window = seen.window(20, 10, LATENT_SECONDS, 3)
    # latent 20 is centred on 20.5 x 1024 / 22050 = 0.952 s, frame 23.8: nearest is 24, 0.2 after it
    assert window.motion[0, 0, :, 0].tolist() == [23, 24, 25]
    assert window.phase[0].item() == pytest.approx(20.5 * 1024 / 22050 * 25 - 24, abs=1e-5)
    # it begins at frame 23.2, in the group of latent frame 5, whose frames 17 to 20 are centred on 18.5
    assert window.tokens[0, 0, 0].item() == 5
    assert window.tokens[0, 0, 1024::256].tolist() == [17, 18, 19, 20]
    assert window.moments[0].item() == pytest.approx(18.5 / 25 / LATENT_SECONDS - 0.5 - 20, abs=1e-4)


def test_windows_reach_over_both_ends() -> None:
    seen = Seen(torch.arange(5.0)[:, None].repeat(1, 256), torch.arange(2.0)[:, None].repeat(1, 1024))
    window = seen.window(0, 5, LATENT_SECONDS, 7)
    assert window.motion[0, 0, :, 0].tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert window.tokens[0, 0, 1024::256].tolist() == [0, 0, 0, 0]
    assert window.moments.isfinite().all()


@pytest.mark.parametrize(("seconds", "frames"), [(0.04, 1), (0.2, 5), (0.21, 9), (1.0, 25), (4.0, 101)])
def test_frames_cover_the_length(seconds: float, frames: int) -> None:
    assert frame_total(Fraction(str(seconds))) == frames


@pytest.mark.parametrize(
    ("frames", "fps", "expected"), [(50, 25, 49), (12, 12, 25), (60, 50, 33), (5, 25, 5)]
)
def test_a_video_of_any_rate_is_seen_at_25(tmp_path: Path, frames: int, fps: int, expected: int) -> None:
    path = video(tmp_path / "clip.mp4", frames, fps)
    seconds = video_seconds(path)
    assert seconds == Fraction(frames, fps)
    seen = np.concatenate(list(watch(path, seconds)))
    assert frame_total(seconds) >= expected and len(seen) == frame_total(seconds)
    assert seen.shape[1:] == (64, 64, 3)
    light = seen.mean((1, 2, 3))
    middle = round(len(seen) / 2)
    at = min(middle / 25, (frames - 1) / fps) * fps / max(frames - 1, 1)
    assert light[middle] == pytest.approx(40 + 150 * at, abs=12)


def test_variable_rate_is_seen_by_its_timestamps(tmp_path: Path) -> None:
    """Ten frames in the first second, then one every half second."""
    source = video(tmp_path / "even.mp4", 30, 10)
    path = convert(
        source,
        tmp_path / "odd.mkv",
        "-vf",
        "select='lt(n,10)+not(mod(n,5))'",
        "-fps_mode",
        "vfr",
        "-c:v",
        "libx264",
    )
    seconds = video_seconds(path)
    assert 2.5 <= seconds <= 3.0
    seen = np.concatenate(list(watch(path, seconds))).mean((1, 2, 3))
    assert seen[12] == pytest.approx(40 + 150 * 5 / 29, abs=12)  # 0.48 s: frame 5 of 30
    assert seen[45] == pytest.approx(40 + 150 * 15 / 29, abs=15)  # 1.8 s: frame 15 stands until 20 comes


def test_what_is_no_video_is_refused(tmp_path: Path, recording: Path) -> None:
    with pytest.raises(UserError, match="no such video"):
        video_seconds(tmp_path / "none.mp4")
    with pytest.raises(UserError, match="not a video that can be read"):
        video_seconds(recording)
