"""Every bad input ends with exit code 2, one line that says what to do, and nothing half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import convert, edit_metadata, run_avatar, tone, write_wav
from numpy.typing import NDArray
from PIL import Image

from avatar import ExpressionSignal, cli, media
from avatar.writer import VideoWriter

Pixels = NDArray[np.uint8]
Refuse = Callable[..., str]


@pytest.fixture
def refuse(
    tmp_path: Path,
    portrait: Path,
    speech: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Refuse:
    """Run `avatar drive` with some options replaced and give its one line of complaint."""

    def run(**options: object) -> str:
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        arguments = {"ref": portrait, "audio": speech, "out": folder / "a.mp4"} | options
        given = [
            part for name, value in arguments.items() for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        monkeypatch.setattr(sys, "argv", ["avatar", "drive", *given])
        before = sorted(folder.iterdir())
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert stopped.value.code == 2
        told = capfd.readouterr().err.splitlines()
        assert [line.startswith("avatar: ") for line in told].count(True) == 1 and "Traceback" not in told, (
            told
        )
        assert sorted(folder.iterdir()) == before
        return told[-1]

    return run


def save(path: Path, picture: Pixels) -> Path:
    Image.fromarray(picture).save(path)
    return path


def truncated(path: Path, share: float = 0.6) -> Path:
    cut = path.with_name("cut_" + path.name)
    content = path.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    return cut


# ---- pictures


def test_no_face(refuse: Refuse, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert "noise.png: no face found; use a picture of a person" in refuse(
        ref=save(tmp_path / "noise.png", noise)
    )


def test_several_faces_and_a_number_too_high(refuse: Refuse, tmp_path: Path, astronaut: Pixels) -> None:
    both = save(tmp_path / "both.png", np.concatenate([astronaut, astronaut[:, ::-1]], 1))
    assert "there is no face 2; found (number: x,y,w,h) 0: " in refuse(ref=both, face=2)
    assert "there is no face in 0,0,9,9; found" in refuse(ref=both, face="0,0,9,9")


def test_a_face_cut_by_the_border(refuse: Refuse, tmp_path: Path, astronaut: Pixels) -> None:
    assert "cut by the border" in refuse(ref=save(tmp_path / "cut.png", astronaut[110:]))


def test_a_tiny_face(refuse: Refuse, tmp_path: Path, astronaut: Pixels) -> None:
    small = cv2.resize(astronaut, (190, 190), interpolation=cv2.INTER_AREA)
    assert "at least 48 are needed" in refuse(ref=save(tmp_path / "small.png", small))


def test_a_tiny_picture(refuse: Refuse, tmp_path: Path) -> None:
    picture = save(tmp_path / "dot.png", np.zeros((16, 16, 3), np.uint8))
    assert "dot.png: 16 x 16 px is too small, each side needs at least 64 px" in refuse(ref=picture)


def test_a_picture_beyond_all_measure(refuse: Refuse, tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "vast.png")
    assert "over 179 megapixels, reduce the picture first" in refuse(ref=tmp_path / "vast.png")


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
def test_a_truncated_picture(refuse: Refuse, tmp_path: Path, astronaut: Pixels, kind: str) -> None:
    picture = truncated(save(tmp_path / f"face.{kind}", astronaut))
    assert f"cut_face.{kind}: the picture is damaged or cut short" in refuse(ref=picture)


def test_something_that_is_no_picture(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("not a picture\n" * 100)
    assert "notes.png: not a picture or video that can be read" in refuse(ref=tmp_path / "notes.png")


def test_a_recording_given_as_picture(refuse: Refuse, speech: Path) -> None:
    assert "talk.wav: not a picture or video that can be read" in refuse(ref=speech)


# ---- sound


def test_a_picture_given_as_recording(refuse: Refuse, portrait: Path) -> None:
    assert "the sound is damaged or of an unknown kind" in refuse(audio=portrait)


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac", "m4a"])
def test_a_truncated_recording(refuse: Refuse, tmp_path: Path, speech: Path, kind: str) -> None:
    sound = truncated(convert(speech, tmp_path / f"talk.{kind}"))
    complaint = refuse(audio=sound)
    assert f"cut_talk.{kind}: the sound is cut short" in complaint or "moov atom not found" in complaint


def test_noise_bytes_given_as_recording(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "talk.mp3").write_bytes(np.random.default_rng(0).bytes(50_000))
    assert "talk.mp3: the sound is damaged or of an unknown kind" in refuse(audio=tmp_path / "talk.mp3")


def test_a_film_without_sound(refuse: Refuse, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "film.mp4", size=(64, 64), fps=media.parse_fps("25")) as writer:
        writer.write(np.zeros((64, 64, 3), np.uint8))
    assert "film.mp4: has no sound track, give a recording of speech" in refuse(audio=tmp_path / "film.mp4")


def test_a_recording_of_zero_length(refuse: Refuse, tmp_path: Path) -> None:
    sound = write_wav(tmp_path / "nothing.wav", np.zeros(0), 16_000)
    assert "nothing.wav: the sound has zero length" in refuse(audio=sound)


# ---- files of either kind


@pytest.mark.parametrize(("option", "what"), [("ref", "picture"), ("audio", "sound")])
def test_missing_and_empty_files_and_folders(refuse: Refuse, tmp_path: Path, option: str, what: str) -> None:
    assert f"none: no such {what}" in refuse(**{option: tmp_path / "none"})
    (tmp_path / "empty").touch()
    assert f"empty: the {what} file is empty" in refuse(**{option: tmp_path / "empty"})
    assert f"is not a file, a {what} file is needed" in refuse(**{option: tmp_path})


# ---- output


def test_an_existing_output(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"old")
    assert "old.mp4: exists already, use --force to replace it" in refuse(out=tmp_path / "old.mp4")
    assert (tmp_path / "old.mp4").read_bytes() == b"old"


def test_a_missing_output_folder(refuse: Refuse, tmp_path: Path) -> None:
    assert "none: no such folder, make it first" in refuse(out=tmp_path / "none" / "a.mp4")


def test_an_output_of_another_kind(refuse: Refuse, tmp_path: Path) -> None:
    assert "give it a name that ends in .mp4" in refuse(out=tmp_path / "a.gif")
    (tmp_path / "folder.mp4").mkdir()
    assert "is a folder, give the name of a file" in refuse(out=tmp_path / "folder.mp4")


def test_a_read_only_folder(refuse: Refuse, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):  # root may write anywhere but into the kernel's own file systems
        locked = Path("/sys")
    assert f"{locked}: can not write into this folder" in refuse(out=locked / "a.mp4")


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small tmpfs to fill")
def test_a_full_disk(refuse: Refuse, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40k", "none", str(disk)], capture_output=True
    ).returncode:
        pytest.skip("no right to mount a file system; test_writer.py fills a size limit instead")
    try:
        complaint = refuse(out=disk / "a.mp4", seconds=1)
        left = list(disk.iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert "the disk is full, free some space or choose another --out" in complaint
    assert left == []


# ---- options


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("seed", -1, "--seed -1: must be greater than or equal to 0"),
        ("steps", 0, "--steps 0: must be greater than or equal to 1"),
        ("guidance", 0.5, "--guidance 0.5: must be"),
        ("audio_scale", -1, "--audio-scale -1.0: must be"),
        ("head_motion", "nan", "--head-motion nan: must be"),
        ("expressiveness", 99, "--expressiveness 99.0: must be"),
        ("fps", "fast", "fps 'fast' is not a frame rate"),
        ("fps", 1000, "fps 1000 is out of range"),
        ("size", 8, "--size 8: must be greater than or equal to 64"),
        ("face", "left", "--face left: must be largest, a number, or x,y,w,h"),
        ("seconds", 0, "--seconds 0: must be greater than 0"),
        ("seconds", "nan", "--seconds nan: must be a number"),
        ("preset", "maxi", "mini"),
    ],
)
def test_option_values_out_of_range(refuse: Refuse, option: str, value: object, told: str) -> None:
    assert told in refuse(**{option: value})


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("device", "tpu", "'tpu' is not one of 'auto', 'cpu', 'cuda', 'mps'"),
        ("steps", "many", "'--steps'"),
        ("bogus", 1, "No such option: --bogus"),
    ],
)
def test_unknown_options_and_words(refuse: Refuse, option: str, value: object, told: str) -> None:
    assert told in refuse(**{option: value})


def test_a_missing_option(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["avatar", "drive", "--audio", "talk.wav"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capfd.readouterr().err == "avatar: Missing option '--ref'.\n"


def test_a_photo_that_nothing_drives(
    portrait: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.mp4"
    monkeypatch.setattr(sys, "argv", ["avatar", "drive", "--ref", str(portrait), "--out", str(out)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and not out.exists()
    told = capfd.readouterr().err.splitlines()[-1]
    assert told == "avatar: nothing drives the face: give --audio, --pose, --expression or --prompt"


def test_drivers_that_cannot_be_used(refuse: Refuse, tmp_path: Path, speech: Path) -> None:
    film = tmp_path / "grey.mp4"
    with VideoWriter(film, size=(200, 200), fps=Fraction(25)) as writer:
        for _ in range(3):
            writer.write(np.full((200, 200, 3), 128, np.uint8))
    assert "no such pose" in refuse(pose=tmp_path / "missing.mp4")
    assert "must be a video, a signals file or one of happy" in refuse(expression="cheerful")
    assert "no person found" in refuse(pose=film) and "shows no face" in refuse(expression=film)
    assert "talk.safetensors" in refuse(pose=_text(tmp_path / "talk.safetensors"))


def test_signals_files_of_another_version_or_kind_or_changed(refuse: Refuse, tmp_path: Path) -> None:
    mood, path = ExpressionSignal.of_mood("happy"), tmp_path / "happy.safetensors"
    for changes, told in (
        ({"version": "1"}, "is of format 1, 3 is read here; make the file again"),
        ({"fps": "50"}, "was changed or damaged after it was written"),
        ({"sha256": "0"}, "was changed or damaged after it was written"),
    ):
        mood.save(path)
        edit_metadata(path, **changes)
        assert f"happy.safetensors: {told}" in refuse(expression=path)
    mood.save(path)
    assert "holds a signal of kind expression, pose is needed" in refuse(pose=path)
    assert "holds a signal of kind expression, audio is needed" in refuse(audio=path)


def test_a_driver_that_ends_early_and_must_not(refuse: Refuse, tmp_path: Path) -> None:
    two = ExpressionSignal.of_mood("happy").looped(0.08)
    two.save(tmp_path / "two.safetensors")
    told = refuse(expression=tmp_path / "two.safetensors", when_short="error", seconds=1)
    assert "the expression signal has 0.08 s, the video 1 s; use --when-short hold, loop or mirror" in told


def test_drivers_of_faces_that_are_not_there(refuse: Refuse, tmp_path: Path, speech: Path) -> None:
    assert "none.wav: no such sound" in refuse(audio=f"0:{tmp_path}/none.wav")
    assert "astronaut.png: there is no face 1; found (number: x,y,w,h) 0: " in refuse(audio=f"1:{speech}")


def test_a_detector_that_has_nothing_to_look_at(refuse: Refuse, tmp_path: Path) -> None:
    for option, value in (("pose_detector", "dwpose"), ("dwpose_files", tmp_path)):
        assert "have no effect without --pose" in refuse(**{option: value})
    assert "--dwpose-files has no effect without --pose-detector dwpose" in refuse(
        pose=_text(tmp_path / "a.mp4"), dwpose_files=tmp_path
    )


def _text(path: Path) -> Path:
    path.write_text("not a signal")
    return path


# ---- strange but fine


@pytest.mark.parametrize("kind", ["8 kHz", "96 kHz 24-bit stereo", "silence"])
def test_strange_recordings_work(tmp_path: Path, portrait: Path, kind: str) -> None:
    """Together with a folder and files whose names have spaces and letters beyond ASCII."""
    folder = tmp_path / "\u00fc \u6620\u753b"
    folder.mkdir()
    rate, width = (96_000, 3) if "96" in kind else (8_000, 2)
    sound = np.zeros(rate // 2) if kind == "silence" else tone(0.5, rate)
    sound = np.stack([sound, sound], 1) if "stereo" in kind else sound
    audio = write_wav(folder / "s\u00f6und 1.wav", sound, rate, width)
    photo = folder / "f\u00e4ce 1.png"
    photo.write_bytes(portrait.read_bytes())
    told = run_avatar("drive", "--ref", photo, "--audio", audio, "--out", folder / "t\u00e4lk 1.mp4")
    assert told.code == 0, told.stderr
    info = media.video_info(folder / "t\u00e4lk 1.mp4")
    assert (info.frames, info.has_audio) == (13, True)
    assert ("is silent" in told.stderr) == (kind == "silence")


def test_a_huge_picture_works(tmp_path: Path, astronaut: Pixels) -> None:
    canvas = Image.new("RGB", (12_000, 3_000), "grey")
    canvas.paste(Image.fromarray(astronaut).resize((3_000, 3_000)), (5_000, 0))
    canvas.save(tmp_path / "huge.jpg")
    audio = write_wav(tmp_path / "a.wav", tone(0.2, 16_000), 16_000)
    told = run_avatar("drive", "--ref", tmp_path / "huge.jpg", "--audio", audio, "--out", tmp_path / "a.mp4")
    assert told.code == 0, told.stderr
    assert "reduced to 4096 x 1024" in told.stderr
    info = media.video_info(tmp_path / "a.mp4")
    assert (info.width, info.height, info.frames) == (1080, 270, 5)
