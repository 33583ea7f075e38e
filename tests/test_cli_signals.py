"""`avatar signals` as users meet it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Told, run_avatar
from numpy.typing import NDArray
from PIL import Image

from avatar import media
from avatar.drivers.expression import ExpressionSignal
from avatar.drivers.pose import PoseSignal
from avatar.drivers.preview import preview_size
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


# ---- expression --------------------------------------------------------------------------------


def expression(*arguments: object) -> Told:
    return run_avatar("signals", "expression", *arguments)


def write_film(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    height, width = frames[0].shape[:2]
    with VideoWriter(path, size=(width, height), fps=media.parse_fps("25")) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def test_a_face_becomes_a_file_and_a_preview(astronaut: NDArray[np.uint8], tmp_path: Path) -> None:
    heads = [np.ascontiguousarray(astronaut[:256, 80 - x : 400 - x]) for x in (0, 4, 8)]
    film = write_film(tmp_path / "acted.mp4", heads)
    out, preview = tmp_path / "acted.safetensors", tmp_path / "preview.mp4"
    told = expression(film, "--out", out, "--preview", preview)
    assert told.code == 0, told.stderr
    assert "acted.safetensors: 3 frames, fps 25," in told.stderr and "3/3 frames" in told.stderr
    assert "0000 00:00" not in told.stderr and "XNNPACK" not in told.stderr  # MediaPipe's own notes
    signal = ExpressionSignal.load(out)
    assert signal.absolute and signal.curves.shape == (3, 52) and signal.fps == 25
    info = media.video_info(preview)
    assert (info.width, info.height, info.frames, info.fps) == (*preview_size((320, 256)), 3, signal.fps)
    again = expression(film, "--out", out)
    assert (again.code, again.stdout) == (2, "") and "exists already, use --force" in again.stderr
    quiet = expression(film, "--out", out, "--force", "--quiet")
    assert (quiet.code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_a_photo_and_a_film_of_one_frame_stand_still(
    portrait: Path, astronaut: NDArray[np.uint8], tmp_path: Path
) -> None:
    film = write_film(tmp_path / "one.mp4", [astronaut])
    for source in (portrait, film):
        out = tmp_path / f"{source.stem}.safetensors"
        told = expression(source, "--out", out, "--preview", tmp_path / f"{source.stem}-shown.mp4")
        assert told.code == 0, told.stderr
        assert "has a single frame, the expression stands still" in told.stderr
        assert "1 frame, fps 25" in told.stderr
        assert len(ExpressionSignal.load(out)) == 1
        assert media.video_info(tmp_path / f"{source.stem}-shown.mp4").frames == 1
    both = [ExpressionSignal.load(tmp_path / f"{name}.safetensors").curves for name in (portrait.stem, "one")]
    assert np.abs(both[0] - both[1]).max() < 0.2  # the film is coded


def test_a_face_out_of_sight_holds_and_is_told_of(astronaut: NDArray[np.uint8], tmp_path: Path) -> None:
    head, nobody = astronaut[:256, 80:400], np.full((256, 320, 3), 90, np.uint8)
    film = write_film(tmp_path / "gone.mp4", [head, head, *[nobody] * 27])
    out, preview = tmp_path / "gone.safetensors", tmp_path / "shown.mp4"
    told = expression(film, "--out", out, "--preview", preview)
    assert told.code == 0, told.stderr
    assert "note: " in told.stderr and "the face is out of sight for over 1 s, there it holds" in told.stderr
    curves = ExpressionSignal.load(out).curves
    assert len(curves) == 29 and np.ptp(curves[2:], axis=0).max() == 0 and np.abs(curves[2]).max() > 0.05
    assert np.array_equal(curves[-1], curves[1])


def test_a_chosen_face_and_what_is_wrong_with_an_expression(
    astronaut: NDArray[np.uint8], portrait: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.safetensors"
    Image.fromarray(astronaut[300:]).save(tmp_path / "nobody.png")
    nobody = write_film(tmp_path / "nobody.mp4", [astronaut[300:]] * 2)
    wrong: list[tuple[tuple[object, ...], str]] = [
        ((tmp_path / "none.mp4", "--out", out), "none.mp4: no such video"),
        ((nobody, "--out", out), "nobody.mp4: shows no face"),
        ((tmp_path / "nobody.png", "--out", out), "nobody.png: shows no face"),
        ((portrait, "--out", out, "--face", "second"), "--face second: must be largest, a number"),
        ((portrait, "--out", out, "--face", "1"), "there is no face 1"),
        ((portrait, "--out", tmp_path / "a.json"), "give it a name that ends in .safetensors"),
        ((portrait, "--out", out, "--preview", tmp_path / "a.gif"), "give it a name that ends in .mp4"),
        (("happy", "--out", out), "happy: no such video"),
    ]
    for arguments, message in wrong:
        told = expression(*arguments)
        assert told.code == 2 and told.stdout == "", told
        assert message in told.stderr.splitlines()[-1], told.stderr
        assert not out.exists()
    told = expression(portrait, "--out", out, "--face", "170,60,110,120")
    assert told.code == 0, told.stderr


@pytest.mark.parametrize("verb", ["pose", "expression"])
def test_help_loads_nothing_heavy(verb: str) -> None:
    code = (
        "import sys\n"
        "from avatar.cli import app\n"
        f"try:\n    app(['signals', '{verb}', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'mediapipe', 'cv2', 'numba', 'rtmlib', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    choices = {"pose": ("--pose-detector", "--person"), "expression": ("--face",)}
    for option in ("--out", "--preview", "--force", *choices[verb]):
        assert option in told.stdout
