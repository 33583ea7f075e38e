"""When somebody speaks, and how far other sound steps back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avatar.drivers.ducking import AHEAD, HOLD, RATE, STEP, Ducking, speaking, speech_probability
from avatar.media import read_audio


def test_speech_is_found_where_it_is(speech: Path) -> None:
    sound = read_audio(speech)
    padded = np.concatenate([np.zeros(RATE, np.float32), sound, np.zeros(RATE, np.float32)])
    found = speech_probability([padded]) > 0.5
    assert len(found) == -(-len(padded) // STEP)
    lead = RATE // STEP
    assert found[: lead - 2].mean() < 0.1
    assert found[lead + 10 : -lead - 10].mean() > 0.6


def test_noise_is_not_speech_and_pieces_do_not_matter(speech: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert (speech_probability([noise]) > 0.5).mean() < 0.05
    sound = read_audio(speech)[: 2 * RATE]
    whole = speech_probability([sound])
    np.testing.assert_allclose(
        speech_probability([sound[:1000], sound[1000:1700], sound[1700:]]), whole, atol=1e-6
    )


def test_margins_around_speech() -> None:
    probability = np.zeros(60, np.float32)
    probability[30:32] = 0.9
    active = np.flatnonzero(speaking(probability))
    assert (active[0], active[-1]) == (30 - AHEAD, 31 + HOLD)
    assert len(speaking(np.zeros(0, np.float32))) == 0


def test_sound_steps_back_and_comes_back() -> None:
    active = np.zeros(100, np.float32)
    active[40:60] = 1
    gain = Ducking(active, 9.0).gain(0, 100 * STEP, RATE)
    assert gain[: 39 * STEP] == pytest.approx(1.0)
    assert 20 * np.log10(gain[59 * STEP]) == pytest.approx(-9, abs=0.1)
    assert 20 * np.log10(gain[-1]) == pytest.approx(0, abs=0.5)
    assert np.abs(np.diff(gain)).max() < 2e-3  # no clicks


def test_a_sound_in_pieces_is_changed_as_the_whole() -> None:
    duck = Ducking(np.array([0, 1, 1, 0, 0], np.float32), 6.0)
    sound = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    pieces = np.concatenate(list(duck.apply([sound[:1], sound[1:999], sound[999:]], 22_050)))
    np.testing.assert_allclose(pieces, next(iter(duck.apply([sound], 22_050))), rtol=1e-6)
