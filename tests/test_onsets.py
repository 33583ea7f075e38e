"""Onsets and their match with visible blows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avatar.backbone.mel import MelConfig, log_mel
from avatar.recipes.modal import RATE, Body, place
from avatar.recipes.onsets import matched, onsets


def test_blows_are_found_when_they_happen() -> None:
    rng, times = np.random.default_rng(0), [0.5, 0.9, 1.6, 2.2]
    sound = 1e-3 * rng.standard_normal(3 * RATE).astype(np.float32)
    body = Body("oak", 1.0, rng)
    for time in times:
        place(sound, body.strike(0.7, rng), time)
    found = onsets(log_mel(torch.from_numpy(sound)[None], MelConfig())[0])
    assert found == pytest.approx(times, abs=0.03)


def test_steady_noise_has_no_onsets() -> None:
    noise = torch.randn(1, 3 * RATE, generator=torch.Generator().manual_seed(0))
    assert len(onsets(log_mel(0.1 * noise, MelConfig())[0])) == 0


@pytest.mark.parametrize(
    ("hits", "found", "expected"),
    [
        ([1.0], [1.07], 1),
        ([1.0], [1.09], 0),
        ([1.0, 1.05], [1.02], 1),
        ([1.0, 2.0, 3.0], [0.5, 1.01, 2.95], 2),
        ([], [1.0], 0),
        ([1.0], [], 0),
    ],
)
def test_each_onset_answers_for_one_blow(hits: list[float], found: list[float], expected: int) -> None:
    assert matched(np.array(hits), np.array(found)) == expected
