"""Tags of sound: a made sound is what it was made as, a hum is no music, pieces do not matter."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import tone
from numpy.typing import NDArray
from scipy.signal import resample_poly

from avatar.media import RATE, read_audio
from avatar.recipes import sound
from avatar.recipes.heard import consistency, hear
from avatar.recipes.modal import RATE as MADE_RATE
from avatar.recipes.shots import FPS
from avatar.recipes.sound_tags import TAGS, Spectrum, leading, shares, tag, tones
from avatar.recipes.sounding import MAKERS

SECONDS = 5.94
SAMPLES = round(SECONDS * RATE)
Array = NDArray[np.float32]


def made(name: str, rng: np.random.Generator) -> Array:
    """A sound of the scenes that soundtracks are learnt from."""
    return resample_poly(MAKERS[name](SECONDS, rng, False).sound, RATE // 50, MADE_RATE // 50)


def tagged(wave: Array, level: float = 0.5) -> dict[str, float]:
    return shares(hear([(level * wave / np.abs(wave).max()).astype(np.float32)]).tags)


MUSIC: dict[str, Callable[[np.random.Generator], Array]] = {
    "chords": lambda rng: sound.music(SAMPLES, rng),
    "melody": lambda rng: made("music", rng),
}
SOUNDS: dict[str, Callable[[np.random.Generator], Array]] = {
    "hum": lambda rng: sound.hum(SAMPLES, rng),
    "noise": lambda rng: sound.coloured_noise(SAMPLES, 1.0, rng),
    **{
        name: lambda rng, name=name: made(name, rng)  # type: ignore[misc]
        for name in ("rain", "wind", "engine", "fan", "crowd", "knock", "footsteps", "typing")
    },
}


@pytest.mark.parametrize("name", MUSIC)
def test_music_is_pure_music(name: str) -> None:
    found = [tagged(MUSIC[name](np.random.default_rng(seed))) for seed in (100, 101, 102)]
    assert np.mean([one["pure music"] for one in found]) > 0.85
    assert {leading(one) for one in found} == {"pure music"}


@pytest.mark.parametrize("name", SOUNDS)
def test_other_sounds_are_no_music(name: str) -> None:
    found = [tagged(SOUNDS[name](np.random.default_rng(seed))) for seed in (100, 101, 102)]
    assert np.mean([one["music"] + one["pure music"] + one["speech"] for one in found]) < 0.25
    assert {leading(one) for one in found} == {"sound"}


def test_speech_is_speech_and_music_under_it_is_heard_in_part(speech: Path) -> None:
    wave = read_audio(speech)
    alone = tagged(wave)
    assert alone["speech"] > 0.6 and alone["music"] < 0.1 and alone["pure music"] < 0.05
    under = sound.music(len(wave), np.random.default_rng(0))
    found = tagged(wave / wave.std() + 0.7 * under)
    assert found["music"] + found["pure music"] > 0.2
    assert leading(tagged(np.concatenate([wave, np.zeros(2 * len(wave), np.float32) + 1e-9]))) == "speech"


def test_silence_is_silence() -> None:
    found = shares(hear([np.zeros(3 * RATE, np.float32)]).tags)
    assert found == {**dict.fromkeys(TAGS, 0.0), "silence": 1.0} and leading(found) == "silence"
    assert len(tag(np.ones(4, bool), np.zeros(4), np.zeros(0), np.zeros(0))) == 4


def test_a_tone_is_steady_and_noise_is_not() -> None:
    for wave, steady, alike in (
        (tone(4.0, RATE), True, True),
        (0.1 * np.random.default_rng(0).standard_normal(4 * RATE), False, False),
    ):
        spectrum = Spectrum()
        spectrum.add(wave.astype(np.float32))
        share, again = tones(spectrum.finish())
        assert (np.median(share) > 0.95) == steady and (np.median(again) > 0.95) == alike
        assert len(share) == len(again) == pytest.approx(4 * 12.5, abs=1)


def test_a_spectrum_does_not_depend_on_the_pieces() -> None:
    wave = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
    whole, cut = Spectrum(), Spectrum()
    whole.add(wave)
    for piece in np.split(wave, [1, 700, 9000, 9001]):
        cut.add(piece)
    np.testing.assert_array_equal(whole.finish(), cut.finish())


def test_motion_that_goes_with_the_sound_is_consistent() -> None:
    """Blows twice a second; what moves with each, with others, or not at all."""
    rng = np.random.default_rng(0)
    wave, speed = np.zeros(8 * RATE, np.float32), np.zeros(8 * FPS, np.float32)
    for at in np.arange(0.3, 7.8, 0.5) + rng.uniform(-0.15, 0.15, 15):
        start = int(at * RATE)
        wave[start : start + 3000] += 0.3 * rng.standard_normal(3000) * np.exp(-np.arange(3000) / 600)
        speed[int(at * FPS) : int(at * FPS) + 3] = 1
    heard = hear([wave])
    with_it, without = consistency(speed, heard), consistency(rng.permutation(speed), heard)
    assert with_it is not None and with_it > 0.7
    assert without is not None and without < 0.45
    assert consistency(np.zeros_like(speed), heard) is None
    assert consistency(speed, hear([np.zeros(8 * RATE, np.float32)])) is None
