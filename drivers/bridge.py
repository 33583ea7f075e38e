"""Another Whisper in the place of the one that the nets were trained on.

The sizes of Whisper hear much the same, each in features of its own. Over the first half minute of the
recording both encoders listen, ridge regression finds the linear map from one's features to the other's, and
from then on only the other one is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avatar.drivers.whisper import SAMPLE_RATE, WhisperFeatures

LESSON = 30.0  # s of sound that the map is found on
RIDGE = 0.05  # of the mean variance, added to every direction


class BridgedWhisper(nn.Module):
    """Features of `other`, spoken as those of `own`: same layers, same dim, same rate.

    Args:
        other: what listens; one layer.
        own: what the nets were trained on.
    """

    def __init__(self, other: WhisperFeatures, own: WhisperFeatures) -> None:
        super().__init__()
        self.other, self.own = other, own
        self.layers, self.dim = own.layers, own.dim

    def forward(self, audio: NDArray[np.float32]) -> Tensor:
        """(ceil(samples / 320), layers, dim) of sound (samples,) at 16 kHz."""
        return torch.cat(list(self.stream([audio])))

    @torch.no_grad()
    def stream(self, chunks: Iterable[NDArray[np.float32]]) -> Iterator[Tensor]:
        """The same piece by piece, as in `WhisperFeatures.stream`; memory does not grow with the length."""
        chunks = iter(chunks)
        first: list[NDArray[np.float32]] = []
        while sum(map(len, first)) < LESSON * SAMPLE_RATE and (chunk := next(chunks, None)) is not None:
            first.append(chunk)
        if not sum(map(len, first)):
            return
        lesson = np.concatenate(first)[: int(LESSON * SAMPLE_RATE)]
        bridge = fit_bridge(self.other(lesson).flatten(1), self.own(lesson).flatten(1))
        for features in self.other.stream(chain(first, chunks)):
            yield bridge(features.flatten(1)).unflatten(1, (len(self.layers), self.dim))


def fit_bridge(source: Tensor, target: Tensor) -> nn.Linear:
    """The ridge regression of `target` (n, d) on `source` (n, c)."""
    middle, aim = source.mean(0), target.mean(0)
    x = source - middle
    square = x.T @ x
    square.diagonal().add_(RIDGE * square.diagonal().mean() + 1e-6)
    bridge = nn.Linear(source.shape[1], target.shape[1])
    bridge.weight.data = torch.linalg.solve(square, x.T @ (target - aim)).T
    bridge.bias.data = aim - bridge.weight.data @ middle
    return bridge
