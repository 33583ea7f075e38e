"""Several signals that move one face: who moves what, and how far.

Speech owns the mouth's shape. An expression beside it adds only what speech does not say
(`BESIDE_SPEECH`); without speech it moves the mouth too. Eyes, brows and cheeks follow the expression; the
idle blinks and glances fade as that of a video grows, and go on under a mood. The head follows the pose, and
its idle sway fades. A signal moves only the regions of its mask, at strength 0 it changes nothing, and what
it adds grows in a straight line with its strength. Shapes: T frames, 52 curves, 6 head values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES, curve_indices
from avatar.drivers.expression import REGION_CURVES, ExpressionSignal

Array = NDArray[np.float32]

# Curves of the mouth that an expression may move while speech shapes it.
BESIDE_SPEECH = curve_indices("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch", "mouthUpperUp")


def add_expression(
    curves: Array, signal: ExpressionSignal, reference: Array, rest: Array, speaks: bool
) -> Array:
    """Curves (T, 52) with an expression added that has as many frames.

    Args:
        curves: what moves the face without it.
        signal: at the frames' times.
        reference: absolute expression of the reference, (52,), as the net reads it.
        rest: the curves that leave the reference as it is, (52,).
        speaks: whether `curves` holds speech.
    """
    added = signal.curves - reference if signal.absolute else signal.curves
    strength = signal.strength[:, None]
    moved = _columns(signal.mask, speaks)
    faded = moved.copy()
    if speaks:
        faded[list(REGION_CURVES["mouth"])] = False
    fade = np.minimum(strength, 1) if signal.absolute else 0  # a mood does not say when to blink
    idle = np.where(faded, curves - rest, 0) * fade
    return (curves - idle + np.where(moved, strength * added, 0)).astype(np.float32)


def _columns(mask: frozenset[str], speaks: bool) -> NDArray[np.bool_]:
    """(52,), the curves that an expression moves."""
    moved = np.zeros(len(CURVES), bool)
    for region in mask:
        moved[list(REGION_CURVES[region])] = True
    if speaks:
        mouth = set(REGION_CURVES["mouth"]) - set(BESIDE_SPEECH)
        moved[list(mouth)] = False
    return moved


def add_pose(head: Array, moved: Array, strength: Array) -> Array:
    """Head pose (T, 6) with that of a driver (T, 6) at a strength (T,): the idle sway fades as it grows."""
    share = strength[:, None]
    return (head * (1 - np.minimum(share, 1)) + share * moved).astype(np.float32)
