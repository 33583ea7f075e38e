"""Figures of one clip: where it is cut out, how sharp it is, how the face moves, what text it shows.

Coordinates are px of the picture that is given. Shapes: T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import FEATURES, Crop, Face, extract
from avatar.metrics import grey, laplacian_variance
from avatar.picture import FaceDescriptor

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

MARGIN = 0.25  # face heights that a clip shows around a face wherever it goes
LOWER = 0.1  # face heights, how far the middle of a clip lies under that of the face
RARE = 2.0  # percent of the frames at either end that do not count for where a face goes
AS_SHARP = 0.9  # of the highest variance, a clip may start with such a frame
TEXT_SIDE = 384  # px, side of the picture in which text is looked for: lines of 9 px are read in it
READ = 0.8  # score from which on a line is text
SHARP_SIDE = 96  # px, height of a face whose sharpness is measured
FACE_SIDE = 256  # px, of the square around a face that the descriptor is given


def steady_crop(
    points: Points, heights: float, window: tuple[float, float, float, float]
) -> tuple[Crop, float]:
    """One square for a whole clip, and the side that the face's ways need / the side that there is.

    Args:
        points: landmarks (T, 478, 3).
        heights: side in median face heights.
        window: left, top, right and bottom of the picture without bars; the square lies inside.
    """
    height = float(np.median([Face(p).height for p in points]))
    low = np.percentile(points[..., :2].min(1), RARE, axis=0) - MARGIN * height
    high = np.percentile(points[..., :2].max(1), 100 - RARE, axis=0) + MARGIN * height
    wanted, needed = heights * height, float((high - low).max())
    left, top, right, bottom = window
    room = min(right - left, bottom - top)
    side = min(max(wanted, needed), room)
    x, y = (low + high) / 2 + [0, LOWER * height] - side / 2
    even = max(2, int(side) // 2 * 2)
    x, y = np.clip(x, left, right - side), np.clip(y, top, bottom - side)
    # Whole pairs of pixels: the colours of a film have half its resolution.
    return Crop(int(np.ceil(x / 2 - 1e-6)) * 2, int(np.ceil(y / 2 - 1e-6)) * 2, even - 2), needed / min(
        wanted, room
    )


def outside(points: Points, crop: Crop) -> float:
    """Share of the frames in which eyes, nose or mouth lie beyond the border of a clip."""
    inside = crop.to_crop(points[:, list(FEATURES), :2], crop.side)
    return float(((inside < 0) | (inside > crop.side)).any((1, 2)).mean())


def face_motion(points: Points) -> NDArray[np.float32]:
    """Opening of the lips and the face's place about its mean, (T, 3), in median face heights."""
    heights = np.linalg.norm(points[:, 10, :2] - points[:, 152, :2], axis=1)
    aperture = np.linalg.norm(points[:, 13, :2] - points[:, 14, :2], axis=1) / heights
    place = points[:, [10, 152], :2].mean(1)
    place = (place - place.mean(0)) / np.median(heights)
    return np.concatenate([aperture[:, None], place], 1).astype(np.float32)


def landmark_speed(points: Points) -> NDArray[np.float32]:
    """How far the landmarks (T, 478, 3) are from where they were a frame before, on average, (T,), in face
    heights."""
    height = float(np.median([Face(p).height for p in points]))
    steps = np.linalg.norm(np.diff(points[..., :2], axis=0), axis=-1).mean(1) / height
    return np.concatenate([steps[:1], steps]).astype(np.float32)


def sharp_start(variances: Sequence[float]) -> int:
    """The first frame that is about as sharp as the sharpest, by Laplacian variances of the first second."""
    if not variances:
        return 0
    return int(np.argmax(np.array(variances) >= AS_SHARP * max(variances)))


def sharpness(picture: Pixels, points: Points) -> float:
    """Variance of the Laplacian of a Gaussian over a face of 96 px / variance of its levels.

    The size and the ratio leave the face's size and the light's contrast out, the Gaussian (sigma 1 px) noise
    and the blocks of codecs, which a Laplacian alone takes for detail.
    """
    face = Face(points)
    levels = grey(extract(picture, Crop.around(*face.place), SHARP_SIDE))
    return laplacian_variance(cv2.GaussianBlur(levels, (0, 0), 1.0)) / max(float(levels.var()), 1.0)


def describe_face(picture: Pixels, points: Points) -> NDArray[np.float64]:
    """dlib's descriptor (128,) of the face whose landmarks are given."""
    face = Face(points)
    square = Crop.around(*face.place[:2], 2 * face.height)
    return _descriptor().describe(extract(picture, square, FACE_SIDE), square.to_crop(points, FACE_SIDE))


@lru_cache(maxsize=1)
def _descriptor() -> FaceDescriptor:
    return FaceDescriptor()


@lru_cache(maxsize=1)
def _reader() -> Any:
    from rapidocr_onnxruntime import RapidOCR

    # By this limit a picture is never enlarged.
    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1, det_limit_type="max")


def text_share(picture: Pixels) -> float:
    """Share of a square picture (S, S, 3) that lines of text cover, as RapidOCR finds and reads them."""
    side = min(TEXT_SIDE, len(picture))
    picture = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    lines, _ = _reader()(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), use_cls=False)
    # Patterns of clothes look like text until they are read.
    sure = [box for box, _, score in lines or () if score >= READ]
    areas = [cv2.contourArea(np.array(box, np.float32)) for box in sure]
    return float(sum(areas)) / side**2
