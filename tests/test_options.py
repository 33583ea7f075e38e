"""Options say what is wrong with them, and mean exactly what they say."""

from __future__ import annotations

from fractions import Fraction

import pytest

from avatar.errors import UserError
from avatar.media import frame_count
from avatar.options import DriveOptions


def test_seconds_and_rates_are_exact() -> None:
    options = DriveOptions(seconds=2.4, fps="29.97")
    assert (options.seconds, options.fps) == (Fraction(24, 10), Fraction(30000, 1001))
    assert frame_count(DriveOptions(seconds=2.4).seconds or Fraction(0), Fraction(25)) == 60  # by float: 61


def test_numbers_serve_as_rates() -> None:
    assert DriveOptions(fps=25).fps == 25
    assert DriveOptions(fps=23.976).fps == Fraction(24000, 1001)


def test_a_misspelt_option_is_corrected() -> None:
    with pytest.raises(UserError, match="unknown option 'head_montion', did you mean 'head_motion'"):
        DriveOptions(head_montion=1)


def test_options_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DriveOptions().seed = 3  # type: ignore[misc]
