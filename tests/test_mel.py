"""The log-mel front end against librosa's definitions."""

from __future__ import annotations

import math

import librosa
import numpy as np
import pytest
import torch

from avatar.backbone.mel import SILENCE, MelConfig, filters, log_mel, to_hertz, to_mel

MEL = MelConfig()


def test_filters_are_those_of_librosa() -> None:
    theirs = librosa.filters.mel(sr=22_050, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    np.testing.assert_allclose(filters(MEL).numpy(), theirs, atol=1e-7)


def test_the_scale_and_back() -> None:
    hertz = torch.tensor([0.0, 200.0, 1000.0, 6400.0])
    torch.testing.assert_close(to_mel(hertz), torch.tensor([0.0, 3.0, 15.0, 42.0]))  # 15 + 27 at 6.4 kHz
    torch.testing.assert_close(to_hertz(to_mel(hertz)), hertz, atol=1e-2, rtol=1e-5)


def test_the_spectrogram_is_librosas_with_the_padding_of_hifigan() -> None:
    sound = 0.3 * np.random.default_rng(0).standard_normal(22_050).astype(np.float32)
    padded = np.pad(sound, 384, mode="reflect")  # (1024 - 256) / 2
    magnitude = np.sqrt(np.abs(librosa.stft(padded, n_fft=1024, hop_length=256, center=False)) ** 2 + 1e-9)
    theirs = np.log(
        np.maximum(librosa.filters.mel(sr=22_050, n_fft=1024, n_mels=80, fmin=0, fmax=8000) @ magnitude, 1e-5)
    )
    np.testing.assert_allclose(log_mel(torch.from_numpy(sound)[None], MEL)[0].numpy(), theirs, atol=1e-4)


@pytest.mark.parametrize("samples", [1024, 1279, 1280])
def test_frames_are_whole_hops(samples: int) -> None:
    assert log_mel(torch.zeros(1, samples), MEL).shape == (1, 80, samples // 256)


def test_silence_is_the_floor() -> None:
    assert math.log(1e-5) == pytest.approx(SILENCE)
    assert log_mel(torch.zeros(1, 2048), MEL).max().item() == pytest.approx(
        -10.9, abs=0.7
    )  # sqrt(1e-9) a bin


def test_mixed_precision_leaves_it_alone() -> None:
    sound = 0.3 * torch.randn(1, 4096, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = log_mel(sound, MEL)
    torch.testing.assert_close(mixed, log_mel(sound, MEL))
