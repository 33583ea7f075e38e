"""Sound as a driver: a record of samples that is cut, joined and mixed, or a recording read piece by piece.

Both give the same: pieces of mono sound, a strength at any time, and a file that holds the sound. A record is
in memory; a `Recording` is not, however long it is. Shapes: T samples at 16 kHz.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.signal import PARTS, Points, Signal
from avatar.errors import UserError
from avatar.media import RATE, audio_seconds, read_audio, stream_audio

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class AudioSignal(Signal):
    """Speech.

    Attributes:
        waveform: (T, 1), mono at 16 kHz in [-1, 1].
    """

    KIND: ClassVar[str] = "audio"
    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]] = {"waveform": (1,)}
    ELEMENTS: ClassVar[Mapping[str, Mapping[str, Sequence[int]]]] = {"waveform": dict.fromkeys(PARTS, (0,))}

    waveform: Array
    fps: Fraction = Fraction(RATE)

    def __post_init__(self) -> None:
        if self.fps != RATE:
            raise UserError(f"an audio signal of {float(self.fps):g} samples a second: must have {RATE}")
        super().__post_init__()

    @classmethod
    def from_file(cls, path: str | Path) -> AudioSignal:
        """The sound of any file, or a file of `save`.

        Raises:
            UserError: missing, empty, damaged or cut file, no sound track, zero length.
        """
        path = Path(path)
        if path.suffix == ".safetensors":
            return cls.load(path)
        return cls(waveform=read_audio(path)[:, None])

    def pieces(self, seconds: float) -> Iterator[Array]:
        """The sound in pieces (n,) of so many seconds, the last may be shorter."""
        size = round(seconds * RATE)
        for start in range(0, len(self), size):
            yield self.waveform[start : start + size, 0]

    def strength_at(self, times: NDArray[np.floating]) -> Array:
        """Strength at times in seconds, the last held."""
        return self.strength[np.minimum((times * RATE).astype(np.int64), len(self) - 1)]

    def sound_file(self, part: Path) -> Path:
        """A file with the sound: `part`, written here."""
        from scipy.io import wavfile

        wavfile.write(part, RATE, self.waveform)
        return part


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The sound of a file, heard at one strength; see `AudioSignal` and `read_sound`.

    Attributes:
        seconds: exact length, which only decoding the whole can tell.
    """

    path: Path
    seconds: Fraction
    level: float = 1.0
    mask: frozenset[str] = PARTS
    face: int | None = None
    steps: Points = ()

    KIND: ClassVar[str] = "audio"

    @property
    def strength(self) -> Array:
        """The one strength, (1,)."""
        return np.full(1, self.level, np.float32)

    def scaled(self, strength: float) -> Recording:
        """The recording with its strength multiplied by a number."""
        return replace(self, level=self.level * strength)

    def on_face(self, number: int) -> Recording:
        """The recording for a face of the picture, counted from 0 by size."""
        return replace(self, face=number)

    def pieces(self, seconds: float) -> Iterator[Array]:
        """The sound in pieces (n,) of so many seconds, the last may be shorter."""
        return stream_audio(self.path, seconds)

    def strength_at(self, times: NDArray[np.floating]) -> Array:
        """Strength at times in seconds."""
        return np.full(len(times), self.level, np.float32)

    def sound_file(self, part: Path) -> Path:
        """A file with the sound, which is the recording itself; nothing is written to `part`."""
        return self.path


Sound = AudioSignal | Recording


def read_sound(path: str | Path) -> Sound:
    """The sound of any file, to be read while it is heard; of a signals file, as it is.

    Raises:
        UserError: missing, empty, damaged or cut file, no sound track, zero length.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        return AudioSignal.load(path)
    return Recording(path=path, seconds=audio_seconds(path))
