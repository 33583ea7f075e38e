"""One-euro smoothing: still where it should be, without lag, and blind to what is missing."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.smooth import one_euro

FPS = Fraction(25)


def smooth(
    values: NDArray, min_cutoff: float = 1.0, beta: float = 0.0, present: NDArray | None = None
) -> NDArray:
    """A single joint with one coordinate."""
    here = None if present is None else present[:, None]
    wide = values.astype(np.float32)[:, None, None]
    return one_euro(wide, FPS, min_cutoff=min_cutoff, beta=beta, present=here)[:, 0, 0]


def noise(frames: int = 200) -> NDArray:
    return np.random.default_rng(0).normal(0, 1, frames)


def test_what_rests_stays_and_noise_is_damped() -> None:
    assert np.array_equal(smooth(np.full(20, 3.0)), np.full(20, 3.0, np.float32))
    # A pass with share a = turn / (1 + turn), turn = 2 pi cutoff / fps, lets a / (2 - a) of the power of
    # white noise through: 0.112 for 1 Hz. Two passes share the frame itself, weight a each: their mean has
    # the power (0.112 + a ** 2) / 2 = 0.076, the amplitude 0.28.
    assert 0.2 < smooth(noise())[20:-20].std() / noise().std() < 0.34


def test_there_is_no_lag() -> None:
    ramp = np.arange(100) * 0.2
    one_way = 0.2 * 25 / (2 * np.pi)  # speed / (2 pi cutoff), how far behind a single pass settles
    assert np.abs(smooth(ramp) - ramp)[40:60].max() < 0.02 * one_way
    wave = np.sin(2 * np.pi * np.arange(200) / 50)  # 0.5 Hz
    lags = range(-10, 11)
    match = [np.dot(smooth(wave)[50:150], np.roll(wave, lag)[50:150]) for lag in lags]
    assert lags[int(np.argmax(match))] == 0


def test_time_may_run_either_way() -> None:
    assert np.allclose(smooth(noise()[::-1], beta=0.5)[::-1], smooth(noise(), beta=0.5), atol=1e-6)


def test_beta_follows_fast_motion() -> None:
    step = np.repeat([0.0, 10.0], 30)
    slow, fast = (np.abs(smooth(step, beta=beta) - step).sum() for beta in (0.0, 0.5))
    assert fast < 0.5 * slow


def test_missing_values_are_kept_and_not_looked_at() -> None:
    values, present = np.sin(np.arange(60) / 8), np.ones(60, bool)
    present[20:25] = False
    wild = values.copy()
    wild[20:25] = 1e6
    out = smooth(wild, present=present)
    assert np.array_equal(out[20:25], wild[20:25].astype(np.float32))
    assert np.abs(out[present] - smooth(values)[present]).max() < 0.1


def test_after_a_long_absence_a_joint_begins_anew() -> None:
    values, present = np.repeat([0.0, 50.0], 40), np.ones(80, bool)
    present[20:40] = False  # 0.8 s
    out = smooth(values, present=present)
    assert np.abs(out[present] - values[present]).max() < 1e-4


def test_a_single_frame_is_itself() -> None:
    assert smooth(np.array([4.0])).tolist() == [4.0]
