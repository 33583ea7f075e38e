"""One-euro smoothing without lag: a low-pass that opens for fast motion, run in both directions of time.

After Casiez, Roussel and Vogel, "1 Euro Filter" (CHI 2012): cutoff = min_cutoff + beta |speed|, in Hz. One
pass lags behind; the mean of a pass forward and one backward does not, as the two lags are each other's
opposite. Shapes: T frames, J joints, D coordinates of a joint, which share one cutoff.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Wide = NDArray[np.float64]

SPEED_CUTOFF = 1.0  # Hz, of the low-pass on the speed; the paper's value
LONGEST_GAP = 0.5  # s, a joint that was missing for longer begins anew


def one_euro(
    values: Array,
    fps: Fraction,
    *,
    min_cutoff: float,
    beta: float,
    present: NDArray[np.bool_] | None = None,
) -> Array:
    """Smoothed values, (T, J, D); reversing time reverses the result and nothing else.

    Args:
        values: (T, J, D), any unit.
        fps: frames a second.
        min_cutoff: Hz, of what rests; lower is smoother.
        beta: Hz per unit of speed (values a second); higher follows fast motion closer.
        present: (T, J), False where a joint is missing: there the value stays as it is and is not looked at.
    """
    wide = values.astype(np.float64)
    here = np.ones(values.shape[:2], bool) if present is None else present
    forward = _one_pass(wide, here, float(fps), min_cutoff, beta)
    backward = _one_pass(wide[::-1], here[::-1], float(fps), min_cutoff, beta)[::-1]
    return ((forward + backward) / 2).astype(np.float32)


def _one_pass(values: Wide, present: NDArray[np.bool_], fps: float, min_cutoff: float, beta: float) -> Wide:
    out = values.copy()
    state, speed = values[0].copy(), np.zeros_like(values[0])
    since = np.where(present[0], 0.0, np.inf)  # s, from the last frame that showed the joint
    for t in range(1, len(values)):
        since += 1 / fps
        here, known = present[t], since <= LONGEST_GAP + 1e-9
        step = np.where(known, since, 1 / fps)[:, None]
        change = values[t] - state
        speed += _share(SPEED_CUTOFF, step) * (change / step - speed)
        cutoff = min_cutoff + beta * np.linalg.norm(speed, axis=-1, keepdims=True)
        follow = np.where(known[:, None], _share(cutoff, step), 1.0)
        state = np.where(here[:, None], state + follow * change, state)
        speed = np.where((here & known)[:, None], speed, 0.0)
        since[here] = 0.0
        out[t] = np.where(here[:, None], state, values[t])
    return out


def _share(cutoff: Wide | float, step: Wide) -> Wide:
    """How far a low-pass of this cutoff in Hz goes towards a new value after `step` seconds, 0 to 1."""
    turn = 2 * math.pi * cutoff * step
    return turn / (turn + 1)
