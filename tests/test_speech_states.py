"""What each video frame hears, on a tiny random Whisper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tone
from transformers import WhisperFeatureExtractor, WhisperModel

from avatar.drivers.speech_states import PIECE, RATE, SpeechStates, speech_states
from avatar.errors import UserError

Checkpoints = Callable[[str], Path]


def test_a_frame_hears_ten_features_around_it() -> None:
    """Features [2f, 2f + 10) once four empty ones stand before them (reference, section 5.3)."""
    counted = torch.arange(1, 9).float()[:, None, None]  # features 1 to 8
    states = SpeechStates(counted, frames=4)
    found = states.around(torch.tensor([0, 3, 4, 99]))
    assert found.shape == (4, 10, 1, 1)
    assert found[..., 0, 0].tolist() == [
        [0, 0, 0, 0, 1, 2, 3, 4, 5, 6],
        [3, 4, 5, 6, 7, 8, 0, 0, 0, 0],
        [0] * 10,  # after the end
        [0] * 10,
    ]


def test_states_are_those_of_the_whole_encoder_piece_by_piece(checkpoints: Checkpoints) -> None:
    folder = checkpoints("hunyuan-avatar") / "whisper-tiny"
    sound = (tone(31.0, RATE) * np.linspace(0.1, 1, 31 * RATE)).astype(np.float32)
    found = speech_states(sound, folder, 775)
    encoder = WhisperModel.from_pretrained(folder, dtype=torch.float32).eval().encoder
    hear = WhisperFeatureExtractor.from_pretrained(folder)
    for piece, first in ((sound[:PIECE], 0), (sound[PIECE:], 750)):
        mel = hear(piece, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.no_grad():
            states = encoder(mel, output_hidden_states=True).hidden_states
        assert len(states) == 5  # embedding and four blocks
        expected = torch.stack(states, dim=2)[0]
        frame = found.around(torch.tensor([first + 10]))[0]
        assert torch.allclose(frame, expected[2 * 10 - 4 : 2 * 10 + 6], atol=1e-5)
    assert found.around(torch.tensor([775])).abs().max() == 0


def test_a_folder_without_whisper(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: no config.json that can be read"):
        speech_states(np.zeros(RATE, np.float32), tmp_path, 25)
