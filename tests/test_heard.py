"""What is heard over frames: silence, speech, and mouths that move with it or do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import tone

from avatar.media import RATE, read_audio
from avatar.recipes.heard import FLOOR, HOP, Heard, hear, lip_sync
from avatar.recipes.shots import FPS
from avatar.recipes.sound_tags import TAGS


def test_loudness_and_silence_of_a_tone() -> None:
    sound = np.concatenate([np.zeros(RATE), tone(1.0, RATE), np.zeros(2 * RATE)]).astype(np.float32)
    heard = hear([sound[:1000], sound[1000:]])
    assert len(heard.level) == len(heard.speech) == 4 * FPS
    assert heard.silence == pytest.approx(0.75, abs=0.01)
    # A sine of amplitude 0.5 has a power of 0.125, -9.03 dB.
    assert heard.level[FPS + 5] == pytest.approx(10 * np.log10(0.125), abs=0.1)
    assert heard.level[0] == pytest.approx(FLOOR)
    assert heard.speaking < 0.1


def test_pieces_do_not_matter(speech: Path) -> None:
    sound = read_audio(speech)
    whole, cut = hear([sound]), hear([sound[:777], sound[777:50_000], sound[50_000:]])
    np.testing.assert_allclose(whole.level, cut.level, atol=1e-4)
    np.testing.assert_allclose(whole.speech, cut.speech, atol=1e-4)
    assert whole.speaking > 0.6


def test_a_part_reaches_beyond_the_end_in_silence() -> None:
    heard = Heard(np.full(10, -20, np.float32), np.ones(10, np.float32), np.full(10, 2, np.int8))
    part = heard.part(7, 6)
    assert part.level.tolist() == [-20, -20, -20, FLOOR, FLOOR, FLOOR]
    assert part.speech.tolist() == [1, 1, 1, 0, 0, 0]
    assert [TAGS[number] for number in part.tags] == ["speech"] * 3 + ["silence"] * 3
    assert heard.part(20, 3).level.tolist() == [FLOOR] * 3


@pytest.mark.parametrize("late", [-6, 0, 4])
def test_a_mouth_that_opens_with_the_sound_is_in_sync_and_its_lag_is_told(speech: Path, late: int) -> None:
    sound = read_audio(speech)
    heard = hear([sound])
    rng = np.random.default_rng(0)
    opening = 10 ** (heard.level / 40) + 0.02 * rng.standard_normal(len(heard.level))
    found = lip_sync(np.roll(opening, late).astype(np.float32), heard)
    assert found is not None
    assert found[0] > 0.9 and found[1] == late


def test_a_mouth_of_other_words_is_not(speech: Path) -> None:
    heard = hear([read_audio(speech)])
    opening = 10 ** (heard.level[::-1] / 40)
    found = lip_sync(opening, heard)
    assert found is not None and (found[0] < 0.5 or abs(found[1]) > 3)


def test_silence_says_nothing_of_a_mouth() -> None:
    heard = hear([np.zeros(4 * RATE, np.float32)])
    assert lip_sync(np.zeros(4 * FPS, np.float32), heard) is None
    assert heard.silence == 1.0
    assert HOP * FPS == RATE
