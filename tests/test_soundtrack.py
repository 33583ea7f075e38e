"""A soundtrack from a video to a file: lengths, loudness, speech in front, bad input."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
from conftest import convert, tone, write_wav
from soundtrack_nets import soundtrack
from test_sight import video

from avatar import ffmpeg
from avatar.errors import UserError
from avatar.media import audio_seconds, read_audio, video_info
from avatar.sound_mix import LOUDNESS, loudness, mux
from avatar.sound_mix import write_wav as write_pieces
from avatar.soundtrack import RATE, Soundtrack, check_old, evaluations, latent_total

OPTIONS = {"steps": 2, "seed": 1}


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    """Noise at the rate of the soundtrack, (samples,) float32."""
    return (level * np.random.default_rng(0).standard_normal(round(seconds * RATE))).astype(np.float32)


def call(*arguments: str) -> str:
    """ffmpeg's log."""
    return subprocess.run(ffmpeg.command("-y", *arguments), capture_output=True, text=True).stderr


def talking(clip: Path, speech: Path, path: Path) -> Path:
    """The clip with speech."""
    inputs, coded = ["-i", str(clip), "-i", str(speech)], ["-c:v", "copy", "-c:a", "aac", "-shortest"]
    call(*inputs, *coded, str(path))
    return path


@pytest.mark.parametrize(("frames", "fps"), [(5, 25), (1, 25), (37, 30), (200, 25)])
def test_the_sound_is_as_long_as_the_video(tmp_path: Path, frames: int, fps: int) -> None:
    path = video(tmp_path / "clip.mp4", frames, fps)
    score = soundtrack().score(path, **OPTIONS)
    assert score.seconds == Fraction(frames, fps)
    assert len(score.samples) == round(Fraction(frames, fps) * RATE)
    assert np.isfinite(score.samples).all() and score.samples.std() > 1e-4


def test_ticks_are_those_foretold(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", 200)  # 8 s: two windows of 5.2 s
    ticks: list[int] = []
    soundtrack().score(path, steps=3, tick=lambda: ticks.append(1))
    assert len(ticks) == evaluations(Fraction(8), 3) == 3 * 2


def test_sound_latents_cover_a_length() -> None:
    assert latent_total(Fraction(1, 25)) == 1
    assert latent_total(Fraction(1024 * 10, 22_050)) == 10
    assert latent_total(Fraction(1024 * 10 + 1, 22_050)) == 11


def test_a_seed_is_a_sound_and_a_prompt_changes_it(tmp_path: Path) -> None:
    nets, path = soundtrack(), video(tmp_path / "clip.mp4", 20)
    plain = nets.score(path, **OPTIONS).samples
    np.testing.assert_array_equal(nets.score(path, **OPTIONS).samples, plain)
    for changed in ({"seed": 2}, {"prompt": "light rain"}, {"negative_prompt": "music"}, {"guidance": 1.0}):
        assert np.abs(nets.score(path, **(OPTIONS | changed)).samples - plain).max() > 1e-4, changed


def test_a_wav_and_an_mp4_are_written(tmp_path: Path) -> None:
    path = video(tmp_path / "clip.mp4", 50)
    score = soundtrack().score(path, **OPTIONS)
    wav = score.save(tmp_path / "out.wav")
    assert audio_seconds(wav) == Fraction(44_100, RATE)
    film = score.save(tmp_path / "out.mp4")
    info = video_info(film)
    assert (info.frames, info.has_audio, info.width) == (50, True, 96)
    assert float(audio_seconds(film)) == pytest.approx(2.0, abs=0.001)
    with pytest.raises(UserError, match="exists already"):
        score.save(wav)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.mp4", "out.mp4", "out.wav"]


@pytest.mark.parametrize("seconds", [0.2, 4.0])
def test_loudness_is_that_of_the_standard(tmp_path: Path, seconds: float) -> None:
    clip = video(tmp_path / "clip.mp4", round(25 * seconds))
    mux(clip, [noise(seconds, 0.01)], RATE, Fraction(str(seconds)), tmp_path / "out.mp4", old=None, level=-18)
    heard = read_audio(tmp_path / "out.mp4", 48_000)
    judged = np.tile(heard, max(1, round(1 / seconds)))  # the meter needs 0.4 s
    # both channels play: 3 dB over one (BS.1770 adds their energies)
    found = pyloudnorm.Meter(48_000).integrated_loudness(np.stack([judged, judged], 1))
    assert found == pytest.approx(LOUDNESS, abs=1.0)
    assert np.abs(heard).max() < 1
    info = call("-i", str(tmp_path / "out.mp4"))
    assert "48000 Hz, stereo" in info and "Audio: aac" in info


def test_silence_stays_silence(tmp_path: Path) -> None:
    clip = video(tmp_path / "clip.mp4", 50)
    mux(clip, [np.zeros(2 * RATE, np.float32)], RATE, Fraction(2), tmp_path / "out.mp4", old=None, level=-18)
    assert np.abs(read_audio(tmp_path / "out.mp4")).max() < 1e-3


def test_peaks_stay_below_full_scale(tmp_path: Path) -> None:
    clicks = np.zeros(4 * RATE, np.float32)
    clicks[:: RATE // 2] = 1
    clip = video(tmp_path / "clip.mp4", 100)
    mux(clip, [clicks], RATE, Fraction(4), tmp_path / "out.mp4", old=None, level=-18)
    assert np.abs(read_audio(tmp_path / "out.mp4", 48_000)).max() < 1


def test_the_soundtrack_is_under_the_speech(tmp_path: Path, speech: Path) -> None:
    """Noise beneath speech at -18 LU: what the mix has besides the speech is that much softer."""
    clip = talking(video(tmp_path / "silent.mp4", 130), speech, tmp_path / "clip.mp4")
    mux(clip, [noise(5.2)], RATE, Fraction(26, 5), tmp_path / "out.mp4", old="mix", level=-18)
    mixed, alone = (read_audio(tmp_path / name, 16_000)[: 5 * 16_000] for name in ("out.mp4", "clip.mp4"))
    gain = float(mixed @ alone / (alone @ alone))
    rest = mixed - gain * alone
    meter = pyloudnorm.Meter(16_000)
    apart = meter.integrated_loudness(rest) - meter.integrated_loudness(gain * alone)
    assert apart == pytest.approx(-18, abs=4)  # louder in the pauses
    assert loudness([tmp_path / "out.mp4"], "[0:a]anull") == pytest.approx(LOUDNESS, abs=1)


def test_only_speech_is_kept(tmp_path: Path, speech: Path) -> None:
    """A tone before the speech goes, the speech stays."""
    sound = np.concatenate([0.3 * tone(2.0, 16_000), read_audio(speech)])
    wav = write_wav(tmp_path / "both.wav", sound, 16_000)
    clip = talking(video(tmp_path / "silent.mp4", 170), wav, tmp_path / "clip.mp4")
    mux(clip, [noise(6.8, 1e-4)], RATE, Fraction(34, 5), tmp_path / "out.mp4", old="keep-speech", level=-60)
    heard = read_audio(tmp_path / "out.mp4")
    assert np.std(heard[3000:24_000]) < 0.02 * np.std(heard[36_000:90_000])


def test_old_sound_needs_a_word(tmp_path: Path, speech: Path) -> None:
    silent = video(tmp_path / "silent.mp4", 30)
    clip = talking(silent, speech, tmp_path / "clip.mp4")
    with pytest.raises(UserError, match="has sound already; say --mix, --keep-speech or --replace"):
        check_old(clip, None)
    with pytest.raises(UserError, match="has no sound, leave --mix out"):
        check_old(silent, "mix")
    assert check_old(clip, "mix") == "mix"
    assert check_old(silent, None) is None and check_old(silent, "replace") is None


def test_replaced_sound_is_gone(tmp_path: Path, speech: Path) -> None:
    clip = talking(video(tmp_path / "silent.mp4", 50), speech, tmp_path / "clip.mp4")
    nothing = [np.zeros(2 * RATE, np.float32)]
    mux(clip, nothing, RATE, Fraction(2), tmp_path / "out.mp4", old="replace", level=-18)
    assert np.abs(read_audio(tmp_path / "out.mp4")).max() < 1e-3


def test_a_phones_rotation_is_kept(tmp_path: Path) -> None:
    source = video(tmp_path / "wide.mp4", 25)
    turned = tmp_path / "turned.mp4"
    call("-display_rotation:v:0", "90", "-i", str(source), "-c", "copy", str(turned))
    assert (video_info(turned).width, video_info(turned).height) == (64, 96)
    film = soundtrack().score(turned, **OPTIONS).save(tmp_path / "out.mp4")
    assert (video_info(film).width, video_info(film).height, video_info(film).frames) == (64, 96, 25)


def test_pictures_that_mp4_can_not_hold_are_coded_anew(tmp_path: Path) -> None:
    clip = convert(video(tmp_path / "clip.mp4", 25), tmp_path / "clip.avi", "-c:v", "mjpeg")
    film = soundtrack().score(clip, **OPTIONS).save(tmp_path / "out.mp4")
    assert video_info(film).frames == 25


def test_pieces_that_fail_leave_nothing(tmp_path: Path) -> None:
    def broken() -> object:
        yield noise(0.1)
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        write_pieces(tmp_path / "a.wav", broken(), RATE)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_line(tmp_path: Path, recording: Path) -> None:
    nets, clip = soundtrack(), video(tmp_path / "clip.mp4", 5)
    with pytest.raises(UserError, match="no such video"):
        nets.score(tmp_path / "none.mp4")
    with pytest.raises(UserError, match="not a video that can be read"):
        nets.score(recording)
    with pytest.raises(UserError, match="--steps 0"):
        nets.score(clip, steps=0)
    with pytest.raises(UserError, match="no such set of soundtrack nets"):
        Soundtrack.from_pretrained("maxi")
    with pytest.raises(UserError, match="the weights of the soundtrack are not there"):
        Soundtrack.from_pretrained(folder=tmp_path)
