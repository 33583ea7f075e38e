"""Phones: both alphabets, files, espeak-ng, forced alignment."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from avatar import phones
from avatar.errors import UserError


def kinds(*symbols: str) -> list[str]:
    rows = [(i * 0.1, i * 0.1 + 0.1, symbol) for i, symbol in enumerate(symbols)]
    return [phone.kind for phone in phones.classify(rows)]


ALL = ["closed", "open", "rounded", "spread", "other", "pause"]


def test_arpabet_in_either_case_and_with_stress() -> None:
    assert kinds("M", "AA1", "UW0", "IY", "T", "SIL") == ALL
    assert kinds("m", "aa", "uw", "iy", "t", "sil") == ALL


def test_ipa_with_marks() -> None:
    assert kinds("p\u02b0", "\u0251\u02d0", "u\u02d0", "i\u02d0", "\u0283", "") == ALL
    assert kinds("a\u026a", "\u0259\u028a", "e\u026a") == ["open", "rounded", "spread"]
    assert kinds("\u0254\u0303", "\u0251\u0303", "y") == ["rounded", "open", "rounded"]  # French
    assert kinds("\u00e4", "o\u031e", "\u026f\u1d5d") == ["open", "rounded", "other"]  # Japanese


def test_pauses_join_and_empty_phones_go() -> None:
    found = phones.classify([(0, 0.1, ""), (0.1, 0.3, "_:"), (0.3, 0.3, "a"), (0.3, 0.5, "a")])
    assert [(p.start, p.end, p.kind) for p in found] == [(0, 0.3, "pause"), (0.3, 0.5, "open")]


def test_silence_before_and_after() -> None:
    found = phones.shifted(phones.classify([(0, 0.1, "SIL"), (0.1, 0.2, "M")]), 0.5, 0.3)
    assert [(round(p.start, 3), round(p.end, 3), p.kind) for p in found] == [
        (0, 0.6, "pause"),
        (0.6, 0.7, "closed"),
        (0.7, 1.0, "pause"),
    ]


def test_files(tmp_path: Path) -> None:
    found = phones.classify([(0, 0.1, "m"), (0.1, 0.25, "\u0251\u02d0")])
    phones.save(found, tmp_path / "phones.json")
    assert phones.load(tmp_path / "phones.json") == found
    for text in ("{", "[[0, 1]]", '[["a", 1, "b"]]', "3"):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(UserError, match=r"bad\.json: not a phone file"):
            phones.load(tmp_path / "bad.json")
    with pytest.raises(UserError, match=r"absent\.json"):
        phones.load(tmp_path / "absent.json")
    assert json.loads((tmp_path / "phones.json").read_text())[0] == [0, 0.1, "m"]


@pytest.fixture(scope="module")
def mama() -> tuple[np.ndarray, int, list[phones.Phone]]:
    try:
        return phones.phones_from_espeak("Mama, buy a map.", "en-us")
    except UserError as error:
        pytest.skip(str(error))


def test_espeak_times_lie_on_the_sound(mama: tuple[np.ndarray, int, list[phones.Phone]]) -> None:
    waveform, rate, found = mama
    assert [p.kind for p in found if p.kind in ("closed", "pause")].count("closed") == 5
    assert found[-1].end == pytest.approx(len(waveform) / rate)
    assert all(a.end == pytest.approx(b.start) for a, b in itertools.pairwise(found))
    level = {
        kind: np.mean(
            [
                np.abs(waveform[int(p.start * rate) : int(p.end * rate)]).mean()
                for p in found
                if p.kind == kind
            ]
        )
        for kind in ("pause", "open")
    }
    assert level["pause"] < 0.1 * level["open"]


def test_unknown_voice() -> None:
    with pytest.raises(UserError, match=r"klingon-9|not installed"):
        phones.phones_from_espeak("a", "klingon-9")


def test_alignment_finds_the_phones_of_synthetic_speech(
    mama: tuple[np.ndarray, int, list[phones.Phone]],
) -> None:
    pytest.importorskip("pocketsphinx")
    signal = pytest.importorskip("scipy.signal")
    waveform, rate, exact = mama
    audio = signal.resample_poly(np.pad(waveform, rate // 5), phones.RATE // 50, rate // 50)
    found = phones.align(audio, "mama buy a map")
    wanted = [p.start + 0.2 for p in exact if p.kind == "closed"]
    heard = [p.start for p in found if p.kind == "closed"]
    assert len(heard) == len(wanted) == 5
    assert np.abs(np.array(heard) - wanted).max() < 0.1


def test_alignment_refuses_what_it_cannot_align() -> None:
    pytest.importorskip("pocketsphinx")
    noise = 0.01 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    with pytest.raises(UserError, match="no words"):
        phones.align(noise, "...")
    with pytest.raises(UserError, match="zorgle"):
        phones.align(noise, "zorgle")
    with pytest.raises(UserError, match="does not fit"):
        phones.align(noise, "seven hundred elephants are dancing on the green table")
