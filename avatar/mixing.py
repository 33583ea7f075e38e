"""The signals beside the speech, brought to the frames of one video and added to its motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import partial
from itertools import groupby
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.added_motion import AddedMotion
from avatar.drivers.expression import ExpressionReader, ExpressionSignal
from avatar.drivers.head import HeadSignal
from avatar.drivers.mesh import ReferenceMesh
from avatar.drivers.mix import (
    add_expressions,
    add_poses,
    mildly,
    mix_codes,
    on_reference,
    opened,
    shown_by,
    within_reach,
)
from avatar.drivers.pose import PoseSignal
from avatar.drivers.signal import Signal, step_strength
from avatar.drivers.split import turned_only
from avatar.errors import UserError
from avatar.options import WhenShort
from avatar.windows import Motion

Array = NDArray[np.float32]
HEAD_STEADY = (3.0, 3.0)  # Hz at rest, and for each shoulder width a second: a nod is quick
S = TypeVar("S", bound=Signal)
Mixed = ExpressionSignal | PoseSignal | AddedMotion


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


def _schedule(signals: Sequence[Mixed]) -> Callable[[float], float]:
    """Strength at a sampling time of what signals of one kind say to the net, see `Signal.over_steps`."""
    kind, steps = signals[0].KIND, {signal.steps for signal in signals}
    if len(steps) > 1:
        raise UserError(f"the {kind} signals of one face differ in their steps, give all of them the same")
    if steps != {()} and not all(map(_heard, signals)):
        raise UserError(f"{kind}: has no strengths over steps, as the net hears nothing of it; use scaled")
    return partial(step_strength, steps.pop())


def _heard(signal: Mixed) -> bool:
    """Whether the net hears of a signal, beside what geometry makes of it: not of moods and added motion."""
    return isinstance(signal, PoseSignal) or (
        isinstance(signal, ExpressionSignal) and bool(signal.codes.any())
    )


class Mixer:
    """Adds expressions, poses and prompts to the motion of a video.

    Of a head only yaw and pitch are the face's; `avatar.whole` moves the person by the rest.

    Args:
        mesh: of the reference.
        signals: with their own strengths and masks, of any length and frame rate.
        fps, frames: of the video.
        when_short: see `fitted`.

    Attributes:
        schedules: by kind, the strength of what the net hears at a sampling time.

    Raises:
        UserError: signals of one kind that do not fit together.
    """

    def __init__(
        self,
        mesh: ReferenceMesh,
        signals: Iterable[Mixed],
        *,
        fps: Fraction,
        frames: int,
        when_short: WhenShort,
    ) -> None:
        self.rest, self.own = mesh.rest, np.zeros_like(mesh.rest)
        self.expressions: list[ExpressionSignal] = []
        self.added: list[AddedMotion] = []
        self.heads: list[HeadSignal] = []
        self.schedules: dict[str, Callable[[float], float]] = {}
        felt = [signal for signal in signals if signal.strength.any()]  # at strength 0 it is as if not there
        for kind, own in groupby(sorted(felt, key=lambda signal: signal.KIND), lambda signal: signal.KIND):
            self.schedules[kind] = _schedule(list(own))
        if any(isinstance(signal, ExpressionSignal | AddedMotion) for signal in felt):
            self.own = ExpressionReader()(mesh.landmarks[None])[0]
        shown = shown_by(mesh, self.own)
        for signal in felt:
            if isinstance(signal, ExpressionSignal):
                self.expressions.append(on_reference(fitted(signal, fps, frames, when_short), shown))
            elif isinstance(signal, AddedMotion):
                self.added.append(fitted(signal, fps, frames, when_short))
                self.expressions.append(self.added[-1].expression(shown))
            elif "head" in signal.mask:
                smooth = fitted(signal.smoothed(*HEAD_STEADY), fps, frames, when_short)
                self.heads.append(HeadSignal.of_pose(smooth, mesh.basis))

    @property
    def turns(self) -> list[HeadSignal]:
        """What added motion does with the head."""
        return [signal.pose for signal in self.added if "head" in signal.mask]

    def __call__(self, motion: Motion, first: int, speech: Array) -> Motion:
        """Motion of the frames from `first` on, with the signals added.

        Args:
            speech: share of the mouth that is the speech's, (n,).
        """
        part = np.arange(first, first + len(motion.curves))
        shown = [signal.at_rows(part) for signal in self.expressions]
        turned = [(turned_only(signal.head[part]), signal.strength[part]) for signal in self.heads]
        told = [
            (turned_only(signal.head[part]), signal.sway[part], signal.strength[part])
            for signal in self.added
            if "head" in signal.mask
        ]
        free = motion.curves
        curves = add_expressions(free, shown, self.own, self.rest, speech)
        if (mild := mildly(shown)) is not None:
            curves = opened(curves, add_expressions(free, mild, self.own, self.rest, speech))
        motion = motion._replace(
            curves=within_reach(curves),
            head=add_poses(motion.head, turned, told),
        )
        if turned:
            motion = motion._replace(pose_strength=sum(strength for _, strength in turned))
        if coded := [signal for signal in shown if signal.codes.any()]:
            codes, share = mix_codes(coded, speech)
            motion = motion._replace(codes=codes, told=share)
        return motion
