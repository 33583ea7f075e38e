"""The film that an expression was taken from, with what was seen: landmarks, and the curves as bars.

Shapes: T frames (H, W, 3), enlarged to a height in which the names can be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES
from avatar.drivers.expression import ExpressionSignal, follow
from avatar.drivers.face import Points

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

LOWEST = 360  # px, height of the preview at least
STRIP, MARGIN = 220, 10  # px, width of the strip of bars, and what stays free around a bar
BARS = 10  # the strongest curves are shown
PEAK = 95  # percentile over time by which curves are ranked
LIFTED, LOWERED, DOT, WHITE = (90, 200, 120), (220, 130, 90), (80, 220, 255), (235, 235, 235)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def preview_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the preview of a film of this size, px."""
    scale = _scale(size[1])
    return round(size[0] * scale) + STRIP, round(size[1] * scale)


def expression_overlays(
    frames: Iterable[Pixels], signal: ExpressionSignal, face: str = "largest", name: str = "video"
) -> Iterator[Pixels]:
    """The frames that a signal was taken from, with the landmarks of the face and the strongest curves.

    Args:
        face: as the signal was taken, see `read_expression`.
        name: of the film, for messages.
    """
    chosen = np.argsort(-np.percentile(np.abs(signal.curves), PEAK, axis=0), kind="stable")[:BARS]
    held: list[Pixels] = []

    def shown() -> Iterator[Pixels]:
        for frame in frames:
            held.append(frame)
            yield frame

    for points, curves in zip(follow(shown(), face, name), signal.curves, strict=True):
        frame = held.pop()
        picture = _with_landmarks(frame, points)
        yield np.concatenate([picture, _bars(curves, chosen, picture.shape[0])], axis=1)


def _scale(height: int) -> float:
    return max(1.0, LOWEST / height)


def _with_landmarks(frame: Pixels, points: Points | None) -> Pixels:
    height, width = frame.shape[:2]
    scale = _scale(height)
    size = round(width * scale), round(height * scale)
    picture = np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC))
    if points is None:
        cv2.putText(picture, "no face, held", (MARGIN, 3 * MARGIN), FONT, 0.6, LOWERED, 2, cv2.LINE_AA)
        return picture
    places = (points[:, :2] * scale).round().astype(int)
    for x, y in places.tolist():
        cv2.circle(picture, (x, y), 1, DOT, thickness=-1)
    low, high = places.min(0).tolist(), places.max(0).tolist()
    cv2.rectangle(picture, low, high, DOT, thickness=1)
    return picture


def _bars(curves: Array, chosen: NDArray[np.int64], height: int) -> Pixels:
    """Strip (height, STRIP, 3) with a bar for each chosen curve: full at 1, of another colour below 0."""
    strip = np.full((height, STRIP, 3), 24, np.uint8)
    step = (height - MARGIN) // len(chosen)
    for place, index in enumerate(chosen.tolist()):
        top = MARGIN + place * step
        value = float(curves[index])
        middle = top + step // 2
        cv2.putText(strip, CURVES[index], (MARGIN, middle - 2), FONT, 0.38, WHITE, 1, cv2.LINE_AA)
        end = MARGIN + round(min(abs(value), 1.0) * (STRIP - 2 * MARGIN))
        colour = LIFTED if value >= 0 else LOWERED
        cv2.rectangle(strip, (MARGIN, middle + 2), (end, top + step - 4), colour, thickness=-1)
    return strip
