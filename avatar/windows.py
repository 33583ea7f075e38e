"""The motion of a video, in pieces of any length made pieces of whole windows.

Shape legend: T frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.model import GROUP

Array = NDArray[np.float32]

WINDOW = 5  # latent frames generated at once, as in training


class Motion(NamedTuple):
    """A piece of a video's motion; every field has one row a frame, or is None.

    Attributes:
        curves: (T, 52) ARKit curves.
        head: (T, 6), see `avatar.drivers.mesh.ReferenceMesh.place`.
        audio: (T, 10, d) Whisper features around each frame, or None.
        audio_strength: (T,) strength of the speech; None is 1.
        codes: (T, 48) expression codes of a driving face, or None.
        told: (T, 3) how much of mouth, eyes and cheeks follows the codes, in [0, 1].
        pose_strength: (T,) strength of a pose, or None for no pose.
    """

    curves: Array
    head: Array
    audio: Tensor | None = None
    audio_strength: Tensor | None = None
    codes: Array | None = None
    told: Array | None = None
    pose_strength: Array | None = None

    def cut(self, part: slice) -> Motion:
        """Some of the frames."""
        return Motion(*(None if rows is None else rows[part] for rows in self))  # type: ignore[arg-type]

    def joined(self, *others: Motion) -> Motion:
        """This motion and the others one after the other; what one of them lacks, the whole lacks."""
        return Motion(*(_cat(parts) for parts in zip(self, *others, strict=True)))


def _cat(parts: Sequence[Any]) -> Any:
    if any(rows is None for rows in parts):
        return None
    return torch.cat(parts) if isinstance(parts[0], Tensor) else np.concatenate(parts)  # type: ignore[arg-type]


class Window(NamedTuple):
    """What t latent frames are generated from.

    Attributes:
        reference, driven, hole, pose: as in `avatar.model.Conditions`, (1, C, t, h, h).
        audio, codes: the same, (1, t, 4, ...).
        listening: (1, 1, t, h, h), share of each cell that follows the codes.
        audio_strength, pose_strength: (1, t).
        known: as in `avatar.model.Conditions`, (1, C + 1, t, h, h).
    """

    reference: Tensor
    driven: Tensor
    hole: Tensor
    audio: Tensor | None
    audio_strength: Tensor | None
    codes: Tensor | None
    listening: Tensor | None
    pose: Tensor | None
    pose_strength: Tensor | None
    known: Tensor | None

    def joined(self, other: Window) -> Window:
        """This window and the next as one."""
        parts = zip(self, other, TIME, strict=True)
        return Window._make(None if a is None or b is None else torch.cat([a, b], t) for a, b, t in parts)

    def last(self) -> Window:
        """The last latent frame alone."""
        return Window._make(
            None if a is None else a.narrow(t, -1, 1) for a, t in zip(self, TIME, strict=True)
        )


TIME = (2, 2, 2, 1, 1, 1, 2, 2, 1, 2)  # axis of each field


def fill(chunk: Motion, start: bool) -> Motion:
    """Repeat the last frame until the latent frames are whole."""
    return chunk.joined(*[chunk.cut(slice(-1, None))] * (-(len(chunk.curves) - start) % GROUP))


def regroup(motion: Iterable[Motion]) -> Iterator[tuple[Motion, bool]]:
    """The same motion in pieces of whole windows, and whether a piece is the last."""
    size = GROUP * (WINDOW - 1) + 1
    held: Motion | None = None
    for piece in motion:
        held = piece if held is None else held.joined(piece)
        while len(held.curves) > size:
            yield held.cut(slice(None, size)), False
            held, size = held.cut(slice(size, None)), GROUP * (WINDOW - 1)
    if held is not None:
        yield held, True
