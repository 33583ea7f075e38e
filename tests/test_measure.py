"""Time and memory of programs that are made to take a known amount."""

import sys
from pathlib import Path

import pytest

from avatar import measure
from avatar.errors import UserError


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_of_the_program_and_of_its_children() -> None:
    child = "x = bytearray(60_000_000); import time; time.sleep(0.5)"
    parent = (
        f"import subprocess as s, sys; x = bytearray(120_000_000); s.run([sys.executable, '-c', {child!r}])"
    )
    taken = measure.usage([sys.executable, "-c", parent])
    assert taken.wall > 0.5
    assert 120e6 < taken.memory < 160e6
    assert 60e6 < taken.children < 100e6


def test_a_program_that_fails_says_why() -> None:
    with pytest.raises(UserError, match="code 3: no such thing"):
        measure.usage(
            [sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"]
        )


def test_output_can_be_kept(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        measure.usage([sys.executable, "-c", "print(7)"], file)
    assert (tmp_path / "out").read_text() == "7\n"


def test_quarters_of_a_course() -> None:
    assert measure.quarters([1, 5, 2, 2, 9, 3, 4, 4]) == (5, 2, 9, 4)
    assert measure.quarters([7]) == (0, 0, 0, 7)
