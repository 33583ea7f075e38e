"""`avatar soundtrack` as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import run_avatar
from soundtrack_nets import soundtrack
from test_sight import video
from test_soundtrack import talking

from avatar.backbone.checkpoint import save
from avatar.media import audio_seconds, read_audio, video_info


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small nets under the names of the shipped ones."""
    folder, nets = tmp_path_factory.mktemp("weights"), soundtrack()
    for name, net in (("v2a", nets.net), ("vae", nets.vae), ("vocoder", nets.vocoder)):
        save(net, folder / f"soundtrack_{name}.safetensors")
    return folder


def test_a_silent_clip_gets_sound(tmp_path: Path, weights: Path) -> None:
    clip = video(tmp_path / "clip.mp4", 30)
    told = run_avatar(
        "soundtrack", clip, "--weights", weights, "--steps", 2, "--prompt", "light rain", "--seed", 7
    )
    assert told.code == 0, told.stderr
    out = tmp_path / "clip-sound.mp4"
    assert video_info(out).has_audio and float(audio_seconds(out)) == pytest.approx(1.2, abs=1e-3)
    assert "prompt light rain" in told.stderr and "seed 7, steps 2" in told.stderr


def test_speech_stays_and_a_wav_can_be_had(tmp_path: Path, weights: Path, speech: Path) -> None:
    clip = talking(video(tmp_path / "silent.mp4", 50), speech, tmp_path / "clip.mp4")
    out = tmp_path / "out.mp4"
    told = run_avatar("soundtrack", clip, "--weights", weights, "--steps", 1, "--keep-speech", "--out", out)
    assert told.code == 0, told.stderr
    assert "old sound keep-speech" in told.stderr and video_info(out).frames == 50
    wav = tmp_path / "out.wav"
    told = run_avatar("soundtrack", clip, "--weights", weights, "--steps", 1, "--quiet", "--out", wav)
    assert (told.code, told.stderr) == (0, "")
    assert audio_seconds(wav) == 2


def test_a_drive_ends_with_a_soundtrack_under_the_speech(
    tmp_path: Path, portrait: Path, speech: Path
) -> None:
    """By the shipped nets: what rains under the speech is heard, and the speech in front of it."""
    given = ("--ref", portrait, "--audio", speech, "--seconds", 2, "--quiet")
    plain, rainy = tmp_path / "plain.mp4", tmp_path / "rainy.mp4"
    for out, more in ((plain, ()), (rainy, ("--soundtrack", "heavy rain"))):
        told = run_avatar("drive", *given, "--out", out, *more)
        assert told.code == 0, told.stderr
    assert video_info(rainy).frames == 50 and audio_seconds(rainy) == pytest.approx(2, abs=1e-3)
    alone, mixed = read_audio(plain), read_audio(rainy)[: len(read_audio(plain))]
    gain = float(alone @ mixed / (alone @ alone))
    rest = mixed - gain * alone
    assert (
        0.001 < rest.std() < 0.35 * gain * alone.std()
    )  # -18 LU is 0.13 in amplitude, while somebody speaks
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.mp4", "rainy.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.mp4"], "none.mp4: no such video"),
        (["clip.mp4", "--mix"], "clip.mp4: has no sound, leave --mix out"),
        (["clip.mp4", "--mix", "--replace"], "--mix and --replace exclude each other"),
        (["clip.mp4", "--level", "40"], "--level 40.0: must be less than or equal to 20"),
        (["clip.mp4", "--steps", "0"], "--steps 0: must be greater than or equal to 1"),
        (["clip.mp4", "--out", "sound.flac"], "sound.flac: can not be the output"),
        (["talk.mp4"], "talk.mp4: has sound already; say --mix, --keep-speech or --replace"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    weights: Path,
    speech: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    silent = video(tmp_path / "clip.mp4", 10)
    talking(silent, speech, tmp_path / "talk.mp4")
    told = run_avatar("soundtrack", *arguments, "--weights", weights)
    assert told.code == 2 and message in told.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "talk.mp4"]
