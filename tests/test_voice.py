"""What a face does by itself: speech laid over idling, by strength, mask and time."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from avatar.drivers.audio_signal import AudioSignal, Sound, read_sound
from avatar.drivers.curves import CURVES, INDEX
from avatar.drivers.expression import EYES, PART_CURVES
from avatar.drivers.speech import SpeechDriver
from avatar.errors import UserError
from avatar.options import DriveOptions
from avatar.voice import Voice, idle, speak
from avatar.windows import Motion

EXAMPLE = Path(__file__).parents[1] / "docs" / "example" / "talk.wav"
OPTIONS, FRAMES = DriveOptions(), 50
REST = np.zeros(len(CURVES), np.float32)
REST[INDEX["jawOpen"]] = 0.1  # the photo's mouth is a little open
RATE = 16_000


@pytest.fixture(scope="module")
def driver() -> SpeechDriver:
    return SpeechDriver.from_pretrained()


@pytest.fixture(scope="module")
def talk() -> AudioSignal:
    return AudioSignal.from_file(EXAMPLE).cut(0, 2)


def whole(pieces: Sequence[Motion]) -> Motion:
    return pieces[0].joined(*pieces[1:])


def spoken(driver: SpeechDriver, *sounds: Sound, frames: int = FRAMES) -> Motion:
    return whole(list(speak(driver, Voice(sounds, OPTIONS.fps, frames), REST, OPTIONS, frames)))


def idling(frames: int = FRAMES) -> Motion:
    return whole(list(idle(REST, OPTIONS, frames)))


def test_lips_are_the_voices_as_far_as_it_is_strong_and_may_move_them(talk: AudioSignal) -> None:
    """The strongest moment counts for the whole video."""
    for sounds, expected in (
        ([talk], 1),
        ([talk.scaled(0.5)], 0.5),
        ([talk.scaled([(0, 0.25), (1, 2)])], 1),
        ([talk.scaled(0.2), talk.scaled(0.7)], 0.7),
        ([talk.masked("eyes")], 0),
    ):
        assert Voice(sounds, OPTIONS.fps, FRAMES).articulates == pytest.approx(expected)


def both(motion: Motion) -> NDArray[np.float32]:
    return np.concatenate([motion.curves, motion.head], 1)


def test_an_idle_face_keeps_its_mouth_and_blinks_and_sways() -> None:
    motion = idling(250)
    mouth = list(PART_CURVES["mouth"])
    assert np.allclose(motion.curves[:, mouth], REST[mouth]) and motion.audio is None
    assert np.ptp(motion.curves[:, INDEX["eyeBlinkLeft"]]) > 0.8 and np.ptp(motion.head[:, 0]) > 0.01


def test_a_record_and_a_recording_move_a_face_alike(driver: SpeechDriver) -> None:
    record, stream = spoken(driver, AudioSignal.from_file(EXAMPLE)), spoken(driver, read_sound(EXAMPLE))
    assert np.array_equal(both(record), both(stream))
    assert record.audio is not None and stream.audio is not None
    assert bool((record.audio == stream.audio).all()) and len(record.audio) == FRAMES


def test_strength_moves_a_face_in_a_straight_line_from_idling(
    driver: SpeechDriver, talk: AudioSignal
) -> None:
    """idle + strength (spoken - idle) at 50 Hz; where the lips meet, a frame is one moment, no mean."""
    still, full = both(idling()), both(spoken(driver, talk))
    sizes = [np.abs(both(spoken(driver, talk.scaled(s))) - still).mean() for s in (0, 0.25, 0.5, 0.75, 1)]
    assert sizes[0] < 1e-3 and np.all(np.diff(sizes) > 0.1 * sizes[-1])
    half = both(spoken(driver, talk.scaled(0.5)))
    assert np.median(np.abs(half - (still + full) / 2)) < 1e-6
    louder = spoken(driver, talk.scaled(1.5)).curves[:, INDEX["jawOpen"]]
    assert louder.max() > 1.2 * full[:, INDEX["jawOpen"]].max()


def test_strength_follows_its_curve_over_time(driver: SpeechDriver, talk: AudioSignal) -> None:
    motion = spoken(driver, talk.scaled([(0.99, 1), (1.0, 0)]))
    full = spoken(driver, talk)
    assert np.array_equal(both(motion)[:23], both(full)[:23])
    assert np.allclose(both(motion)[27:-1], both(idling())[27:-1], atol=1e-6)
    assert motion.audio_strength is not None and full.audio_strength is not None
    assert motion.audio_strength.tolist() == [1.0] * 25 + [0.0] * 25
    assert full.audio_strength.tolist() == [1.0] * 50
    over = spoken(driver, talk.scaled([(0, 0), (2, 2)])).audio_strength
    assert over is not None and np.allclose(over.numpy(), np.arange(50) / 25, atol=1e-3)


@pytest.mark.parametrize("part", ["mouth", "eyes", "head"])
def test_a_mask_lets_the_other_parts_idle(driver: SpeechDriver, talk: AudioSignal, part: str) -> None:
    columns = np.zeros(len(CURVES) + 6, bool)
    columns[list(PART_CURVES[part]) or range(len(CURVES), len(CURVES) + 6)] = True
    motion, full, still = spoken(driver, talk.masked(part)), spoken(driver, talk), idling()
    assert np.array_equal(both(motion)[:, columns], both(full)[:, columns])
    assert np.allclose(both(motion)[:-1, ~columns], both(still)[:-1, ~columns], atol=1e-6)  # the end holds
    assert np.abs(both(full)[:, columns] - both(still)[:, columns]).max() > 0.01
    assert motion.audio_strength is not None
    assert bool(motion.audio_strength.any()) == (part == "mouth")  # the net hears what moves the mouth


def test_a_face_that_has_nothing_more_to_say_idles(driver: SpeechDriver, talk: AudioSignal) -> None:
    short = talk.cut(0, 1)
    motion = spoken(driver, short, frames=75)
    assert len(motion.curves) == 75 and motion.audio is not None and len(motion.audio) == 75
    assert np.allclose(both(motion)[27:-1], both(idling(75))[27:-1], atol=1e-6)
    assert np.abs(motion.curves[:25, list(EYES)]).max() > 0.1


def heard(*sounds: Sound, frames: int = FRAMES) -> NDArray[np.float32]:
    return np.concatenate(list(Voice(sounds, OPTIONS.fps, frames).pieces()))


def test_sounds_of_one_face_are_heard_as_one() -> None:
    """sum of strength_i / strongest x sound_i; a sound that has ended has no strength."""
    flat = [AudioSignal(waveform=np.full((RATE * 2, 1), level, np.float32)) for level in (0.2, 0.4)]
    weak = flat[1].scaled(0.5)
    assert np.allclose(heard(flat[0], weak), 0.2 + 0.5 * 0.4)
    voice = Voice([flat[0].cut(0, 1), weak], OPTIONS.fps, FRAMES)
    assert voice.strength_at(np.array([0.5, 1.5])).tolist() == [1.0, 0.5]
    alone = np.concatenate(list(voice.pieces()))
    assert np.allclose(alone[int(1.1 * RATE) :], 0.4) and np.allclose(alone[:RATE], 0.4)
    assert np.array_equal(heard(flat[0].scaled(0.3)), flat[0].waveform[:, 0])  # one sound is as it is


def test_silence_follows_only_where_the_video_goes_on() -> None:
    flat = AudioSignal(waveform=np.ones((RATE, 1), np.float32))
    assert len(heard(flat, frames=25)) == RATE
    longer = heard(flat, frames=600)
    assert len(longer) == 24 * RATE and longer[RATE:].max() == 0 and longer[:RATE].min() == 1
    odd = AudioSignal(waveform=np.ones((RATE + 1, 1), np.float32))
    assert len(heard(odd, frames=26)) == RATE + 1  # 26 frames are ceil(1.00006 s x 25)


def test_sounds_that_differ_in_mask_or_steps_are_refused(talk: AudioSignal) -> None:
    for other in (talk.masked("mouth"), talk.over_steps((0, 0))):
        with pytest.raises(UserError, match=r"the sounds of one face differ in their (mask|steps), mix them"):
            Voice([talk, other], Fraction(25), FRAMES)


def test_a_voice_has_the_schedule_of_its_sounds(talk: AudioSignal) -> None:
    voice = Voice([talk.over_steps((0.0, 1.0), (0.5, 0.0))], Fraction(25), FRAMES)
    assert [voice.schedule(time) for time in (0, 0.25, 0.5, 0.9)] == [1, 0.5, 0, 0]
    assert Voice([talk], Fraction(25), FRAMES).schedule(0.7) == 1
