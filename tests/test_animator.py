"""From a picture and a recording to frames, with the shipped nets and the example."""

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE, tone, write_wav
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from avatar import media, metrics
from avatar.animator import Animator
from avatar.drivers.curves import CURVES, INDEX
from avatar.drivers.mesh import NOSE_TIP
from avatar.drivers.speech import SpeechDriver
from avatar.errors import UserError
from avatar.media import read_audio, read_image
from avatar.voice import LISTEN
from avatar.watch import FaceTracker

LARGE = EXAMPLE / "face.png"  # 110 px from forehead to chin: the face mesh sees closed lips well
RATE = 16_000

Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def word(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of the example recording."""
    samples = read_audio(EXAMPLE / "talk.wav")
    return write_wav(tmp_path_factory.mktemp("sound") / "word.wav", samples[RATE : RATE + RATE // 2], RATE)


@pytest.fixture(scope="module")
def spoken(animator: Animator, face: Path) -> Frames:
    """Two seconds of the example."""
    return np.stack(list(animator.stream(face, EXAMPLE / "talk.wav", seconds=2)))


def landmarks(frames: Frames) -> metrics.Array:
    """Points of the face mesh in every frame, (T, 478, 3) px."""
    tracker = FaceTracker()
    return np.stack([tracker(frame) for frame in frames])


def aperture(frames: Frames) -> metrics.Array:
    return metrics.tracks(landmarks(frames)).aperture


# ---- length ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", ["23.976", "25", "29.97", "30", "50", "60"])
def test_there_is_a_frame_for_every_started_interval(
    animator: Animator, face: Path, word: Path, fps: str
) -> None:
    exact = {"23.976": Fraction(24_000, 1001), "29.97": Fraction(30_000, 1001)}.get(fps) or Fraction(fps)
    clip = animator.drive(face, word, fps=fps, steps=1)
    assert len(clip) == math.ceil(exact / 2) == sum(1 for _ in clip)


@pytest.mark.parametrize(("seconds", "frames"), [(0.2, 5), (0.21, 6), (0.01, 1), (99, 13)])
def test_seconds_cut_the_video(
    animator: Animator, face: Path, word: Path, seconds: float, frames: int
) -> None:
    clip = animator.drive(face, word, seconds=seconds, steps=1)
    assert len(clip) == frames == sum(1 for _ in clip)


def test_one_sample_is_one_frame(animator: Animator, face: Path, tmp_path: Path) -> None:
    click = write_wav(tmp_path / "click.wav", np.array([0.5]), RATE)
    assert sum(1 for _ in animator.stream(face, click)) == 1


class Counting(SpeechDriver):
    """Counts the pieces of sound that it hears."""

    heard = 0

    def stream(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[Tensor, Tensor]]:
        def counted() -> Iterator[NDArray[np.float32]]:
            for chunk in chunks:
                self.heard += 1
                yield chunk

        return super().stream(counted())


@pytest.fixture(scope="module")
def long_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_wav(tmp_path_factory.mktemp("sound") / "long.wav", tone(6 * LISTEN, RATE), RATE)


def test_the_first_frame_comes_before_the_whole_sound_is_heard(
    animator: Animator, face: Path, long_sound: Path
) -> None:
    ear = Counting(animator.speech.whisper, animator.speech.net)
    next(Animator(animator.nets, ear).stream(face, long_sound, steps=1))
    assert ear.heard <= 2


def test_what_is_cut_off_is_not_heard(animator: Animator, face: Path, long_sound: Path) -> None:
    ear = Counting(animator.speech.whisper, animator.speech.net)
    frames = list(Animator(animator.nets, ear).stream(face, long_sound, steps=1, seconds=0.2))
    assert len(frames) == 5 and ear.heard <= 2


# ---- seeds, files and the picture --------------------------------------------------------------


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(
    animator: Animator, face: Path, word: Path
) -> None:
    one, again, other = (
        np.stack(list(animator.stream(face, word, seed=seed, steps=1))) for seed in (3, 3, 4)
    )
    assert np.array_equal(one, again)
    assert (np.abs(one.astype(int) - other).max((1, 2, 3)) > 0).all()


def test_a_saved_clip_has_its_frames_its_sound_and_its_length(
    animator: Animator, face: Path, spoken: Frames, tmp_path: Path
) -> None:
    path = animator.drive(face, EXAMPLE / "talk.wav", seconds=2).save(tmp_path / "talk.mp4")
    info = media.video_info(path)
    assert (info.frames, info.fps, info.has_audio) == (50, 25, True)
    assert media.audio_seconds(path) == pytest.approx(2, abs=0.05)
    for written, made in zip(media.read_video(path), spoken, strict=True):
        assert np.abs(written.astype(int) - made).mean() < 4


def test_an_existing_file_is_kept_unless_forced(
    animator: Animator, face: Path, word: Path, tmp_path: Path
) -> None:
    out = tmp_path / "talk.mp4"
    out.write_bytes(b"mine")
    clip = animator.drive(face, word, seconds=0.1, steps=1)
    with pytest.raises(UserError, match=r"talk\.mp4"):
        clip.save(out)
    assert out.read_bytes() == b"mine"
    clip.save(out, force=True)
    assert media.video_info(out).frames == 3


def test_only_the_crop_around_the_head_changes(animator: Animator, spoken: Frames, face: Path) -> None:
    session = animator.session(face, EXAMPLE / "talk.wav")
    photo = read_image(face)
    around = np.ones(photo.shape[:2], bool)
    around[session.actors[0].compositor.region] = False
    assert session.size == (256, 256) and spoken.shape == (50, 256, 256, 3)
    assert (spoken[:, around] == photo[around]).all()
    assert np.abs(spoken[0].astype(int) - photo).mean() < 4  # it starts as the picture, lips closed


# ---- what the face does ------------------------------------------------------------------------


def test_speech_moves_the_lips(spoken: Frames) -> None:
    assert np.ptp(aperture(spoken)) > 0.03


def test_silence_keeps_the_lips_closed(animator: Animator, spoken: Frames, tmp_path: Path) -> None:
    silence = write_wav(tmp_path / "silence.wav", np.zeros(RATE), RATE)
    quiet = aperture(np.stack(list(animator.stream(LARGE, silence, steps=1))))
    assert quiet.max() < min(0.05, 0.6 * metrics.peak(aperture(spoken)))
    assert np.ptp(quiet) < 0.025


def test_without_audio_scale_the_lips_stay_as_the_photo_has_them(animator: Animator) -> None:
    """It smiles and shows teeth."""
    frames = animator.stream(LARGE, EXAMPLE / "talk.wav", seconds=1, steps=1, audio_scale=0)
    still = aperture(np.stack(list(frames)))
    own = aperture(np.stack([read_image(LARGE)] * 5))[-1]
    assert own > 0.05 and np.abs(still - own).max() < 0.012


def test_head_motion_moves_the_head_and_nothing_else_does(animator: Animator, face: Path) -> None:
    def sway(amount: float) -> float:
        """Standard deviation of the nose tip's place, px."""
        frames = animator.stream(face, EXAMPLE / "talk.wav", seconds=1.5, steps=1, head_motion=amount)
        return float(landmarks(np.stack(list(frames)))[:, NOSE_TIP, :2].std(0).max())

    still, swaying = sway(0), sway(3)
    assert still < 0.3
    assert swaying > 3 * still


# ---- the other ways in -------------------------------------------------------------------------


def test_curves_and_head_are_rendered_as_given(animator: Animator, face: Path) -> None:
    picture = read_image(face)
    curves, head = np.zeros((9, len(CURVES)), np.float32), np.zeros((9, 6), np.float32)
    curves[:, INDEX["jawOpen"]] = np.linspace(0, 0.6, 9)
    frames = animator.render(picture, curves, head)
    assert frames.shape == (9, 256, 256, 3) and frames.dtype == np.uint8
    opened = aperture(frames)
    assert opened[-1] > opened[0] + 0.05
    assert np.array_equal(frames, animator.render(picture, curves, head))


def test_only_square_pictures_are_rendered(animator: Animator, face: Path) -> None:
    with pytest.raises(UserError, match="256 x 200 px, must be square"):
        animator.render(read_image(face)[:200], np.zeros((1, 52), np.float32), np.zeros((1, 6), np.float32))


def test_a_picture_without_a_face_is_refused(animator: Animator, word: Path, tmp_path: Path) -> None:
    wall = tmp_path / "wall.png"
    Image.new("RGB", (128, 128), "beige").save(wall)
    with pytest.raises(UserError, match=r"wall\.png"):
        animator.session(wall, word)


def test_an_unknown_preset_or_device_is_refused() -> None:
    with pytest.raises(UserError, match="--preset maxi: must be one of mini"):
        Animator.from_pretrained("maxi")
    with pytest.raises(UserError, match="--device tpu"):
        Animator.from_pretrained("mini", device="tpu")


def test_an_unknown_option_is_refused(animator: Animator, face: Path, word: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'head_motion'"):
        animator.drive(face, word, headmotion=1)
