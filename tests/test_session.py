"""One list of signals, several faces, files: sessions with the shipped nets and the example."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import EXAMPLE, tone, write_wav
from numpy.typing import NDArray
from PIL import Image

from avatar import (
    Animator,
    AudioSignal,
    ExpressionSignal,
    PoseSignal,
    Prompt,
    PromptSignal,
    UserError,
    media,
)
from avatar.drivers.curves import INDEX
from avatar.drivers.text import PACKAGE
from avatar.media import read_image
from avatar.options import DriveOptions
from avatar.session import DriveSession

TALK = EXAMPLE / "talk.wav"
TWO_SECONDS = DriveOptions(seconds=2)
RATE, JAW = 16_000, INDEX["jawOpen"]

Frames = NDArray[np.uint8]

needs_encoder = pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs {PACKAGE}")


@pytest.fixture(scope="module")
def pair(face: Path) -> Path:
    """The same face twice, the right one mirrored and a little smaller, so near that their crops overlap."""
    with Image.open(face) as picture:
        left = picture.crop((72, 0, 164, 256))
        right = left.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((86, 240))
        both = Image.new("RGB", (178, 256), left.getpixel((2, 2)))
        both.paste(left, (0, 0))
        both.paste(right, (92, 8))
    path = face.with_name("pair.png")
    both.save(path)
    return path


@pytest.fixture(scope="module")
def word() -> AudioSignal:
    """A part of the example recording, 8 frames."""
    return AudioSignal.from_file(TALK).cut(1, 1.32)


def made(animator: Animator, ref: Path, *signals: object, **options: object) -> Frames:
    return np.stack(list(animator.stream(ref, signals=signals, **options)))  # type: ignore[arg-type]


def moved(frames: Frames, photo: Frames) -> NDArray[np.bool_]:
    """(H, W), where any frame differs from the photo."""
    return (frames != photo).any((0, 3))


# ---- one list ----------------------------------------------------------------------------------


def test_keywords_and_the_list_of_signals_are_one(animator: Animator, face: Path) -> None:
    mood = ExpressionSignal.of_mood("happy")
    short = animator.stream(face, TALK, expression="happy", expression_scale=0.7, seconds=0.2)
    listed = made(animator, face, AudioSignal.from_file(TALK), mood.scaled(0.7), seconds=0.2)
    assert np.array_equal(np.stack(list(short)), listed)
    two = animator.stream(face, TALK, expression=[mood.scaled(0.3), "happy"], seconds=0.2)
    assert not np.array_equal(np.stack(list(two)), listed)


def test_a_sound_at_strength_nought_is_no_sound(animator: Animator, face: Path, word: AudioSignal) -> None:
    mood = ExpressionSignal.of_mood("happy")
    mute = made(animator, face, word.scaled(0), mood)
    assert np.array_equal(mute, made(animator, face, mood, seconds=0.32))
    assert not np.array_equal(mute, made(animator, face, word, mood))
    kept = animator.stream(face, word, expression=mood, audio_scale=0, guidance=2)
    assert np.array_equal(np.stack(list(kept)), made(animator, face, mood, seconds=0.32, guidance=2))


def test_lips_are_the_photos_as_far_as_nothing_is_said(
    animator: Animator, face: Path, word: AudioSignal
) -> None:
    film = replace(ExpressionSignal.of_mood("happy"), absolute=True)
    for signals, expected in (
        ([ExpressionSignal.of_mood("calm")], 1),
        ([word, ExpressionSignal.of_mood("calm")], 0),
        ([word.scaled(0.25)], 0.75),
        ([film, ExpressionSignal.of_mood("calm")], 0),
        ([film.masked("eyes")], 1),
    ):
        session = animator.session(face, signals=signals, options=DriveOptions(seconds=0.2))
        assert isinstance(session, DriveSession)
        assert session.actors[0].renderer.driven.mesh.parted == pytest.approx(expected)


def test_expressions_and_poses_at_strength_nought_are_none(
    animator: Animator, face: Path, word: AudioSignal, standing: PoseSignal
) -> None:
    mood = ExpressionSignal.of_mood("happy").scaled(0)
    alone = made(animator, face, word)
    assert np.array_equal(made(animator, face, word, mood, standing.scaled(0)), alone)


@pytest.fixture(scope="module")
def standing(animator: Animator) -> PoseSignal:
    """A pose that shows the mean face, at rest."""
    from test_head import pose_of

    return pose_of(animator.nets.basis, np.zeros((3, 6), np.float32))


def test_strength_over_steps_is_of_the_net_alone(animator: Animator, face: Path, word: AudioSignal) -> None:
    """With one step the net is asked at 0 only; with two, at 0 and at a half."""
    one, two = (made(animator, face, word, steps=steps) for steps in (1, 2))
    late = word.over_steps((0.25, 1), (0.25, 0))
    assert np.array_equal(made(animator, face, late), one)
    half = made(animator, face, late, steps=2)
    assert not np.array_equal(half, two)
    never = made(animator, face, word.over_steps((0, 0)), steps=2)
    assert not np.array_equal(half, never) and np.abs(never.astype(int) - two).mean() < 2  # lips still move


def test_steps_of_a_mood_which_the_net_does_not_hear_are_refused(animator: Animator, face: Path) -> None:
    mood = ExpressionSignal.of_mood("sad").over_steps((0, 1), (1, 0))
    with pytest.raises(UserError, match="expression: has no strengths over steps"):
        animator.session(face, signals=[mood], options=DriveOptions(seconds=1))


@needs_encoder
def test_a_prompt_is_one_of_the_signals(animator: Animator, face: Path, word: AudioSignal) -> None:
    """Words are as long as the video; at strength 0 they are not there; eyes alone leave the mouth alone."""
    alone, none = made(animator, face, word), made(animator, face, word, Prompt("she laughs").scaled(0))
    assert np.array_equal(alone, none)
    asked = animator.session(face, word, DriveOptions(), prompt="she turns to the left")
    assert [type(prompt) for prompt in asked.actors[0].mixer.added] == [PromptSignal]
    assert len(asked.actors[0].mixer.added[0]) == asked.frames == 8 and asked.actors[0].body is not None
    eyes = animator.session(face, signals=[Prompt("she looks down").masked("eyes")], options=TWO_SECONDS)
    idle = animator.session(face, signals=[ExpressionSignal.of_mood("sad").scaled(0)], options=TWO_SECONDS)
    assert eyes.actors[0].body is None
    curves, still = (next(session.actors[0].motion()).curves for session in (eyes, idle))
    assert np.array_equal(curves[:, JAW], still[:, JAW])
    down = INDEX["eyeLookDownLeft"]
    assert (curves[-10:, down] - still[-10:, down]).mean() > 0.2
    with pytest.raises(UserError, match="say how long with --seconds"):
        animator.session(face, prompt="she smiles")


def test_what_is_no_driver_is_refused(animator: Animator, face: Path, word: AudioSignal) -> None:
    with pytest.raises(UserError, match=r"signals: 'talk\.wav' drives no face"):
        animator.session(face, signals=["talk.wav"])  # type: ignore[list-item]
    with pytest.raises(UserError, match="pose: holds a signal of kind audio, pose is needed"):
        animator.session(face, pose=word)
    with pytest.raises(UserError, match="nothing drives the face"):
        animator.session(face)


# ---- the sound of the file ---------------------------------------------------------------------


def test_a_clip_has_the_waveform_of_its_signal(
    animator: Animator, face: Path, word: AudioSignal, tmp_path: Path
) -> None:
    signal = word.cut(0, 0.15).looped(0.4).scaled(0)
    path = animator.drive(face, signals=[signal], steps=1).save(tmp_path / "a.mp4")
    heard = media.read_audio(path)
    assert media.video_info(path).frames == 10 and media.audio_seconds(path) == pytest.approx(0.4, abs=0.001)
    assert np.corrcoef(heard, signal.waveform[: len(heard), 0])[0, 1] > 0.95  # AAC in between
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_the_sounds_of_all_faces_are_heard(animator: Animator, pair: Path, tmp_path: Path) -> None:
    high = write_wav(tmp_path / "high.wav", np.concatenate([np.zeros(8000), tone(0.5, RATE, 880)]), RATE)
    low = write_wav(tmp_path / "low.wav", tone(0.5, 48_000, 220), 48_000)
    signals = [
        AudioSignal.from_file(high).on_face(0).scaled(0),
        AudioSignal.from_file(low).on_face(1).scaled(0),
    ]
    path = animator.drive(pair, signals=signals, fps=5).save(tmp_path / "a.mp4")
    heard = media.read_audio(path)
    for part, hertz in ((heard[1000:7000], 220), (heard[9000:15_000], 880)):
        loud = np.abs(np.fft.rfft(part))
        assert abs(loud.argmax() * RATE / len(part) - hertz) < 5
    assert np.abs(heard).max() == pytest.approx(0.5, abs=0.1)  # added up, not halved


# ---- several faces -----------------------------------------------------------------------------


def test_only_the_faces_that_a_signal_names_move(animator: Animator, pair: Path) -> None:
    mood = ExpressionSignal.of_mood("surprised")
    photo = read_image(pair)
    for number, own, other in ((0, slice(0, 80), slice(100, None)), (1, slice(100, None), slice(0, 80))):
        frames = made(animator, pair, mood.on_face(number), seconds=0.2)
        assert moved(frames, photo)[:, own].any() and not moved(frames, photo)[:, other].any()
        chosen = made(animator, pair, mood, seconds=0.2, face=str(number))
        assert np.array_equal(frames, chosen)


def test_two_faces_speak_in_turn(animator: Animator, pair: Path, word: AudioSignal) -> None:
    """Each is as it is alone, up to the line between them, and opens its mouth to its own sound only."""
    silence = AudioSignal(waveform=np.zeros_like(word.waveform))
    first = word.joined(silence).on_face(0)
    second = silence.joined(word).on_face(1)
    session = animator.session(pair, signals=[first, second])
    assert [len(session.actors), session.frames] == [2, 16]
    regions = [actor.compositor.region[1] for actor in session.actors]
    assert regions[0].stop > regions[1].start  # the crops overlap
    frames = np.stack(list(session))
    left = made(animator, pair, first)
    right = made(animator, pair, second, seed=1)  # the second actor has the next seed
    assert np.array_equal(frames[:, :, :80], left[:, :, :80])
    assert np.array_equal(frames[:, :, 100:], right[:, :, 100:])
    jaws = [np.concatenate([motion.curves for motion in actor.motion()])[:, JAW] for actor in session.actors]
    assert jaws[0][:8].max() > 0.1 > 3 * jaws[0][11:].max()
    assert jaws[1][9:].max() > 0.1 > 3 * jaws[1][:5].max()


def test_a_number_and_the_largest_may_be_one_face(animator: Animator, pair: Path, word: AudioSignal) -> None:
    mood = ExpressionSignal.of_mood("happy")
    session = animator.session(pair, signals=[word.on_face(0), mood])
    assert len(session.actors) == 1 and session.frames == 8


def test_a_face_that_is_not_there_is_refused(animator: Animator, pair: Path, word: AudioSignal) -> None:
    with pytest.raises(UserError, match=r"pair\.png: there is no face 2; found \(number: x,y,w,h\) 0: "):
        animator.session(pair, signals=[word.on_face(2)])


def test_the_length_is_that_of_the_longest_sound(animator: Animator, pair: Path, word: AudioSignal) -> None:
    session = animator.session(pair, signals=[word.on_face(0), word.looped(Fraction(1, 2)).on_face(1)])
    assert session.frames == 13 and sum(1 for _ in session) == 13
