"""Motion of a face and a head that is added to what else moves them, relative to the reference.

Shapes: T frames, 52 curves, 6 head values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES
from avatar.drivers.expression import PART_CURVES, ExpressionSignal
from avatar.drivers.head import HeadSignal
from avatar.drivers.signal import Signal

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class AddedMotion(Signal):
    """Base of the signals that add; see `avatar.drivers.mix`.

    Attributes:
        curves: (T, 52), added to the face curves.
        head: (T, 6), added to the head pose, see `avatar.drivers.head.HeadSignal`.
        sway: (T, 1), change of the size of the idle sway: -1 is none, 1 is twice as much.
    """

    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]] = {"curves": (len(CURVES),), "head": (6,), "sway": (1,)}
    ELEMENTS: ClassVar[Mapping[str, Mapping[str, Sequence[int]]]] = {
        "curves": PART_CURVES,
        "head": {"head": range(6)},
        "sway": {"head": range(1)},
    }

    curves: Array
    head: Array
    sway: Array

    def expression(self, shown: Array) -> ExpressionSignal:
        """Its curves alone, relative to the reference.

        Args:
            shown: what the reference shows already, (52,), for what counts with it.
        """
        return ExpressionSignal(
            fps=self.fps, strength=self.strength, mask=self.mask, curves=self.curves, absolute=False
        )

    @property
    def pose(self) -> HeadSignal:
        """Its head alone."""
        return HeadSignal(fps=self.fps, strength=self.strength, mask=self.mask, head=self.head)
