"""Another Whisper in the place of the bundled one."""

from pathlib import Path

import numpy as np
import torch
from whisper.model import AudioEncoder

from avatar.drivers.bridge import BridgedWhisper, fit_bridge
from avatar.drivers.speech import SpeechDriver
from avatar.drivers.whisper import WINDOW, WhisperFeatures
from avatar.media import read_audio

EXAMPLE = Path(__file__).parents[1] / "docs/example/talk.wav"


def encoder(dim: int, seed: int = 0) -> AudioEncoder:
    torch.manual_seed(seed)
    return AudioEncoder(80, WINDOW, dim, 2, 2)


def test_a_linear_map_is_found_and_noise_is_not_learnt() -> None:
    torch.manual_seed(0)
    source, other, weight = torch.randn(2000, 12), torch.randn(2000, 12), torch.randn(12, 5)
    bridge = fit_bridge(source[:1000], source[:1000] @ weight + 3)
    error = bridge(source[1000:]) - source[1000:] @ weight - 3
    assert error.std() < 0.1 * (source @ weight).std()
    assert fit_bridge(other[:1000], source[:1000] @ weight).weight.abs().max() < 0.5


def test_pieces_are_heard_as_the_whole() -> None:
    bridged = BridgedWhisper(WhisperFeatures(encoder(24), None), WhisperFeatures(encoder(8), (1, 2)))
    sound = (0.1 * np.random.default_rng(0).standard_normal(200_000)).astype(np.float32)
    whole = bridged(sound)
    assert whole.shape == (625, 2, 8)
    parts = torch.cat(list(bridged.stream(np.split(sound, [5000, 70_001]))))
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-3)
    assert list(bridged.stream([])) == []


def test_lips_move_alike_with_a_whisper_file_of_another_size(tmp_path: Path) -> None:
    other = encoder(64)
    dims = {"n_mels": 80, "n_audio_ctx": WINDOW, "n_audio_state": 64, "n_audio_head": 2, "n_audio_layer": 2}
    weights = {f"encoder.{name}": value for name, value in other.state_dict().items()}
    torch.save({"dims": dims, "model_state_dict": weights}, tmp_path / "other.pt")
    sound = read_audio(EXAMPLE)
    usual = SpeechDriver.from_pretrained()(sound)[1]
    told = SpeechDriver.from_pretrained(whisper=tmp_path / "other.pt")(sound)[1]
    jaws = torch.stack([usual[:, usual.std(0).argmax()], told[:, usual.std(0).argmax()]])
    assert torch.corrcoef(jaws)[0, 1] > 0.7  # untrained weights hear enough of loudness and colour
