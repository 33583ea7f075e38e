"""The signals beside the speech, brought to the frames of one video and added to its motion."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.expression import ExpressionReader, ExpressionSignal
from avatar.drivers.head import HeadSignal
from avatar.drivers.mesh import ReferenceMesh
from avatar.drivers.mix import add_expression, add_pose
from avatar.drivers.pose import PoseSignal
from avatar.drivers.signal import Signal
from avatar.errors import UserError
from avatar.options import WhenShort

Array = NDArray[np.float32]
S = TypeVar("S", bound=Signal)


def fitted(signal: S, fps: Fraction, frames: int, when_short: WhenShort) -> S:
    """A signal with as many frames as the video, by time.

    Args:
        when_short: what a signal does that ends before the video: hold its last frame, begin again, go back
            and forth, or be refused. A signal of one frame always holds.

    Raises:
        UserError: it is too short and `when_short` is "error".
    """
    seconds = frames / fps
    if signal.seconds <= (frames - 1) / fps and len(signal) > 1:
        if when_short == "error":
            raise UserError(
                f"the {signal.KIND} signal has {float(signal.seconds):g} s, the video {float(seconds):g} s;"
                " use --when-short hold, loop or mirror"
            )
        if when_short != "hold":
            whole = Fraction(math.ceil(seconds * signal.fps)) / signal.fps
            signal = signal.looped(whole, mirror=when_short == "mirror")
    return signal.resampled(fps, frames)


class Mixer:
    """Adds an expression and a pose to the motion of a video.

    Args:
        mesh: of the reference.
        expression, pose: with their own strengths and masks, of any length and frame rate.
        fps, frames: of the video.
        when_short: see `fitted`.
        speaks: whether the motion holds speech.
    """

    def __init__(
        self,
        mesh: ReferenceMesh,
        expression: ExpressionSignal | None,
        pose: PoseSignal | None,
        *,
        fps: Fraction,
        frames: int,
        when_short: WhenShort,
        speaks: bool,
    ) -> None:
        self.speaks, self.rest = speaks, mesh.rest
        self.expression: ExpressionSignal | None = None
        self.head: HeadSignal | None = None
        if expression is not None:
            self.expression = fitted(expression, fps, frames, when_short)
            self.own = np.zeros_like(mesh.rest)
            if expression.absolute:
                self.own = ExpressionReader()(mesh.landmarks[None])[0]
        if pose is not None and "head" in pose.mask:
            whole = fitted(pose.smoothed(), fps, frames, when_short)
            self.head = HeadSignal.of_pose(whole, mesh.basis)

    def __call__(self, curves: Array, head: Array, first: int) -> tuple[Array, Array]:
        """Curves (n, 52) and head (n, 6) of the frames from `first` on, with the signals added."""
        part = np.arange(first, first + len(curves))
        if self.expression is not None:
            shown = self.expression.at_rows(part)
            curves = add_expression(curves, shown, self.own, self.rest, self.speaks)
        if self.head is not None:
            head = add_pose(head, self.head.head[part], self.head.strength[part])
        return curves, head
