"""A real picture that moves: against itself it is perfect, standing still it is the baseline."""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from avatar import evaluate, media, metrics
from avatar.metrics import Region
from avatar.reenactment import ReenactmentMeter, Truth, begins_with, recode, relative, ssim
from avatar.writer import VideoWriter

FPS = Fraction(25)
HEAD = Region(90, 20, 250, 250)
FRAMES = 6


def write_film(path: Path, frames: list[NDArray[np.uint8]], fps: Fraction = FPS) -> Path:
    with VideoWriter(path, size=(frames[0].shape[1], frames[0].shape[0]), fps=fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def film(astronaut: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The portrait, which moves 4 px a frame to the right: (384, 384), 6 frames."""
    frames = [np.ascontiguousarray(np.roll(astronaut, 4 * t, 1)[:384, :384]) for t in range(FRAMES)]
    return write_film(tmp_path_factory.mktemp("film") / "moves.mp4", frames)


def decibels(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return metrics.psnr(float(np.mean((one.astype(float) - other) ** 2)))


def truth_of(film: Path, fps: Fraction = FPS, count: int = FRAMES) -> Truth:
    return Truth(film, fps, count, (384, 384), HEAD)


def test_the_film_itself_and_the_still_first_frame(film: Path) -> None:
    truth = truth_of(film)
    meter = ReenactmentMeter(truth)
    for frame, points in zip(truth.frames(), truth.points, strict=True):
        meter.add(frame, points)
    same = meter.figures()
    assert same.psnr == metrics.psnr(0) and same.ssim == pytest.approx(1)
    assert same.landmark_error == 0 and same.landmark_ratio == 0
    still = relative(truth.still, truth.still)
    assert still.landmark_ratio == 1 and still.psnr_gain == 0
    # 4 px a frame: 4, 8 ... 20 away from the first, which is not counted; her eyes are 62 px apart.
    assert still.landmark_error == pytest.approx(12 / meter.eye_distance, rel=0.15)
    assert meter.eye_distance == pytest.approx(62, abs=8)
    assert same.psnr_gain and same.psnr_gain > 50 and still.ssim and still.ssim < 0.9


def test_turned_round_it_is_no_better_than_still(film: Path) -> None:
    truth = truth_of(film)
    meter = ReenactmentMeter(truth)
    frames = list(truth.frames())
    for t in range(FRAMES):
        meter.add(frames[(t + 3) % FRAMES], truth.points[(t + 3) % FRAMES])
    assert (found := meter.figures()).landmark_ratio and found.landmark_ratio > 0.35
    assert found.psnr_gain is not None and found.psnr_gain < 3


def test_frames_are_those_on_show(film: Path) -> None:
    slow = truth_of(film, Fraction(25, 2), 3)
    assert slow.rows == [0, 2, 4]
    assert len(list(slow.frames())) == 3
    fast = truth_of(film, Fraction(50), 20)
    assert fast.rows == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]  # it ends before the video
    shown = list(fast.frames())
    assert len(shown) == 12 and np.array_equal(shown[2], shown[3]) and not np.array_equal(shown[1], shown[2])
    exact = truth_of(film, Fraction(25), 4)
    assert exact.rows == [0, 1, 2, 3]


def test_the_vae_keeps_every_frame_in_place(film: Path) -> None:
    frames = list(media.read_video(film))
    coded = list(recode(iter(frames), FRAMES, HEAD))  # 6 is not 4n + 1
    assert len(coded) == FRAMES
    for t, after in enumerate(coded):
        assert np.array_equal(frames[t][300:], after[300:])  # outside the square
        near = [decibels(frame[20:270, 90:340], after[20:270, 90:340]) for frame in frames]
        # Four frames share one latent, in which a fast picture blurs: its neighbour may be as near.
        assert abs(int(np.argmax(near)) - t) <= (1 if 0 < t < FRAMES - 1 else 0) and 18 < near[t] < 40
    beyond = next(recode(iter(frames), 1, Region(-60, -40, 250, 250)))  # a square over the border
    assert 20 < decibels(frames[0][:210, :190], beyond[:210, :190]) < 40
    assert np.array_equal(frames[0][210:], beyond[210:])


def test_ssim_is_one_for_the_same_and_falls_with_noise() -> None:
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(60, 200, (8, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    noise = [ssim((picture + rng.normal(0, level, picture.shape)).clip(0, 255).astype(np.uint8), picture)
             for level in (5, 20)]  # fmt: skip
    assert ssim(picture, picture) == 1 and 1 > noise[0] > noise[1] > 0


def test_begins_with_tells_its_own_first_frame(film: Path, astronaut: NDArray[np.uint8]) -> None:
    assert begins_with(film, astronaut[:384, :384])
    assert not begins_with(film, np.roll(astronaut, 12, 1)[:384, :384])
    assert not begins_with(film, astronaut)


def test_eval_shows_the_baselines_beside_the_video(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "figures.json"
    reports = evaluate.run(film, film, None, expression=str(film), truth=film, identity_every=0, json_out=out)
    printed = capsys.readouterr().out
    for word in ("re-coded", "still", "landmark error / still", "SSIM", "truth"):
        assert word in printed
    assert "no phones" not in printed
    content = json.loads(out.read_text())
    assert content["video"]["reenactment"]["landmark_ratio"] == 0
    assert content["still"]["landmark_ratio"] == 1 and content["re-coded"]["psnr_gain"] > 3
    assert reports["video"].following is not None and reports["video"].separation is None


def test_a_truth_that_is_another_picture_or_rate_is_said(
    film: Path, portrait: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(next(media.read_video(film))).save(tmp_path / "first.png")
    video = write_film(tmp_path / "slow.mp4", list(media.read_video(film))[::2], Fraction(25, 2))
    evaluate.run(video, tmp_path / "first.png", None, truth=film, identity_every=0)
    assert "drive with this --fps" in capsys.readouterr().out.replace("\n", " ")
    found = evaluate.run(film, portrait, None, truth=film, identity_every=0)
    assert "does not begin with the reference" in capsys.readouterr().out.replace("\n", " ")
    assert found["video"].reenactment is None
    assert "landmark_ratio" in asdict(truth_of(film).still)
