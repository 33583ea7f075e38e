"""The signals beside the speech, brought to the frames of one video and added to its motion."""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.expression import ExpressionReader, ExpressionSignal
from avatar.drivers.head import HeadSignal
from avatar.drivers.mesh import ReferenceMesh
from avatar.drivers.mix import add_expressions, add_poses
from avatar.drivers.pose import PoseSignal
from avatar.drivers.signal import Signal
from avatar.drivers.split import turned_only
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
    """Adds expressions and poses to the motion of a video.

    Args:
        mesh: of the reference.
        signals: with their own strengths and masks, of any length and frame rate.
        fps, frames: of the video.
        when_short: see `fitted`.
        whole: whether `avatar.whole` moves the person, so that only yaw and pitch of a pose are the face's.
    """

    def __init__(
        self,
        mesh: ReferenceMesh,
        signals: Iterable[ExpressionSignal | PoseSignal],
        *,
        fps: Fraction,
        frames: int,
        when_short: WhenShort,
        whole: bool = False,
    ) -> None:
        self.whole = whole
        self.rest, self.own = mesh.rest, np.zeros_like(mesh.rest)
        self.expressions: list[ExpressionSignal] = []
        self.heads: list[HeadSignal] = []
        for signal in signals:
            if isinstance(signal, ExpressionSignal):
                self.expressions.append(fitted(signal, fps, frames, when_short))
            elif "head" in signal.mask:
                smooth = fitted(signal.smoothed(), fps, frames, when_short)
                self.heads.append(HeadSignal.of_pose(smooth, mesh.basis))
        if any(signal.absolute for signal in self.expressions):
            self.own = ExpressionReader()(mesh.landmarks[None])[0]

    def __call__(self, curves: Array, head: Array, first: int, speech: Array) -> tuple[Array, Array]:
        """Curves (n, 52) and head (n, 6) of the frames from `first` on, with the signals added.

        Args:
            speech: share of the mouth that is the speech's, (n,).
        """
        part = np.arange(first, first + len(curves))
        shown = [signal.at_rows(part) for signal in self.expressions]
        turned = [(signal.head[part], signal.strength[part]) for signal in self.heads]
        if self.whole:
            turned = [(turned_only(head), strength) for head, strength in turned]
        return add_expressions(curves, shown, self.own, self.rest, speech), add_poses(head, turned)
