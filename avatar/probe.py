"""The response probe: when one condition moves, does the picture move as much as it truly would?

A person of the clip factory is rendered twice, all conditions at rest and with one of them moved: their
difference is the true change. The model is asked for the same two videos from the picture of that person at
rest. A response of 1 is full obedience, 0 is none; the average loss of a training run shows neither.

Shapes: n frames of S x S pixels, 52 curves, 6 head values: yaw, pitch, roll in radians, shift in face heights
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
Sitter = Callable[
    [Array, Array], tuple[Frames, Array]
]  # curves (n, 52), angles (n, 3): frames and head (n, 6)

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
    """Curves (n, 52) and yaw, pitch, roll (n, 3) of a pulse of one condition: rest, full, rest."""
    pulse = np.hanning(frames)
    curves, angles = np.zeros((frames, len(CURVES)), np.float32), np.zeros((frames, 3), np.float32)
    curves[:, curve_indices(*condition.curves)] = condition.height * pulse[:, None]
    angles[:, 0] = condition.yaw * pulse
    return curves, angles


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


def follow(video: Frames) -> metrics.Tracks:
    """Tracks of a video in memory."""
    from avatar.watch import FaceTracker

    tracker = FaceTracker()
    return metrics.tracks(np.stack([tracker(frame) for frame in video]))


def landmark_response(model: NDArray[np.floating], truth: NDArray[np.floating]) -> float | None:
    """The same projection for the change of a landmark track (n,); None if most frames show no face."""
    valid = np.isfinite(model) & np.isfinite(truth)
    if valid.sum() < len(valid) / 2:
        return None
    return float((model[valid] * truth[valid]).sum() / (truth[valid] ** 2).sum())


def respond(
    model: Callable[[NDArray[np.uint8]], Renderer], truth: Sitter, landmarks: bool = True
) -> dict[str, Response]:
    """Response to every condition for one person; arguments as in `probe`."""
    still = np.zeros((LENGTH, len(CURVES)), np.float32), np.zeros((LENGTH, 3), np.float32)
    true_rest, head = truth(*still)
    told = model(true_rest[0])
    told_rest = told(still[0], head)
    seen_rest = (follow(told_rest), follow(true_rest)) if landmarks else None
    found = {}
    for condition in CONDITIONS:
        curves, angles = conditions(condition)
        true_moved, head = truth(curves, angles)
        told_moved = told(curves, head)
        along, size = pixel_response(change(told_moved, told_rest), change(true_moved, true_rest))
        seen = None
        if seen_rest:
            videos = zip((told_moved, true_moved), seen_rest, strict=True)
            seen = landmark_response(
                *(
                    getattr(follow(moved), condition.track) - getattr(rest, condition.track)
                    for moved, rest in videos
                )
            )
        found[condition.name] = Response(along, size, seen)
    return found


def probe(
    model: Callable[[NDArray[np.uint8]], Renderer], people: Iterable[Sitter], landmarks: bool = True
) -> dict[str, Response]:
    """Median response to every condition over several people.

    Args:
        model: from a reference picture (S, S, 3) to the renderer of videos of that person.
        people: true renderers, each of one person with a fixed camera, light and background, facing the
            camera. They also say how the head truly moved, shift included, and the model is told that.
        landmarks: also compare landmark tracks (needs faces that the face mesh finds).
    """
    found = [respond(model, truth, landmarks) for truth in people]
    return {condition.name: _median([f[condition.name] for f in found]) for condition in CONDITIONS}


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
