"""From phones and from Whisper features to mouth curves, in time, and the recipe that trains it."""

import ctypes.util
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from whisper.model import AudioEncoder

from avatar.drivers.curves import INDEX
from avatar.drivers.speech import (
    CONTROLS,
    SpeechConfig,
    SpeechDriver,
    SpeechToCurves,
    mouth_curves,
    resample,
    resample_stream,
)
from avatar.drivers.whisper import WINDOW, WhisperFeatures
from avatar.errors import UserError
from avatar.recipes.settings import read_settings
from avatar.recipes.sound import augment
from avatar.recipes.speech import SpeechSettings, train_speech
from avatar.recipes.speech_corpus import Utterance, load_utterance, save_utterance, sentences
from avatar.recipes.visemes import ARPABET, Phone, is_closure, letters, phone_curves

FPS = [Fraction(24000, 1001), 25, Fraction(30000, 1001), 30, 50, 60, 12.5]


def opening(curves: np.ndarray) -> np.ndarray:
    return curves[:, INDEX["jawOpen"]] - curves[:, INDEX["mouthClose"]]


def spoken(text: str, each: float = 0.09, lead: float = 0.4) -> list[Phone]:
    """Phones of equal length after a pause."""
    times = lead + each * np.arange(len(text) + 1)
    phones = [Phone(times[i], times[i + 1], symbol, "test") for i, symbol in enumerate(text)]
    return [Phone(0.0, lead, "", ""), *phones, Phone(times[-1], times[-1] + lead, "", "")]


# ---- phones to curves ----


def test_lips_meet_in_every_closure() -> None:
    phones = spoken("mapabamipumobasuba")
    curves = phone_curves(phones, phones[-1].end)
    assert curves.shape == (math.ceil(phones[-1].end * 100), 52)
    for phone in phones:
        inside = opening(curves[int(phone.start * 100) : math.ceil(phone.end * 100)])
        if is_closure(phone.symbol):
            assert (inside < 0.01).sum() >= 4, phone  # 40 ms
        elif phone.symbol in ("a", "o"):
            assert inside.max() > 0.15, phone


def test_short_closure_still_closes() -> None:
    phones = [Phone(0, 0.2, "a", ""), Phone(0.2, 0.22, "b", ""), Phone(0.22, 0.4, "a", "")]
    assert opening(phone_curves(phones, 0.4)).min() < 0.01


def test_pauses_close_the_mouth() -> None:
    phones = spoken("afauafa", lead=0.6)
    curves = phone_curves(phones, phones[-1].end)
    assert curves[:40].max() < 0.02
    assert curves[int((phones[-1].start + 0.15) * 100) :].max() < 0.05


def test_vowels_shape_the_lips() -> None:
    def middle(text: str, name: str) -> float:
        return phone_curves(spoken(text, 0.2), 0.8 + 0.2 * len(text))[50, INDEX[name]]

    assert middle("u", "mouthPucker") > 0.5
    assert middle("i", "mouthPucker") < 0.05
    assert middle("i", "mouthStretchLeft") > 0.25
    assert middle("f", "mouthRollLower") > 0.4
    assert middle("a", "jawOpen") > 0.45 > middle("s", "jawOpen")


def test_louder_vowels_open_more() -> None:
    phones = [Phone(0, 0.2, "a", ""), Phone(0.2, 0.4, "t", ""), Phone(0.4, 0.6, "a", "")]
    sound = np.sin(np.arange(9600)).astype(np.float32) * np.where(np.arange(9600) < 4800, 0.5, 0.1)
    jaw = phone_curves(phones, 0.6, sound.astype(np.float32))[:, INDEX["jawOpen"]]
    assert jaw[10] > 1.1 * jaw[50]


def test_symbols() -> None:
    assert letters("t\u0283\u02b0") == ("t", "\u0283")
    assert letters("a\u02d0") == ("a",)
    assert letters("") == letters("\u02c8") == ()
    assert letters("\u0430") == ("k",)  # Cyrillic a: unknown
    assert all(
        letters(symbol) for name, symbol in ARPABET.items() if name not in ("SIL", "PAU", "SSIL", "BRTH")
    )
    assert is_closure("pf")
    assert not is_closure("n")


def test_texts() -> None:
    assert len(sentences()["en"]) >= 150
    assert len(sentences()) >= 25
    assert all(len(pool) >= 10 for pool in sentences().values())
    assert not {"fr", "ja"} & set(sentences())


@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
def test_espeak_phones() -> None:
    from avatar.recipes.voices import EspeakVoice, espeak

    speech = espeak("en-us", "Bob made a map.")
    spoken = "".join(phone.symbol for phone in speech.phones)
    assert spoken.count("b") == 2
    assert spoken.count("m") == 2
    for before, after in zip(speech.phones, speech.phones[1:], strict=False):
        assert before.end <= after.start + 1e-9
    assert speech.phones[-1].end == pytest.approx(len(speech.audio) / 16_000, abs=0.02)
    for held_out in ("fr", "fr-be", "ja", "en-gb-x-rp"):
        with pytest.raises(UserError, match="held out"):
            EspeakVoice(held_out)


def test_augmentation_keeps_the_time() -> None:
    rng = np.random.default_rng(0)
    speech = np.zeros(16_000, np.float32)
    speech[8000:8200] = 0.5 * rng.standard_normal(200)
    for seed in range(20):
        damaged = augment(speech, [speech], np.random.default_rng(seed))
        assert damaged.shape == speech.shape
        assert np.isfinite(damaged).all()
        assert np.abs(damaged).max() <= 1
        energy = np.convolve(damaged.astype(np.float64) ** 2, np.ones(200), "valid")
        assert abs(int(energy.argmax()) - 8000) < 700


# ---- controls, net ----


def test_closure_undoes_the_jaw() -> None:
    controls = torch.rand(50, len(CONTROLS))
    controls[:, -1] = 1
    curves = mouth_curves(controls)
    torch.testing.assert_close(curves[:, INDEX["mouthClose"]], curves[:, INDEX["jawOpen"]])
    assert curves[:, INDEX["mouthFunnel"]].max() == 0
    assert mouth_curves(torch.zeros(3, len(CONTROLS))).abs().max() == 0


def random_net(seed: int = 0) -> SpeechToCurves:
    torch.manual_seed(seed)
    config = SpeechConfig(layers=(0, 1), feature_dim=8, width=16, dilations=(1, 2, 4))
    net = SpeechToCurves(config).eval()
    torch.nn.init.zeros_(net.leave.bias)  # a mouth in the middle of speech
    return net


@pytest.mark.parametrize("length", [1, 7, 300])
def test_net_streams_as_whole(length: int) -> None:
    net, features = random_net(), torch.randn(length, 2, 8)
    whole = net.curves(features)
    assert whole.shape == (length, 52)
    for size in (1, 13, 90):
        streamed = torch.cat(list(net.stream(features.split(size))))
        torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-4)


def test_net_sees_its_context_only() -> None:
    net, features = random_net(), torch.randn(200, 2, 8)
    changed = features.clone()
    changed[100] += 5
    different = (net.curves(features) - net.curves(changed)).abs().amax(1) > 0
    moved = torch.nonzero(different)[:, 0]
    assert moved.min() >= 100 - net.context
    assert moved.max() <= 100 + net.context


def tiny_whisper() -> WhisperFeatures:
    torch.manual_seed(1)
    return WhisperFeatures(AudioEncoder(80, WINDOW, 8, 2, 1), (0, 1))


def test_driver_streams_as_whole() -> None:
    driver = SpeechDriver(tiny_whisper(), random_net())
    sound = (0.1 * np.random.default_rng(0).standard_normal(200_000)).astype(np.float32)
    features, curves = driver(sound)
    assert features.shape == (625, 2, 8)
    assert curves.shape == (625, 52)
    parts = list(driver.stream(np.split(sound, [5000, 70_001, 150_000])))
    torch.testing.assert_close(torch.cat([part[1] for part in parts]), curves, rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), features)
    assert all(len(a) == len(b) for a, b in parts)


def test_driver_refuses_other_features() -> None:
    torch.manual_seed(1)
    other = WhisperFeatures(AudioEncoder(80, WINDOW, 16, 2, 1), (0, 1))
    with pytest.raises(UserError, match="trained"):
        SpeechDriver(other, random_net())


# ---- video frames ----


@pytest.mark.parametrize("fps", FPS)
def test_frames_are_exact_in_time(fps: Fraction | float) -> None:
    rows = np.zeros((3000, 52), np.float32)  # one minute
    rows[:, INDEX["browInnerUp"]] = np.arange(3000) / 3000
    frames = math.ceil(59 * Fraction(fps))
    shown = resample(rows, fps, frames)[:, INDEX["browInnerUp"]]
    middle = (np.arange(frames) + 0.5) / float(fps)
    np.testing.assert_allclose(shown, middle / 60, atol=1e-5)


@pytest.mark.parametrize("fps", FPS)
def test_short_closures_survive(fps: Fraction | float) -> None:
    phones = spoken("amabapa" * 6, 0.08)
    curves = phone_curves(phones, phones[-1].end)[::2]
    frames = math.ceil(phones[-1].end * float(fps))
    shown = opening(resample(curves, fps, frames))
    for phone in phones:
        if is_closure(phone.symbol):
            inside = shown[int(phone.start * float(fps)) : math.ceil(phone.end * float(fps))]
            assert inside.min() < 0.03, (fps, phone)
    assert np.percentile(shown, 90) > 0.15


@pytest.mark.parametrize("fps", FPS)
def test_frames_stream_as_whole(fps: Fraction | float) -> None:
    rows = np.random.default_rng(0).random((1000, 58)).astype(np.float32)
    frames = math.ceil(20.3 * Fraction(fps))  # a little beyond the last row
    cuts = np.sort(np.random.default_rng(1).integers(0, 1000, 40))
    streamed = np.concatenate(list(resample_stream(np.split(rows, cuts), fps, frames)))
    assert streamed.shape == (frames, 58)
    np.testing.assert_allclose(streamed, resample(rows, fps, frames), atol=1e-6)


# ---- the shipped net ----


@pytest.fixture(scope="module")
def shipped() -> SpeechDriver:
    return SpeechDriver.from_pretrained()


def test_silence_and_noise_close_the_mouth(shipped: SpeechDriver) -> None:
    noise = (0.03 * np.random.default_rng(0).standard_normal(48_000)).astype(np.float32)
    for sound in (np.zeros(48_000, np.float32), noise):
        assert shipped(sound)[1].max() < 0.05


@pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="espeak-ng is not installed")
def test_speech_moves_the_lips(shipped: SpeechDriver) -> None:
    from avatar.recipes.voices import espeak

    speech = espeak("en-us", "Bob and Emma bought a big map, but papa moved to Bombay.")
    sound = np.concatenate([speech.audio, np.zeros(16_000, np.float32)])
    told = shipped(sound)[1].numpy()
    true = phone_curves(speech.phones, len(sound) / 16_000)[::2]
    assert np.corrcoef(opening(told), opening(true[: len(told)]))[0, 1] > 0.8
    assert opening(told)[-30:].max() < 0.05
    # The same sound elsewhere in Whisper's windows gives the same curves.
    later = shipped(np.concatenate([np.zeros(5 * 16_000, np.float32), sound]))[1].numpy()[250:]
    assert np.abs(opening(later) - opening(told)).mean() < 0.03


# ---- the recipe ----


def make_tiny_corpus(folder: Path) -> Path:
    """Eight utterances of noise and the checkpoint of a tiny Whisper."""
    folder.mkdir()
    for number in range(8):
        rng = np.random.default_rng(number)
        phones = tuple(spoken("".join(rng.choice(list("pamutis"), 12)), 0.1))
        sound = (0.1 * rng.standard_normal(int(phones[-1].end * 16_000))).astype(np.float32)
        curves = phone_curves(phones, len(sound) / 16_000)
        save_utterance(Utterance(sound, phones, curves, f"{number:06d}", "test"), folder)
    whisper = tiny_whisper()
    dims = {"n_mels": 80, "n_audio_ctx": WINDOW, "n_audio_state": 8, "n_audio_head": 2, "n_audio_layer": 1}
    weights = {f"encoder.{name}": value for name, value in whisper.encoder.state_dict().items()}
    torch.save({"dims": dims, "model_state_dict": weights}, folder / "tiny.pt")
    return folder


def settings(corpus: Path, out: Path, *words: str) -> SpeechSettings:
    common = [f"data={corpus}", f"out={out}", f"whisper={corpus / 'tiny.pt'}", "layers=[0,1]", "width=16"]
    return read_settings(SpeechSettings, "speech", [*common, "batch=4", "piece=30", "steps=3", *words])


def test_utterance_is_kept(tmp_path: Path) -> None:
    folder = make_tiny_corpus(tmp_path / "corpus")
    utterance = load_utterance(folder / "000003.json")
    assert utterance.voice == "test"
    assert utterance.curves.shape == (math.ceil(len(utterance.audio) / 160), 52)
    again = tmp_path / "again"
    again.mkdir()
    save_utterance(utterance, again)
    copy = load_utterance(again / "000003.safetensors")
    np.testing.assert_array_equal(copy.audio, utterance.audio)
    assert copy.phones == utterance.phones


def test_training_and_exact_resume(tmp_path: Path) -> None:
    corpus = make_tiny_corpus(tmp_path / "corpus")
    whole = train_speech(settings(corpus, tmp_path / "whole"))
    assert whole == pytest.approx(RECORDED, rel=2e-3)
    stopped = train_speech(settings(corpus, tmp_path / "parts", "minutes=1e-9"))
    assert len(stopped) == 1
    resumed = train_speech(settings(corpus, tmp_path / "parts"))
    assert stopped + resumed == whole
    driver = SpeechDriver.from_pretrained(tmp_path / "whole" / "model.safetensors", corpus / "tiny.pt")
    assert driver(np.zeros(16_000, np.float32))[1].shape == (50, 52)


RECORDED = [7.20893, 7.94814, 7.50652]


def test_recipe_refuses_nonsense(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="closure_weight"):
        settings(tmp_path, tmp_path, "closure_wait=1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no utterances"):
        train_speech(settings(tmp_path / "empty", tmp_path / "run"))
