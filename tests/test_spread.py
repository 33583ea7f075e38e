"""What is done to many items leaves no memory behind."""

from __future__ import annotations

import ctypes
import mmap
from pathlib import Path

import pytest

from avatar.recipes.spread import give_back

GLIBC = Path("/proc/self/statm").exists() and hasattr(ctypes.CDLL(None), "malloc_trim")
BLOCK, BLOCKS = 100_000, 1000  # bytes: small enough for the heap, which shrinks at its end only


@pytest.mark.skipif(not GLIBC, reason="needs Linux with glibc")
def test_free_memory_between_used_memory_goes_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    blocks = [b"\1" * (BLOCK + number % 2) for number in range(BLOCKS)]
    full = resident()
    last = blocks[-1]
    del blocks
    give_back()
    assert len(last) == BLOCK + 1
    assert full - resident() > 0.9 * BLOCK * BLOCKS
