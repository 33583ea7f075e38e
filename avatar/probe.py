"""The response probe: when one condition moves, does the picture move as much as it truly would?

A person of the clip factory is rendered twice, all conditions at rest and with one of them moved: their
difference is the true change. The model is asked for the same two videos from the picture of that person at
rest. A response of 1 is full obedience, 0 is none; the average loss of a training run shows neither.

Shapes: n frames of S x S pixels, 52 curves, 6 head values: yaw, pitch, roll in radians, shift in face heights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avatar import metrics
from avatar.drivers.curves import CURVES, curve_indices

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[np.float32]
Frames = NDArray[np.uint8]  # (n, S, S, 3)
Renderer = Callable[[Array, Array], Frames]  # curves (n, 52), head (n, 6)

LENGTH = 17  # frames, one training clip
BLUR = 2.0 / 256  # of the side: half a pixel beside its place is no disobedience
NOTICEABLE = 3.0  # levels; where the true change never reaches it, nothing is expected to move
WANTED = 0.8


class Condition(NamedTuple):
    """One thing that moves while all else rests."""

    name: str
    curves: tuple[str, ...]
    yaw: float  # radians
    height: float  # of the pulse, of curves
    track: str  # what the face mesh sees of it, a field of `metrics.Tracks`


CONDITIONS = (
    Condition("jaw", ("jawOpen",), 0.0, 0.5, "aperture"),
    Condition("lips", ("mouthPucker",), 0.0, 0.7, "width"),
    Condition("blink", ("eyeBlink",), 0.0, 1.0, "eyes"),
    Condition("head", (), 0.2, 0.0, "yaw"),
)


class Response(NamedTuple):
    """The model's change / the true one."""

    along: float  # projection on the true change: right place and direction
    size: float  # mean absolute change, wherever it points
    landmarks: float | None  # change of the condition's landmark track; None where no face was found


def conditions(condition: Condition, frames: int = LENGTH) -> tuple[Array, Array]:
    """Curves (n, 52) and head (n, 6) of a pulse of one condition: rest, full, rest."""
    pulse = np.hanning(frames)
    curves, head = np.zeros((frames, len(CURVES)), np.float32), np.zeros((frames, 6), np.float32)
    curves[:, curve_indices(*condition.curves)] = condition.height * pulse[:, None]
    head[:, 0] = condition.yaw * pulse
    return curves, head


def change(moved: Frames, rest: Frames) -> Array:
    """Difference of two videos (n, S, S, 3) in levels, blurred by 2 px at 256."""
    import cv2

    difference = moved.astype(np.float32) - rest.astype(np.float32)
    sigma = BLUR * moved.shape[1]
    return np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in difference]).astype(np.float32)


def pixel_response(model: Array, truth: Array) -> tuple[float, float]:
    """Projection <model, truth> / <truth, truth> and ratio of sizes, over the pixels that truly change."""
    place = np.abs(truth).max(axis=(0, 3)) >= NOTICEABLE
    told, true = model[:, place], truth[:, place]
    return float((told * true).sum() / (true**2).sum()), float(np.abs(told).sum() / np.abs(true).sum())


def landmark_response(model: Sequence[Frames], truth: Sequence[Frames], track: str) -> float | None:
    """The same projection for a landmark track; `model` and `truth` are each (at rest, moved)."""
    from avatar.evaluate import FaceTracker

    def follow(video: Frames) -> NDArray:
        tracker = FaceTracker()
        return np.asarray(getattr(metrics.tracks(np.stack([tracker(frame) for frame in video])), track))

    told, true = (follow(moved) - follow(rest) for rest, moved in (model, truth))
    valid = np.isfinite(told) & np.isfinite(true)
    if valid.sum() < len(valid) / 2:
        return None
    return float((told[valid] * true[valid]).sum() / (true[valid] ** 2).sum())


def respond(
    model: Renderer, truth: Renderer, condition: Condition, rest: tuple[Frames, Frames], landmarks: bool
) -> Response:
    """Response of one model to one condition; `rest` holds both videos with nothing moved, (model, truth)."""
    moved = conditions(condition)
    told, true = model(*moved), truth(*moved)
    along, size = pixel_response(change(told, rest[0]), change(true, rest[1]))
    seen = landmark_response((rest[0], told), (rest[1], true), condition.track) if landmarks else None
    return Response(along, size, seen)


def probe(
    model: Callable[[Frames], Renderer], people: Iterable[Renderer], landmarks: bool = True
) -> dict[str, Response]:
    """Median response to every condition over several people.

    Args:
        model: from a reference picture (S, S, 3) to the renderer of videos of that person.
        people: the true renderers, each of one person with a fixed camera, light and background.
        landmarks: also compare landmark tracks (needs faces that the face mesh finds).
    """
    still = np.zeros((LENGTH, len(CURVES)), np.float32), np.zeros((LENGTH, 6), np.float32)
    found: dict[str, list[Response]] = {condition.name: [] for condition in CONDITIONS}
    for truth in people:
        at_rest = truth(*still)
        told = model(at_rest[0])
        rest = told(*still), at_rest
        for condition in CONDITIONS:
            found[condition.name].append(respond(told, truth, condition, rest, landmarks))
    return {name: _median(responses) for name, responses in found.items()}


def _median(responses: Sequence[Response]) -> Response:
    seen = [r.landmarks for r in responses if r.landmarks is not None]
    return Response(
        median(r.along for r in responses),
        median(r.size for r in responses),
        median(seen) if seen else None,
    )


def table(responses: dict[str, Response]) -> Table:
    """One row per condition."""
    from rich.table import Table

    result = Table("condition", "response", "size", "landmarks", "target", title="response probe")
    for name, response in responses.items():
        colour = "green" if response.along >= WANTED else "red"
        seen = "-" if response.landmarks is None else f"{response.landmarks:.2f}"
        result.add_row(
            name, f"[{colour}]{response.along:.2f}[/]", f"{response.size:.2f}", seen, f">= {WANTED}"
        )
    return result
