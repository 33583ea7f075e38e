"""Several signals that move one face: who moves what, and how far.

Speech owns the mouth's shape. An expression beside it adds only what speech does not say (`BESIDE_SPEECH`);
as the speech's strength falls to 0 the mouth becomes the expression's. Eyes, brows and cheeks follow the
expression; the idle blinks and glances fade as that of a video grows, and go on under a mood. The head
follows the pose, and its idle sway fades. A signal moves only the parts of its mask, at strength 0 it changes
nothing, and what it adds grows in a straight line with its strength. Signals of one kind add up, each by its
own strength and mask and in any order; what they replace fades by the sum of their strengths, up to 1. So a
signal at 0.5 given twice is that signal. Shapes: T frames, 52 curves, 6 head values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.curves import CORNERS, CURVES, curve_indices
from avatar.drivers.expression import CHEEKS, PART_CURVES, ExpressionSignal
from avatar.drivers.mesh import ReferenceMesh

Array = NDArray[np.float32]

BESIDE_SPEECH = CORNERS  # curves of the mouth that an expression may move while speech shapes it
MOUTH = np.zeros(len(CURVES), np.float32)
MOUTH[list(PART_CURVES["mouth"])] = 1
MORE = 0.15
LEAST_SMILE = 0.25  # of a smile, frown and the like of the photo, the most that is taken away beside speech
ACTED = [*PART_CURVES["mouth"], *CHEEKS]  # what of a face's acting a single photo tells
PARTED = list(curve_indices("jawOpen", "mouthUpperUp", "mouthLowerDown"))
FACE_PARTS = ("mouth", "eyes", "cheeks")  # in the order of `avatar.drivers.mesh.part_masks`
SHAPE = MOUTH.copy()  # of the mouth, which is the speech's alone
SHAPE[list(BESIDE_SPEECH)] = 0
WIDE = 0.7  # of a curve: lips that are to part further hardly do so, and the chin tears


def add_expressions(
    curves: Array, signals: Iterable[ExpressionSignal], reference: Array, rest: Array, speech: Array
) -> Array:
    """Curves (T, 52) with expressions added that have as many frames.

    Args:
        curves: what moves the face without them.
        signals: at the frames' times.
        reference: absolute expression of the reference, (52,), as the net reads it.
        rest: the curves that leave the reference as it is, (52,).
        speech: share of the mouth that is the speech's, (T,) in [0, 1].
    """
    added, faded = np.zeros_like(curves), np.zeros_like(curves)
    for signal in signals:
        moved = signal.strength[:, None] * signal.moved("curves")
        added += moved * (signal.curves - reference if signal.absolute else signal.curves)
        if signal.absolute:  # a mood does not say when to blink
            faded += moved
    own = speech[:, None]
    less = np.minimum(added[:, list(CORNERS)] + LEAST_SMILE, 0)
    added[:, list(CORNERS)] -= own * less
    idle = np.minimum(faded, 1) * (1 - own * MOUTH) * (curves - rest)
    return (curves - idle + (1 - own * SHAPE) * added).astype(np.float32)


def shown_by(mesh: ReferenceMesh, reference: Array) -> Array:
    """What a reference shows of mouth and cheeks, (52,), from what the net reads from it.

    How its lips part is the mesh's: of a smile that shows teeth the net gives to the jaw what the lips do.
    """
    shown = np.zeros_like(reference)
    shown[ACTED] = np.maximum(reference[ACTED], 0)
    shown[PARTED] = mesh.parting()[PARTED]
    return shown


def towards(curves: Array, shown: Array) -> Array:
    """What a word's or a prompt's curves (T, 52) add to a reference that shows some already, (52,).

    A curve goes up to its value, which is counted from a neutral face: who smiles does not smile twice. Of
    mouth and cheeks one under 0 is the share that is taken off what the reference shows.
    """
    more = np.where(curves > 0, np.maximum(curves - shown, 0), curves)
    more[:, ACTED] *= np.where(curves[:, ACTED] < 0, shown[ACTED], 1)
    return more.astype(np.float32)


def on_reference(signal: ExpressionSignal, shown: Array) -> ExpressionSignal:
    """A word's curves as what they add to a reference, see `towards`; an absolute signal as it is."""
    return signal if signal.absolute else replace(signal, curves=towards(signal.curves, shown))


def within_reach(curves: Array) -> Array:
    """Curves (T, 52) that stay under 1 + MORE: at 1 a face has done all that it can, and more tears it."""
    beyond = np.maximum(curves - 1, 0)
    return (curves - beyond + MORE * np.tanh(beyond / MORE)).astype(np.float32)


def mildly(signals: Sequence[ExpressionSignal]) -> list[ExpressionSignal] | None:
    """The signals, their strengths of the mouth brought down to 1 together; None where they are not above."""
    total = np.sum([signal.strength * ("mouth" in signal.mask) for signal in signals], 0)
    if not (total > 1).any():
        return None
    less = np.maximum(total, 1)
    return [replace(signal, strength=(signal.strength / less).astype(np.float32)) for signal in signals]


def opened(curves: Array, mild: Array) -> Array:
    """Curves (T, 52) of strengths above 1 whose mouth does no more than a mouth can.

    What shapes it goes no further than to WIDE, and none of its curves under 0; where it was beyond these at
    strength 1 it stays.

    Args:
        mild: the same curves at strength 1.
    """
    more = curves - mild
    up, down = np.maximum(WIDE - mild, 0), np.maximum(mild, 0)
    rise = np.where(SHAPE > 0, _held(more, up), more)
    limited = mild + np.where(more > 0, rise, -_held(-more, down))
    return np.where((MOUTH > 0) & (more != 0), limited, curves).astype(np.float32)


def _held(more: Array, room: Array) -> Array:
    """What is more than it was, softly held within its room."""
    return room * np.tanh(np.maximum(more, 0) / np.maximum(room, 1e-6))


def mix_codes(signals: Sequence[ExpressionSignal], speech: Array) -> tuple[Array, Array]:
    """Expression codes (T, 48) of several signals, and how much mouth, eyes and cheeks follow them, (T, 3).

    The codes are weighed by strength. They were learnt at strength 1, so beyond it they say no more; where
    speech shapes the mouth they leave it alone.

    Args:
        signals: at the frames' times, with codes.
        speech: share of the mouth that is the speech's, (T,) in [0, 1].
    """
    strengths = np.stack([signal.strength for signal in signals])
    total = strengths.sum(0)
    shares = strengths / np.where(total > 0, total, 1)
    codes = np.einsum("st,stc->tc", shares, np.stack([signal.codes for signal in signals]))
    parts = np.array([[part in signal.mask for part in FACE_PARTS] for signal in signals], np.float32)
    told = np.minimum(np.einsum("st,sp->tp", strengths, parts), 1)
    told[:, 0] *= 1 - speech
    return codes.astype(np.float32), told.astype(np.float32)


def add_poses(
    head: Array, poses: Iterable[tuple[Array, Array]], prompts: Iterable[tuple[Array, Array, Array]] = ()
) -> Array:
    """Head pose (T, 6) with those of drivers.

    Args:
        head: the idle sway.
        poses: (T, 6) at a strength (T,) each, in place of the sway.
        prompts: (T, 6) and the change of the sway's size (T, 1) at a strength (T,) each, beside the sway.
    """
    added, share, size = np.zeros_like(head), np.zeros(len(head), np.float32), np.ones_like(head)
    for moved, strength in poses:
        added += strength[:, None] * moved
        share += strength
    for moved, sway, strength in prompts:
        added += strength[:, None] * moved
        size += strength[:, None] * sway
    return (head * np.maximum(size, 0) * (1 - np.minimum(share, 1))[:, None] + added).astype(np.float32)
