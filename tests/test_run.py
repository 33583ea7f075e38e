"""`avatar drive` behind its options: whom a driver is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from avatar.run import addressed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:a.wav", (0, "a.wav")),
        ("12:talks/a b.wav", (12, "talks/a b.wav")),
        ("1:happy", (1, "happy")),
        ("0:C:\\talks\\a.wav", (0, "C:\\talks\\a.wav")),
        ("C:\\talks\\a.wav", (None, "C:\\talks\\a.wav")),
        ("a:0.wav", (None, "a:0.wav")),
        ("-1:a.wav", (None, "-1:a.wav")),
        ("./0:a.wav", (None, "./0:a.wav")),
        ("0:", (None, "0:")),
        ("happy", (None, "happy")),
    ],
)
def test_a_number_and_a_colon_are_a_face(text: str, expected: tuple[int | None, str]) -> None:
    assert addressed(text) == expected


def test_a_file_of_such_a_name_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("10:30.wav").touch()
    assert addressed("10:30.wav") == (None, "10:30.wav")
    Path("30.wav").touch()
    assert addressed("10:30.wav") == (10, "30.wav") and addressed("./10:30.wav") == (None, "./10:30.wav")
