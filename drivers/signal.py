"""What drives an avatar over time, as a typed record: tracks, frame rate, strength, and parts it may move.

Signals meet by time, never by index: frame i of a signal is the moment i / fps seconds, and holds until the
next. All kinds of signals speak of the same parts of a person: mouth (with jaw and tongue), eyes (lids, gaze
and brows), cheeks (with the nose: what else the face has), head (its turn and place) and body (with arms,
hands and feet). The word "face" stands for mouth, eyes and cheeks. Shapes: T frames; E the elements of a
track (its axis 1), such as keypoints.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.signal_file import read, write
from avatar.drivers.smooth import one_euro
from avatar.errors import UserError

Array = NDArray[np.float32]
Tracks = dict[str, Array]
Seconds = float | Fraction
Points = tuple[tuple[float, float], ...]
S = TypeVar("S", bound="Signal")

PARTS = frozenset({"mouth", "eyes", "cheeks", "head", "body"})
REGIONS = {part: frozenset({part}) for part in PARTS} | {"face": frozenset({"mouth", "eyes", "cheeks"})}


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Base of all signals. A kind of signal adds its tracks, float32 arrays (T, ...), as fields.

    The first track tells how long it is; a number given for another is the same in all frames.

    Attributes:
        fps: frames a second.
        strength: how much of it is applied, (T,).
        mask: the PARTS that it may move.
        face: whom it moves: the number of a face of the picture, counted from 0 by size; None: the chosen
            one.
        steps: (share of the sampling, strength) points, see `over_steps`.
    """

    KIND: ClassVar[str]
    SHAPES: ClassVar[Mapping[str, tuple[int, ...]]]  # of every track, without T
    ELEMENTS: ClassVar[Mapping[str, Mapping[str, Sequence[int]]]]  # track -> part -> places on axis 1
    FACTS: ClassVar[tuple[str, ...]] = ()  # fields that do not change over time

    fps: Fraction
    strength: Array = field(default_factory=lambda: np.ones((), np.float32))
    mask: frozenset[str] = PARTS
    face: int | None = None
    steps: Points = ()

    def __post_init__(self) -> None:
        for name, shape in {**self.SHAPES, "strength": ()}.items():
            track = np.asarray(getattr(self, name), np.float32)
            if track.shape != (len(self), *shape):
                track = np.broadcast_to(track, (len(self), *shape))
            object.__setattr__(self, name, track)

    def __len__(self) -> int:
        return len(getattr(self, next(iter(self.SHAPES))))

    @property
    def seconds(self) -> Fraction:
        """Exact length."""
        return len(self) / self.fps

    @property
    def tracks(self) -> Tracks:
        """All tracks by name."""
        return {name: getattr(self, name) for name in self.SHAPES}

    def moved(self, track: str) -> Array:
        """(E,), 1 for the elements of a track that lie in the mask, 0 for the others."""
        out = np.zeros(self.SHAPES[track][0], np.float32)
        for part in self.mask:
            out[list(self.ELEMENTS[track].get(part, ()))] = 1
        return out

    def _with(self: S, tracks: Tracks, **fields: Any) -> S:
        """The signal with other tracks and fields."""
        return replace(self, **fields, **dict[str, Any](tracks))

    # ---- one signal ----------------------------------------------------------------------------

    def at_rows(self: S, rows: NDArray[np.integer]) -> S:
        """The signal made of these frames, at the same frame rate."""
        moved = {name: track[rows] for name, track in self.tracks.items()}
        return self._with(moved, strength=self.strength[rows])

    def cut(self: S, start: Seconds = 0, stop: Seconds | None = None) -> S:
        """The frames with start <= time < stop, in seconds; without `stop`, to the end.

        Raises:
            UserError: nothing lies between them.
        """
        first = math.ceil(exactly(start) * self.fps)
        last = len(self) if stop is None else min(len(self), math.ceil(exactly(stop) * self.fps))
        if first < 0 or first >= last:
            end = "the end" if stop is None else f"{float(stop):g} s"
            raise UserError(
                f"no frames from {float(start):g} s to {end}: the {self.KIND} signal has"
                f" {float(self.seconds):g} s"
            )
        return self.at_rows(np.arange(first, last))

    def looped(self: S, seconds: Seconds, mirror: bool = False) -> S:
        """The signal over and over until `seconds` are full; `mirror` plays every other turn backwards."""
        count = math.ceil(exactly(seconds) * self.fps)
        if count < 1:
            raise UserError(f"a loop of {float(seconds):g} s has no frames")
        return self.at_rows(repeated(np.arange(count), len(self), mirror))

    def resampled(self: S, fps: Fraction, frames: int | None = None) -> S:
        """The same motion at another frame rate, linear between frames; the last frame holds.

        Args:
            fps: frames a second.
            frames: how many; without it ceil(seconds x fps), the whole length.
        """
        count = math.ceil(self.seconds * fps) if frames is None else frames
        if fps == self.fps:
            return self.at_rows(np.minimum(np.arange(count), len(self) - 1))
        time = np.arange(count) * float(self.fps / fps)
        rows = np.clip(time, 0, len(self) - 1)
        low = np.floor(rows + 1e-9).astype(np.int64)
        high = np.minimum(low + 1, len(self) - 1)
        late = np.clip(rows - low, 0, 1).astype(np.float32)
        ends = [{name: track[side] for name, track in self.tracks.items()} for side in (low, high)]
        shares = np.stack([1 - late, late])
        weights = {name: np.repeat(shares[..., None], shape[0], 2) for name, shape in self.SHAPES.items()}
        strength = (1 - late) * self.strength[low] + late * self.strength[high]
        return self._with(self._average(ends, weights), fps=fps, strength=strength)

    def smoothed(self: S, min_cutoff: float = 1.5, beta: float = 1.0) -> S:
        """One-euro smoothed without lag, every element on its own; see `smooth.one_euro`."""
        moved = {
            name: one_euro(
                track.reshape(len(self), -1, 1), self.fps, min_cutoff=min_cutoff, beta=beta
            ).reshape(track.shape)
            for name, track in self.tracks.items()
        }
        return self._with(moved)

    def scaled(self: S, strength: float | Sequence[tuple[Seconds, float]]) -> S:
        """The signal with its strength multiplied by a number, or by a curve over time.

        Args:
            strength: 0 or more; or (seconds, strength) pairs in order of time, straight lines between
                them, the first and last held.

        Raises:
            UserError: negative or not a number, or times that do not rise.
        """
        points = _checked([(0.0, strength)] if isinstance(strength, int | float) else strength, strength)
        times, values = np.array(points).T
        if (np.diff(times) <= 0).any():
            raise UserError(f"strength {strength}: its times must rise")
        curve = np.interp(np.arange(len(self)) / float(self.fps), times, values)
        return replace(self, strength=(self.strength * curve).astype(np.float32))

    def over_steps(self: S, *points: tuple[float, float]) -> S:
        """The signal with a strength that changes while a frame is sampled, in place of an earlier such one.

        It multiplies what the signal's adapter adds to the net at each denoising step. What is made before
        the sampling, such as the driven reference, follows `scaled` alone.

        Args:
            points: (share, strength), the share of the way from noise (0) to the picture (1), straight lines
                between them, the first and last held; two points at one share are a jump.

        Raises:
            UserError: a negative strength, or shares that fall or leave 0 to 1.
        """
        shares, _ = np.array(_checked(points, points)).T
        if (np.diff(shares) < 0).any() or shares[0] < 0 or shares[-1] > 1:
            raise UserError(f"steps {points}: their shares must rise from 0 to 1")
        return replace(self, steps=tuple((float(share), float(strength)) for share, strength in points))

    def on_face(self: S, number: int) -> S:
        """The signal for a face of the picture, counted from 0 by size; UserError for less."""
        if number < 0:
            raise UserError(f"face {number}: faces are counted from 0, the largest")
        return replace(self, face=number)

    def masked(self: S, *regions: str) -> S:
        """The signal with no more than these of its parts.

        Args:
            regions: of REGIONS.

        Raises:
            UserError: a region that there is not.
        """
        return replace(self, mask=self.mask & parts_of(*regions))

    # ---- several signals -----------------------------------------------------------------------

    def joined(self: S, *others: S) -> S:
        """This signal and the others one after the other, at this one's frame rate."""
        for other in others:
            self._check_kin(other)
        parts = [self, *(other.resampled(self.fps) for other in others)]
        tracks = {name: np.concatenate([part.tracks[name] for part in parts]) for name in self.SHAPES}
        return self._with(tracks, strength=np.concatenate([part.strength for part in parts]))

    def mixed(self: S, others: Sequence[S], weights: Sequence[float]) -> S:
        """The weighted mean of this signal and the others at this one's frame rate, as long as the longest.

        A signal counts by weight x strength, in the parts of its mask, until it ends. The mix may move all
        parts that one of them may; its strength is the mean of theirs by weight.

        Args:
            others: of the same kind.
            weights: of this signal and then of the others, 0 or more.

        Raises:
            UserError: weights that do not fit, signals that can not be mixed.
        """
        given = np.array(weights, np.float32)
        if given.shape != (1 + len(others),) or not (given >= 0).all() or not given.sum() > 0:
            raise UserError(
                f"weights {list(weights)}: give one of 0 or more for each of {1 + len(others)} signals"
            )
        for other in others:
            self._check_kin(other, masks=False)
        signals: list[S] = [self, *others]
        frames = math.ceil(max(signal.seconds for signal in signals) * self.fps)
        time = np.arange(frames) / float(self.fps)
        runs = np.stack([time < float(signal.seconds) for signal in signals])
        parts = [signal.resampled(self.fps, frames) for signal in signals]
        share = np.where(runs, given[:, None], 0)
        share = np.where(share.sum(0) > 0, share, runs).astype(np.float32)  # only those of weight 0 run
        strength = np.stack([part.strength for part in parts])
        counts = {
            name: np.stack([part.moved(name) for part in parts])[:, None] * (share * strength)[..., None]
            for name in self.SHAPES
        }
        tracks = self._average([part.tracks for part in parts], counts)
        mask = frozenset().union(*(part.mask for part in parts))
        return self._with(tracks, strength=(share * strength).sum(0) / share.sum(0), mask=mask)

    def _check_kin(self, other: Signal, masks: bool = True) -> None:
        if other.KIND != self.KIND:
            raise UserError(f"a {self.KIND} signal and a {other.KIND} signal can not be put together")
        for name in (*self.FACTS, "face", "steps", *(("mask",) if masks else ())):
            if getattr(self, name) != getattr(other, name):
                raise UserError(
                    f"the {self.KIND} signals differ in their {name}, they can not be put together"
                )

    @classmethod
    def _average(cls, parts: Sequence[Tracks], weights: Mapping[str, Array]) -> Tracks:
        """Weighted mean of the tracks of `parts`; weights (parts, T, E). The first part where all are 0."""
        return {
            name: weighted_mean(np.stack([part[name] for part in parts]), weights[name])
            for name in cls.SHAPES
        }

    # ---- files ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; it appears under its name only when it is whole.

        Raises:
            UserError: the folder can not be written to.
        """
        tensors = self.tracks | {"strength": self.strength}
        meta = {"fps": str(self.fps), "mask": ",".join(sorted(self.mask))}
        meta |= {"face": json.dumps(self.face), "steps": json.dumps(self.steps)}
        meta["facts"] = json.dumps({name: getattr(self, name) for name in self.FACTS})
        write(Path(path), self.KIND, tensors, meta)

    @classmethod
    def load(cls: type[S], path: str | Path) -> S:
        """Read a file that `save` wrote.

        Raises:
            UserError: missing, damaged, of another version or kind, or changed since it was written.
        """
        tensors, meta = read(Path(path), cls.KIND)
        try:
            return cls._unpack(tensors, meta)
        except (KeyError, ValueError, TypeError, ZeroDivisionError) as error:
            raise UserError(f"{path}: is not a complete {cls.KIND} signal, make the file again") from error

    @classmethod
    def _unpack(cls: type[S], tensors: Tracks, meta: Mapping[str, str]) -> S:
        frames = len(tensors["strength"])
        for name, shape in {**cls.SHAPES, "strength": ()}.items():
            track = tensors[name]
            if frames < 1 or track.shape != (frames, *shape) or track.dtype != np.float32:
                raise ValueError(f"{name} {track.shape}")
            if not np.isfinite(track).all():
                raise ValueError(f"{name} has values that are no numbers")
        fps, mask = Fraction(meta["fps"]), frozenset(filter(None, meta["mask"].split(",")))
        if fps <= 0 or not mask <= PARTS:
            raise ValueError(f"fps {fps}, mask {mask}")
        facts = cls._read_facts(json.loads(meta["facts"]))
        steps = tuple((float(share), float(strength)) for share, strength in json.loads(meta["steps"]))
        facts |= {"face": json.loads(meta["face"]), "steps": steps}
        facts |= {name: tensors[name] for name in (*cls.SHAPES, "strength")}
        return cls(fps=fps, mask=mask, **facts)

    @classmethod
    def _read_facts(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        """The FACTS as they come from JSON, made what the fields are; ValueError for wrong ones."""
        return {name: facts[name] for name in cls.FACTS}


def repeated(rows: NDArray[np.integer], count: int, mirror: bool) -> NDArray[np.integer]:
    """Rows of something that has `count` of them and goes on over and over; with `mirror`, back and forth."""
    if not mirror or count == 1:
        return rows % count
    turn = rows % (2 * count - 2)
    return np.minimum(turn, 2 * count - 2 - turn)


def parts_of(*regions: str) -> frozenset[str]:
    """The PARTS of some REGIONS; UserError for one that there is not, or none."""
    unknown = sorted(set(regions) - set(REGIONS))
    if unknown or not regions:
        raise UserError(f"region {', '.join(unknown) or 'missing'}: must be of {', '.join(sorted(REGIONS))}")
    return frozenset().union(*(REGIONS[region] for region in regions))


def exactly(seconds: Seconds) -> Fraction:
    """A number as the decimal that it is written as: 2.4 is 24/10, which no binary float is."""
    return Fraction(str(seconds))


def step_strength(steps: Points, time: float) -> float:
    """Strength of `Signal.steps` at a share of the sampling; 1 where there are none."""
    return float(np.interp(time, *np.array(steps).T)) if steps else 1.0


def _checked(points: Sequence[tuple[Seconds, float]], given: object) -> list[tuple[float, float]]:
    """(place, strength) points, each strength 0 or more; `given` is what the user wrote."""
    pairs = [(float(place), float(strength)) for place, strength in points]
    if not pairs or not np.isfinite(pairs).all() or min(strength for _, strength in pairs) < 0:
        raise UserError(f"strength {given}: must be 0 or more")
    return pairs


def weighted_mean(values: Array, weights: Array) -> Array:
    """Mean over axis 0 of (n, T, E, ...) by weights (n, T, E); the first of n where all weights are 0."""
    total = weights.sum(0)
    share = weights / np.where(total > 0, total, 1)
    share[0] += total <= 0
    share = share.reshape(share.shape + (1,) * (values.ndim - share.ndim))
    return (share * values).sum(0).astype(np.float32)
