"""`avatar prepare` from a folder of videos to a training set: killed, resumed, shared out, and refused."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from conftest import convert, run_avatar

from avatar.errors import UserError
from avatar.media import audio_seconds, video_info
from avatar.recipes import records
from avatar.recipes.prepare import Options, prepare
from avatar.recipes.records import Reading
from avatar.recipes.selection import Rules

OPTIONS = Options(reading=Reading(shortest=1.0, size=128, text=False), rules=Rules(skip=("text",)))
WORDS = ("--shortest", "1", "--size", "128", "--skip", "text", "--quiet")
Tree = dict[str, bytes]


@pytest.fixture(scope="session")
def footage(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good footage in two forms, a copy in a worse coding, the same file again, silence, and no film."""
    folder = tmp_path_factory.mktemp("footage")
    (folder / "deeper").mkdir()
    convert(talking, folder / "first.mp4", "-t", "2.4")
    convert(talking, folder / "deeper" / "mirrored.mp4", "-ss", "1.5", "-vf", "hflip,hue=h=60", "-c:a", "aac")
    convert(folder / "first.mp4", folder / "copy.mp4", "-crf", "30", "-vf", "scale=400:400", "-c:a", "copy")
    shutil.copy(folder / "first.mp4", folder / "twin.mp4")
    convert(folder / "first.mp4", folder / "silent.mov", "-an", "-c:v", "copy")
    (folder / "broken.mkv").write_bytes(b"no film" * 100)
    (folder / "notes.txt").write_text("not footage")
    return folder


def tree(folder: Path) -> Tree:
    """Every file with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def made(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of it."""
    out = tmp_path_factory.mktemp("made") / "data"
    prepare(footage, out, OPTIONS, quiet=True)
    return out


def listed(out: Path, name: str) -> list[dict[str, Any]]:
    return list(json.loads((out / name).read_text()))


def test_the_set_holds_what_it_says(made: Path, footage: Path) -> None:
    index = listed(made, "index.json")
    assert sorted(entry["source"] for entry in index) == ["deeper/mirrored.mp4", "first.mp4"]
    for entry in index:
        assert {"id", "split", "identity", "seconds", "source", "start", "caption", "stage"} <= set(entry)
        clip = made / "clips" / f"{entry['id']}.mp4"
        info = video_info(clip)
        assert (info.width, info.height, float(info.fps)) == (128, 128, 25.0)
        assert info.has_audio and info.frames == entry["frames"] == round(25 * entry["seconds"])
        assert float(audio_seconds(clip.with_suffix(".wav"))) == pytest.approx(entry["seconds"], abs=1e-3)
        assert len(entry["caption"]) == 8
        assert entry["kind"] == "speech" and entry["weight"] == 1  # there is no other kind
    assert {entry["split"] for entry in index} == {"train", "validation"}
    assert sorted(path.name for path in made.iterdir()) == [
        "clips", "dropped.json", "index.json", "pictures", "prepare.json", "records", "report.html",
    ]  # fmt: skip
    assert not list(made.rglob("*.part*"))


def test_what_was_dropped_is_listed_with_its_reason(made: Path) -> None:
    why = {e["source"]: {r["filter"] for r in e["reasons"]} for e in listed(made, "dropped.json")}
    assert why == {
        "copy.mp4": {"near-duplicate"},
        "silent.mov": {"silence"},
        "broken.mkv": {"unreadable"},
        "twin.mp4": {"unreadable"},
    }
    page = (made / "report.html").read_text()
    for said in ("near-duplicate", "silence", "broken.mkv", "the same file as first.mp4", "person-0000"):
        assert said in page
    pictures = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert len(pictures) == 4 and all((made / picture).exists() for picture in pictures)


def test_a_second_run_changes_nothing_and_reads_nothing(
    made: Path, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, times = tree(made), {p: p.stat().st_mtime_ns for p in (made / "clips").iterdir()}

    def never(*_: object) -> None:
        raise AssertionError("the footage was read again")

    monkeypatch.setattr(records, "_read", never)
    prepare(footage, made, OPTIONS, quiet=True)
    assert tree(made) == before
    assert {p: p.stat().st_mtime_ns for p in (made / "clips").iterdir()} == times


@pytest.mark.slow
def test_two_processes_make_what_one_makes(made: Path, footage: Path, tmp_path: Path) -> None:
    prepare(footage, tmp_path / "data", replace(OPTIONS, jobs=2), quiet=True)
    assert tree(tmp_path / "data") == tree(made)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason="needs ray")
def test_ray_makes_what_one_process_makes(made: Path, footage: Path, tmp_path: Path) -> None:
    prepare(footage, tmp_path / "data", replace(OPTIONS, ray="local"), quiet=True)
    assert tree(tmp_path / "data") == tree(made)


@pytest.mark.slow
@pytest.mark.parametrize("ends", ["records", "clips"])
def test_a_killed_run_goes_on_to_the_same_end(made: Path, footage: Path, tmp_path: Path, ends: str) -> None:
    """Killed as soon as something is in a folder, whatever is half written then."""
    out = tmp_path / "data"
    command = [sys.executable, "-m", "avatar", "prepare", str(footage), "--out", str(out), *WORDS]
    process = subprocess.Popen(command)
    while process.poll() is None and not any((out / ends).glob("*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "index.json").exists()
    prepare(footage, out, OPTIONS, quiet=True)
    assert tree(out) == tree(made)


def test_other_rules_need_no_reading_and_take_clips_away(made: Path, footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(made, out)
    (out / "clips" / ".half.part.mp4").write_bytes(b"")
    chosen = prepare(footage, out, replace(OPTIONS, rules=Rules(skip=("text",), stage=5)), quiet=True)
    assert not chosen.kept and not list((out / "clips").iterdir())
    assert {d.reasons[0].filter for d in chosen.dropped} >= {"face size"}


Refused = Callable[[Path, Path], tuple[tuple[object, ...], str]]
REFUSED: dict[str, Refused] = {
    "no footage": lambda f, o: ((f / "none", "--out", o), "no such folder"),
    "no video": lambda f, o: ((o.parent, "--out", o), "holds no video"),
    "unreadable": lambda f, o: ((f / "broken.mkv", "--out", o), "no video could be read"),
    "out is a file": lambda f, o: ((f, "--out", f / "notes.txt"), "is a file"),
    "out is the footage": lambda f, o: ((f, "--out", f), "is the footage itself"),
    "out is foreign": lambda f, o: ((f, "--out", f / "deeper"), "is not empty"),
    "filter": lambda f, o: ((f, "--out", o, "--skip", "blurr"), "no such filter"),
    "size": lambda f, o: ((f, "--out", o, "--size", "100"), "steps of 8"),
    "length": lambda f, o: ((f, "--out", o, "--shortest", "20"), "under --longest"),
    "share": lambda f, o: ((f, "--out", o, "--validation", "1"), "from 0 to under 1"),
    "weights": lambda f, o: ((f, "--out", o, "--transnet", f / "none.onnx"), "no such file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_one_line(
    name: str, footage: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from avatar import cli

    words, said = REFUSED[name](footage, tmp_path / "data")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["avatar", "prepare", *map(str, words)])
        cli.main()
    assert end.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("avatar: ")]
    assert len(lines) == 1 and said in lines[0]
    assert not (tmp_path / "data" / "index.json").exists()


def test_another_reading_is_refused_and_forced(made: Path, footage: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    shutil.copytree(made, out)
    (out / "notes.txt").write_text("mine")
    other = replace(OPTIONS, reading=replace(OPTIONS.reading, size=64))
    with pytest.raises(UserError, match="other options"):
        prepare(footage, out, other, quiet=True)
    assert (out / "index.json").exists()
    one = footage / "deeper" / "mirrored.mp4"
    prepare(one, out, other, force=True, quiet=True)
    (entry,) = listed(out, "index.json")
    assert video_info(out / "clips" / f"{entry['id']}.mp4").width == 64
    assert (out / "notes.txt").read_text() == "mine"


def test_help_is_quick() -> None:
    began = time.perf_counter()
    told = run_avatar("prepare", "--help")
    assert told.code == 0 and "--transnet" in told.stdout
    assert time.perf_counter() - began < 5
