"""All hidden states of a Whisper encoder around every video frame, as the public audio model hears speech.

`avatar.drivers.whisper` is this project's own way: other windows, another level of silence. The released
model was trained on whole pieces of 30 s, each scaled by its own loudest point (section 5.3 of the
reference). Its code stops after one piece and 400 frames; here the next pieces follow.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.drivers.prompt_encoders import import_transformers, load_model
from avatar.errors import UserError

RATE, FPS = 16_000, 25  # Hz
PIECE = 30 * RATE  # samples
PER_FRAME = 2  # features of a video frame
AROUND, LEAD = 10, 4  # features that a video frame hears, and how many of those are before it


class SpeechStates:
    """Features of a recording at 50 Hz, taken for one video frame after another.

    Args:
        features: (count, states, channels).
        frames: video frames of the recording; later ones hear nothing.
    """

    def __init__(self, features: Tensor, frames: int) -> None:
        after = max(0, PER_FRAME * frames + AROUND - LEAD - len(features))
        self._features = torch.nn.functional.pad(features, (0, 0, 0, 0, LEAD, after))
        self.frames = frames

    def around(self, frames: Tensor) -> Tensor:
        """What the video frames (F,) hear, (F, 10, states, channels); zeros after the end."""
        heard = frames < self.frames
        rows = PER_FRAME * torch.where(heard, frames, 0)[:, None] + torch.arange(AROUND)
        return self._features[rows] * heard[:, None, None, None]


@torch.no_grad()
def speech_states(sound: NDArray[np.float32], folder: Path, frames: int) -> SpeechStates:
    """Hear a recording.

    Args:
        sound: (samples,), mono at 16 kHz.
        folder: of a Whisper model, as transformers writes it.
        frames: of the video at 25 Hz.

    Raises:
        UserError: no such model in the folder.
    """
    import_transformers()
    from transformers import WhisperFeatureExtractor, WhisperModel

    encoder = load_model(WhisperModel, folder, torch.float32, "whisper").encoder
    try:
        mels = WhisperFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'preprocessor_config.json'}: can not be read") from error
    features = []
    for start in range(0, len(sound), PIECE):
        seen = mels(sound[start : start + PIECE], sampling_rate=RATE, return_tensors="pt").input_features
        states = encoder(seen, output_hidden_states=True).hidden_states
        features.append(torch.stack(states, dim=2)[0])
    return SpeechStates(torch.cat(features), frames)
