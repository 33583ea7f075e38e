"""Inputs shared by the tests. They are looked at and measured here; nothing is ever trained on them."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from avatar import Animator, ffmpeg
from avatar.options import DriveOptions
from avatar.writer import VideoWriter

EXAMPLE = Path(__file__).parents[1] / "docs" / "example"


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """A real portrait, (512, 512, 3): one face of 110 px that looks at the camera."""
    return data.astronaut()


@pytest.fixture(scope="session")
def portrait(astronaut: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("portrait") / "astronaut.png"
    Image.fromarray(astronaut).save(path)
    return path


def write_wav(path: Path, sound: NDArray[np.floating], rate: int, width: int = 2) -> Path:
    """`sound` in -1..1, (samples,) or (samples, channels), as little-endian PCM of `width` bytes."""
    channels = 1 if sound.ndim == 1 else sound.shape[1]
    whole = np.round(sound * (2 ** (8 * width - 1) - 1)).astype("<i4")
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(whole.reshape(-1, 1).view(np.uint8)[:, :width].tobytes())
    return path


def edit_metadata(path: Path, **changes: str) -> None:
    """Change what a safetensors file says about itself, the tensors left alone."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] |= changes
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def level_film(path: Path, rate: int, frames: int, audio: Path | None = None) -> Path:
    """A video whose frames can be told by their looks: the level rises by three from one to the next."""
    sound = {} if audio is None else {"audio": audio, "seconds": Fraction(frames, rate)}
    with VideoWriter(path, size=(160, 96), fps=Fraction(rate), crf=1, **sound) as writer:  # type: ignore[arg-type]
        for number in range(frames):
            writer.write(np.full((96, 160, 3), 20 + 3 * number, np.uint8))
    return path


def number_of(frame: NDArray[np.uint8]) -> float:
    """Number of a frame of a `level_film`."""
    return (float(frame.mean()) - 20) / 3


def tone(seconds: float, rate: int, hertz: float = 440.0) -> NDArray[np.float64]:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2.3 s of a tone, 16 kHz mono."""
    return write_wav(tmp_path_factory.mktemp("sound") / "tone.wav", tone(2.3, 16_000), 16_000)


def convert(source: Path, target: Path, *options: str) -> Path:
    """`source` as ffmpeg writes it under the name of `target`."""
    command = ffmpeg.command("-y", "-i", str(source), *options, str(target))
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return target


@pytest.fixture(scope="session")
def speech() -> Path:
    """The example recording, 5.3 s."""
    return EXAMPLE / "talk.wav"


@pytest.fixture(scope="session")
def face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example picture at 256 px."""
    path = tmp_path_factory.mktemp("face") / "face.png"
    with Image.open(EXAMPLE / "face.png") as picture:
        picture.convert("RGB").resize((256, 256), Image.Resampling.LANCZOS).save(path)
    return path


@pytest.fixture(scope="session")
def animator() -> Animator:
    return Animator.from_pretrained("mini", device="cpu")


@pytest.fixture(scope="session")
def talking(animator: Animator, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head of the example picture at 512 px speaks for 4 s: footage that every filter keeps."""
    folder = tmp_path_factory.mktemp("talking")
    with Image.open(EXAMPLE / "face.png") as picture:
        head = picture.convert("RGB").crop((80, 0, 370, 290))
        head.resize((512, 512), Image.Resampling.LANCZOS).save(folder / "head.png")
    session = animator.session(folder / "head.png", speech, DriveOptions(seconds=Fraction(4)))
    session.save(folder / "talking.mp4")
    return folder / "talking.mp4"


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a public release at a reduced width, by its preset; written when first asked for."""
    from avatar.recipes import tiny_hunyuan

    root = tmp_path_factory.mktemp("checkpoints")

    def written(preset: str) -> Path:
        if not (root / preset).exists():
            tiny_hunyuan.write(root / preset, preset)
        return root / preset

    return written


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, in place of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Told(NamedTuple):
    """What a run of the command line gave."""

    code: int
    stdout: str
    stderr: str


def run_avatar(*arguments: object) -> Told:
    """`avatar` in a process of its own."""
    command = [sys.executable, "-m", "avatar", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return Told(done.returncode, done.stdout, done.stderr)
