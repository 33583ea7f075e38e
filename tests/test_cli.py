"""The command line as users meet it: help, versions, what a run prints, and one video from end to end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import run_avatar, tone, write_wav
from PIL import Image

from avatar import media
from avatar.options import DriveOptions


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from avatar.cli import app\n"
        "try:\n    app(['drive', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mediapipe', 'cv2', 'whisper', 'librosa', 'numba'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    start = time.monotonic()
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    assert time.monotonic() - start < 5  # 0.6 s on an idle machine; five for one that trains beside
    for name in DriveOptions.model_fields:
        assert "--" + name.replace("_", "-") in told.stdout


@pytest.mark.parametrize("command", [["avatar"], [sys.executable, "-m", "avatar"]])
def test_both_ways_to_call_it_work(command: list[str]) -> None:
    program = Path(sys.executable).with_name("avatar")
    command = [str(program)] if command == ["avatar"] else command
    told = subprocess.run([*command, "--version"], capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.startswith("avatar-toolkit ")


def test_a_two_second_clip_from_end_to_end(tmp_path: Path, portrait: Path, speech: Path) -> None:
    out = tmp_path / "talk.mp4"
    told = run_avatar(
        "drive", "--ref", portrait, "--audio", speech, "--out", out, "--seconds", "2", "--seed", "7"
    )
    assert told.code == 0, told.stderr
    info = media.video_info(out)
    assert (info.width, info.height, info.fps, info.frames, info.has_audio) == (512, 512, 25, 50, True)
    assert abs(media.audio_seconds(out) - 2) < 0.001
    for said in ("512x512", "frames 50", "fps 25", "seed 7", "preset mini", "50/50"):
        assert said in told.stderr
    heard, given = media.read_audio(out), media.read_audio(speech)[:32_000]
    assert np.corrcoef(heard[: len(given)], given)[0, 1] > 0.95  # AAC in between
    frames = list(media.read_video(out))
    assert max(np.abs(frame.astype(int) - frames[0]).max() for frame in frames) > 40  # something moves


def test_two_faces_speak_each_its_own_sound(tmp_path: Path, portrait: Path, speech: Path) -> None:
    """Also with every signal of one person at once, and an mp4 as a driver."""
    with Image.open(portrait) as picture:
        both = Image.new("RGB", (700, 400))
        for left in (0, 350):
            both.paste(picture.crop((50, 0, 400, 400)), (left, 0))
    both.save(tmp_path / "both.png")
    out = tmp_path / "both.mp4"
    arguments = ["--ref", tmp_path / "both.png", "--out", out, "--seconds", "0.4", "--size", "350"]
    told = run_avatar(
        "drive", *arguments, "--audio", f"0:{speech}", "--audio", f"1:{speech}", "--expression", "1:sad"
    )
    assert told.code == 0, told.stderr
    assert f"0:{speech} + 1:{speech} + 1:sad -> {out}" in told.stderr
    assert media.video_info(out).frames == 10 and media.video_info(out).has_audio


def test_quiet_is_quiet_and_the_seed_decides(tmp_path: Path, portrait: Path, speech: Path) -> None:
    def film(name: str, seed: str) -> bytes:
        out = tmp_path / name
        told = run_avatar(
            "drive",
            "--ref",
            portrait,
            "--audio",
            speech,
            "--out",
            out,
            "--seconds",
            "0.6",
            "--seed",
            seed,
            "--quiet",
        )
        assert (told.code, told.stdout, told.stderr) == (0, "", "")
        return b"".join(frame.tobytes() for frame in media.read_video(out))

    first = film("a.mp4", "1")
    assert film("b.mp4", "1") == first
    assert film("c.mp4", "2") != first


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_with_130_and_leaves_nothing(
    tmp_path: Path, portrait: Path, stop: signal.Signals
) -> None:
    audio = write_wav(tmp_path / "long.wav", tone(60, 16_000), 16_000)
    folder = tmp_path / "out"
    folder.mkdir()
    arguments = ["drive", "--ref", portrait, "--audio", audio, "--out", folder / "a.mp4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "avatar", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background is started with Ctrl-C ignored; this one must hear it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:  # the settings are printed right before the first frame
        if "frames 1500" in line:
            break
    time.sleep(1)
    assert [path.suffix for path in folder.iterdir()] == [".part"]
    process.send_signal(stop)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(folder.iterdir()) == []
