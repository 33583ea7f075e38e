"""A waveform is brought to a spectrogram."""

from __future__ import annotations

import torch

from avatar.backbone.mel import MelConfig, log_mel
from avatar.backbone.mel_consistency import polish

MEL = MelConfig()


def chirp() -> torch.Tensor:
    """Two seconds of a rising tone over noise, a multiple of the hop."""
    time = torch.arange(172 * 256) / 22_050
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    return 0.3 * torch.sin(2 * torch.pi * (200 + 400 * time) * time) + 0.02 * noise


def test_every_step_comes_nearer() -> None:
    mel = log_mel(chirp()[None], MEL)[0]
    start = 0.1 * torch.randn(172 * 256, generator=torch.Generator().manual_seed(1))
    errors = [(log_mel(polish(start, mel, MEL, n)[None], MEL)[0] - mel).abs().mean() for n in (0, 1, 4, 16)]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 0.15 * errors[0]


def test_the_true_sound_is_left_as_it_is() -> None:
    sound = chirp()
    polished = polish(sound, log_mel(sound[None], MEL)[0], MEL, 3)
    torch.testing.assert_close(polished[1024:-1024], sound[1024:-1024], atol=1e-4, rtol=0)
    assert len(polished) == len(sound)
