"""Sound as a signal: cut, joined, looped and mixed; a record and a recording give the same."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import tone, write_wav
from numpy.typing import NDArray

from avatar import media
from avatar.drivers.audio_signal import AudioSignal, Recording, read_sound
from avatar.errors import UserError

RATE = 16_000


def sound(seconds: float, level: float = 0.5) -> AudioSignal:
    """A sound that is the same number all the time."""
    return AudioSignal(waveform=np.full((round(seconds * RATE), 1), level, np.float32))


def heard(signal: AudioSignal | Recording, seconds: float = 0.7) -> NDArray[np.float32]:
    return np.concatenate(list(signal.pieces(seconds)))


def test_a_file_is_heard_alike_as_a_record_and_as_a_recording(recording: Path) -> None:
    record, stream = AudioSignal.from_file(recording), read_sound(recording)
    assert isinstance(stream, Recording) and record.seconds == stream.seconds == Fraction(23, 10)
    assert np.array_equal(heard(record), media.read_audio(recording))
    assert np.array_equal(heard(record), heard(stream))
    assert [len(piece) for piece in record.pieces(1)] == [RATE, RATE, round(0.3 * RATE)]


def test_it_is_cut_joined_and_looped_to_the_sample() -> None:
    joined = sound(0.5, 0.1).joined(sound(0.25, 0.2))
    assert joined.seconds == Fraction(3, 4)
    assert np.array_equal(np.unique(joined.waveform), np.float32([0.1, 0.2]))
    part = joined.cut(0.4, 0.6)
    assert len(part) == 3200 and part.waveform[1599, 0] == np.float32(0.1)
    assert part.waveform[1600, 0] == np.float32(0.2)
    assert np.array_equal(heard(part.looped(0.35)), np.resize(part.waveform[:, 0], round(0.35 * RATE)))


def test_in_a_mix_each_counts_by_its_weight_until_it_ends() -> None:
    mix = sound(1, 0.8).mixed([sound(0.5, 0.4)], [1, 3])
    assert np.allclose(mix.waveform[: RATE // 2], 0.25 * 0.8 + 0.75 * 0.4)
    assert np.allclose(mix.waveform[RATE // 2 :], 0.8)
    muted = sound(1, 0.8).scaled([(0, 0), (1, 1)]).mixed([sound(1, 0.4)], [1, 1])
    assert muted.waveform[0, 0] == np.float32(0.4)  # at strength 0 the first is not there


def test_strength_is_of_the_time_and_its_last_value_holds() -> None:
    faded = sound(1).scaled([(0, 0), (1, 1)])
    assert np.allclose(faded.strength_at(np.array([0, 0.25, 0.5, 3])), [0, 0.25, 0.5, 1], atol=1e-4)
    assert np.array_equal(heard(faded), heard(sound(1)))  # the sound itself stays as loud
    quarter = Recording(path=Path("a.wav"), seconds=Fraction(1)).scaled(0.5).scaled(0.5)
    assert quarter.strength_at(np.arange(3)).tolist() == [0.25] * 3


def test_a_file_gives_back_what_was_saved(tmp_path: Path) -> None:
    signal = sound(0.2).joined(sound(0.1, 0.3)).scaled(0.5).masked("mouth").on_face(1)
    signal.save(tmp_path / "a.safetensors")
    for back in (AudioSignal.from_file(tmp_path / "a.safetensors"), read_sound(tmp_path / "a.safetensors")):
        assert isinstance(back, AudioSignal) and np.array_equal(back.waveform, signal.waveform)
        assert np.array_equal(back.strength, signal.strength)
        assert (back.mask, back.face, back.fps) == ({"mouth"}, 1, RATE)


def test_the_sound_file_of_a_record_is_its_waveform_and_of_a_recording_itself(
    tmp_path: Path, recording: Path
) -> None:
    record = AudioSignal.from_file(recording).cut(0.5, 1.2)
    written = record.sound_file(tmp_path / "part.wav")
    assert np.array_equal(media.read_audio(written), record.waveform[:, 0])
    assert read_sound(recording).sound_file(tmp_path / "none.wav") == recording
    assert not (tmp_path / "none.wav").exists()


def test_other_rates_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="44100 samples a second: must have 16000"):
        AudioSignal(fps=Fraction(44_100), waveform=np.zeros((5, 1), np.float32))
    with pytest.raises(UserError, match="must have 16000"):
        sound(1).resampled(Fraction(8000))
    with pytest.raises(UserError, match="no such sound"):
        AudioSignal.from_file(tmp_path / "none.wav")
    write_wav(tmp_path / "a.wav", tone(0.1, RATE), RATE)
    (tmp_path / "a.wav").rename(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="is not a signals file"):
        read_sound(tmp_path / "a.safetensors")
