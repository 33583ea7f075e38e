"""A video re-voiced: what is kept to the bit, what moves, and which frame is shown when."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE, tone, write_wav
from numpy.typing import NDArray

from avatar import Animator, AudioSignal, UserError
from avatar.drivers.face import find_faces
from avatar.drivers.mesh import MOUTH, NOSE_TIP
from avatar.dubbing import DubSession, frames_at, rows_of
from avatar.media import read_image, read_video
from avatar.options import DriveOptions
from avatar.session import DriveSession
from avatar.writer import VideoWriter

Frames = NDArray[np.uint8]
FPS = Fraction(24)
COUNT = 10


def film(path: Path, frames: list[Frames]) -> Path:
    height, width = frames[0].shape[:2]
    seconds = len(frames) / FPS
    with VideoWriter(path, size=(width, height), fps=FPS, audio=[], seconds=seconds, force=False) as writer:
        for frame in frames:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def clip(face: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example's face, which goes to the right by two pixels a frame."""
    photo = read_image(face)
    height, width = photo.shape[0] // 2 * 2, photo.shape[1] // 2 * 2
    frames = [np.roll(photo[:height, :width], 2 * k, 1) for k in range(COUNT)]
    return film(tmp_path_factory.mktemp("dub") / "clip.mp4", frames)


@pytest.fixture(scope="module")
def word() -> AudioSignal:
    """A part of the example recording, 0.4 s."""
    return AudioSignal.from_file(EXAMPLE / "talk.wav").cut(1, 1.4)


@pytest.fixture(scope="module")
def dubbed(animator: Animator, clip: Path, word: AudioSignal) -> Frames:
    return np.stack(list(animator.stream(clip, signals=[word])))


def test_all_but_the_lower_face_is_the_videos_to_the_bit(clip: Path, dubbed: Frames) -> None:
    own = np.stack(list(read_video(clip)))
    assert dubbed.shape == own.shape  # 0.4 s at the video's own 24 frames a second, rounded up
    for before, after in zip(own, dubbed, strict=True):
        face = find_faces(before)[0]
        changed = (before != after).any(-1)
        rows, columns = (np.flatnonzero(changed.any(axis)) for axis in (1, 0))
        left, top, width, height = face.box
        nose = face.landmarks[NOSE_TIP, 1]
        assert changed.any() and rows.min() > nose - 0.15 * height and rows.max() < top + 1.2 * height
        assert columns.min() > left - 0.1 * width and columns.max() < left + 1.1 * width


def test_the_mouth_says_what_is_heard(animator: Animator, clip: Path, dubbed: Frames) -> None:
    """Speech opens the mouth, silence shuts the smile of the video."""

    def widest(frames: Iterable[Frames]) -> float:
        faces = (find_faces(frame)[0] for frame in frames)
        return max(float(MOUTH.gaps(face.landmarks).max()) / face.height for face in faces)

    quiet = animator.stream(clip, signals=[AudioSignal(waveform=np.zeros((6400, 1)))])
    smile, spoken, shut = (widest(frames) for frames in (read_video(clip), dubbed, quiet))
    assert spoken > 0.05 and shut < min(0.02, smile)


def test_at_strength_0_the_video_stays(animator: Animator, clip: Path, word: AudioSignal) -> None:
    same = np.stack(list(animator.stream(clip, signals=[word], audio_scale=0)))
    assert np.array_equal(same, np.stack(list(read_video(clip))))


def test_a_moment_of_a_video_can_be_the_picture(animator: Animator, clip: Path, word: AudioSignal) -> None:
    session = animator.session(clip, word, DriveOptions(ref_time=5 / 24))
    assert isinstance(session, DriveSession) and session.fps == 25
    assert np.array_equal(session.photo, list(read_video(clip))[5])
    assert isinstance(animator.session(clip, word, expression="happy"), DriveSession)
    with pytest.raises(UserError, match=r"clip\.mp4: has no frame at 9 s"):
        animator.session(clip, word, DriveOptions(ref_time=9))
    with pytest.raises(UserError, match=r"--ref-time is for videos"):
        animator.session(EXAMPLE / "face.png", word, DriveOptions(ref_time=1))


def test_what_can_not_be_dubbed_is_refused(
    animator: Animator, clip: Path, word: AudioSignal, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="one face is dubbed at a time"):
        animator.session(clip, signals=[word.on_face(0), word.on_face(1)])
    with pytest.raises(UserError, match="use --when-short hold, loop or mirror"):
        animator.session(
            clip, write_wav(tmp_path / "long.wav", tone(2, 16_000), 16_000), DriveOptions(when_short="error")
        )
    grey = film(tmp_path / "grey.mp4", [np.full((96, 96, 3), 128, np.uint8)] * 3)
    with pytest.raises(UserError, match=r"grey\.mp4: shows no face"):
        animator.session(grey, word)


def test_a_face_that_is_lost_is_left_alone(
    animator: Animator, clip: Path, word: AudioSignal, tmp_path: Path
) -> None:
    """Frames without a face stay as they are, and the new mouth comes and goes over 0.2 s, 5 frames."""
    own = list(read_video(clip))
    blank = np.full_like(own[0], 90)
    path = film(tmp_path / "lost.mp4", [*own[:6], blank, blank])
    session = animator.session(path, word)
    assert isinstance(session, DubSession)
    np.testing.assert_allclose(session.footage.seen, np.array([*(6, 5, 4, 3, 2, 1), 0, 0]).clip(0, 4.8) / 4.8)
    made, given = list(session), list(read_video(path))
    assert np.array_equal(made[6], given[6]) and not np.array_equal(made[0], given[0])


@pytest.mark.parametrize(
    ("when_short", "expected"),
    [
        ("hold", [0, 1, 2, 2, 2, 2, 2, 2, 2]),
        ("loop", [0, 1, 2, 0, 1, 2, 0, 1, 2]),
        ("mirror", [0, 1, 2, 1, 0, 1, 2, 1, 0]),
    ],
)
def test_a_video_that_ends_before_the_sound(clip: Path, when_short: str, expected: list[int]) -> None:
    rows = rows_of(3, FPS, 9, FPS, when_short)  # type: ignore[arg-type]
    assert rows.tolist() == expected
    own = list(read_video(clip))
    for frame, row in zip(frames_at(clip, rows), rows, strict=True):
        assert np.array_equal(frame, own[row])


def test_frame_rates_meet_by_time() -> None:
    assert rows_of(10, FPS, 5, Fraction(12), "hold").tolist() == [0, 2, 4, 6, 8]
    assert rows_of(10, FPS, 6, Fraction(48), "hold").tolist() == [0, 0, 1, 1, 2, 2]
