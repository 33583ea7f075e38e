"""Figures of one clip: where it is cut out, how sharp it is, how the face moves in it, how much text it shows.

Coordinates are px of the picture that is given. Shapes: T frames, H x W pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import FEATURES, Crop, Face, cut, extract
from avatar.metrics import FACE_OVAL, grey, laplacian_variance
from avatar.picture import FaceDescriptor

Pixels = NDArray[np.uint8]
Points = NDArray[np.float32]

MARGIN = 0.25  # face heights that a clip shows around a face wherever it goes
LOWER = 0.1  # face heights, how far the middle of a clip lies under that of the face
RARE = 2.0  # percent of the frames at either end that do not count for where a face goes
TEXT_SIDE = 512  # px, longer side of the picture in which text is looked for
FACE_SIDE = 256  # px, of the square around a face that the descriptor is given


def steady_crop(
    points: Points, heights: float, window: tuple[float, float, float, float]
) -> tuple[Crop, float]:
    """One square for a whole clip, and how much wider the face's ways make it than was asked for (1: no more).

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
    side = min(max(wanted, needed), right - left, bottom - top)
    x, y = (low + high) / 2 + [0, LOWER * height] - side / 2
    even = max(2, int(side) // 2 * 2)
    x, y = np.clip(x, left, right - side), np.clip(y, top, bottom - side)
    # Whole pairs of pixels: the colours of a film have half its resolution.
    return Crop(int(np.ceil(x / 2 - 1e-6)) * 2, int(np.ceil(y / 2 - 1e-6)) * 2, even - 2), needed / wanted


def outside(points: Points, size: tuple[int, int]) -> float:
    """Share of the frames in which eyes, nose or mouth lie beyond the border of a picture."""
    features = points[:, list(FEATURES), :2]
    return float(((features < 0) | (features > np.array(size))).any((1, 2)).mean())


def face_motion(points: Points) -> NDArray[np.float32]:
    """Opening of the lips and the face's place about its mean, (T, 3), in median face heights."""
    heights = np.linalg.norm(points[:, 10, :2] - points[:, 152, :2], axis=1)
    aperture = np.linalg.norm(points[:, 13, :2] - points[:, 14, :2], axis=1) / heights
    place = points[:, [10, 152], :2].mean(1)
    place = (place - place.mean(0)) / np.median(heights)
    return np.concatenate([aperture[:, None], place], 1).astype(np.float32)


def sharpness(picture: Pixels, points: Points) -> float:
    """Laplacian variance of a face / variance of its levels, which leaves contrast out."""
    oval = points[list(FACE_OVAL), :2]
    left, top = np.floor(oval.min(0)).astype(int)
    side = int(np.ceil((oval.max(0) - oval.min(0)).max()))
    levels = grey(cut(picture, Crop(int(left), int(top), max(side, 4))))
    return laplacian_variance(levels) / max(float(levels.var()), 1.0)


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

    return RapidOCR(
        intra_op_num_threads=1, inter_op_num_threads=1, det_limit_side_len=TEXT_SIDE, det_limit_type="max"
    )


def text_share(picture: Pixels) -> float:
    """Share of a picture (H, W, 3) that lines of text cover, as RapidOCR finds them."""
    lines, _ = _reader()(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), use_cls=False, use_rec=False)
    areas = [cv2.contourArea(np.array(line, np.float32)) for line in lines or ()]
    return float(sum(areas)) / (picture.shape[0] * picture.shape[1])
