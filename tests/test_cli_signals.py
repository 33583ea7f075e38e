"""`avatar signals pose` as users meet it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Told, run_avatar
from numpy.typing import NDArray

from avatar import media
from avatar.drivers.pose import PoseSignal
from avatar.drivers.skeleton import INDEX
from avatar.writer import VideoWriter


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def film(astronaut: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "dance.mp4"
    with VideoWriter(path, size=(512, 512), fps=media.parse_fps("29.97")) as writer:
        for shift in (0, 4, 8, 12):
            writer.write(np.roll(astronaut, shift, 1))
    return path


def pose(*arguments: object) -> Told:
    return run_avatar("signals", "pose", *arguments)


def test_a_film_becomes_a_file_and_a_preview(film: Path, tmp_path: Path) -> None:
    out, preview = tmp_path / "dance.safetensors", tmp_path / "preview.mp4"
    told = pose(film, "--out", out, "--preview", preview)
    assert told.code == 0, told.stderr
    assert "dance.safetensors: 4 frames, fps 29.97," in told.stderr and "4/4 frames" in told.stderr
    assert "0000 00:00" not in told.stderr  # MediaPipe's own notes
    signal = PoseSignal.load(out)
    assert len(signal) == 4 and signal.fps == media.parse_fps("29.97") and signal.size == (512, 512)
    info = media.video_info(preview)
    assert (info.width, info.height, info.frames, info.fps) == (512, 512, 4, signal.fps)
    x, y = signal.keypoints[0, INDEX["neck"]].astype(int)
    shown = next(media.read_video(preview))[y - 1 : y + 2, x - 1 : x + 2].mean((0, 1))
    assert np.abs(shown - [255, 85, 0]).max() < 60  # the neck's colour, through 4:2:0
    again = pose(film, "--out", out)
    assert (again.code, again.stdout) == (2, "") and "exists already, use --force" in again.stderr
    quiet = pose(film, "--out", out, "--force", "--quiet")
    assert (quiet.code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_what_is_wrong_is_one_line_and_code_2(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    (tmp_path / "text.mp4").write_text("hello")
    wrong: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "none.mp4", "--out", out), "none.mp4: no such video"),
        ((tmp_path / "text.mp4", "--out", out), "text.mp4: not a video that can be read"),
        ((film, "--out", tmp_path / "a.npz"), "give it a name that ends in .safetensors"),
        ((film, "--out", tmp_path / "none" / "a.safetensors"), "no such folder"),
        ((film, "--out", out, "--preview", tmp_path / "a.gif"), "give it a name that ends in .mp4"),
        ((film, "--out", out, "--person", "tall"), "--person tall: must be largest or a number"),
        ((film, "--out", out, "--person", "3"), "there is no person 3 in frame 0"),
        ((film, "--out", out, "--pose-detector", "openpose"), "'openpose' is not one of"),
        (
            (film, "--out", out, "--pose-detector", "dwpose", "--dwpose-files", tmp_path),
            "yolox_l.onnx: no such",
        ),
        ((film, "--out", out, "--dwpose-files", tmp_path), "has no effect without --pose-detector dwpose"),
        ((film,), "Missing option"),
    ]
    for arguments, message in wrong:
        told = pose(*arguments)
        assert told.code == 2 and told.stdout == "", told
        assert told.stderr.startswith("avatar: ") or "\navatar: " in told.stderr
        assert message in told.stderr.splitlines()[-1], told.stderr
        assert not out.exists()


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from avatar.cli import app\n"
        "try:\n    app(['signals', 'pose', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mediapipe', 'cv2', 'numba', 'rtmlib', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    for option in ("--out", "--preview", "--pose-detector", "--person", "--force"):
        assert option in told.stdout
