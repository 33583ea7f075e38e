"""Which pixels of a photo are the person: MediaPipe's selfie segmentation, brought to the photo's edges.

The net sees 256 px and says roughly where the person is. In a band around its rim GrabCut (Rother et al.
2004) decides by colour, and a guided filter (He et al. 2010) makes the rim as soft as the photo's. Limbs
that the pose shows are the person for certain.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import quiet

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

WORK = 480  # px, long side of the picture in which GrabCut decides
BAND = 0.02  # of that side, how far from the net's rim the true one may be
PASSES = 3  # of GrabCut
SOFT, EPSILON = 0.006, 1e-3  # of the long side, window of the guided filter; and its variance of an edge
SURE, NONE = 0.15, 0.85  # a matte under the first is 0, over the second 1


def person_matte(photo: Pixels, face: Array, limbs: Sequence[tuple[NDArray, NDArray]], thick: float) -> Array:
    """Share of every pixel that the person covers, (H, W) in [0, 1].

    Args:
        photo: (H, W, 3), RGB.
        face: a point of the person's face, (2,), px; other people are left out.
        limbs: bones that are seen, pairs of points, px.
        thick: px, half the width of a limb that is the person for certain.
    """
    rough = _segment(photo)
    height, width = rough.shape
    scale = min(1.0, WORK / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    chance = cv2.resize(rough, size, interpolation=cv2.INTER_AREA)
    bones = np.zeros(size[::-1], np.uint8)
    for first, second in limbs:
        ends = [tuple((point * scale).round().astype(int).tolist()) for point in (first, second)]
        cv2.line(bones, ends[0], ends[1], 1, max(1, round(thick * scale)))
    cut = _with_face(_grab(small, _connected(chance, bones, face * scale), bones > 0), face * scale)
    hard = cv2.resize(cut.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    soft = guided(photo, hard, max(2, round(SOFT * max(height, width))), EPSILON)
    return ((soft - SURE) / (NONE - SURE)).clip(0, 1).astype(np.float32)


def _segment(photo: Pixels) -> Array:
    """The net's chance of a person, (H, W)."""
    from mediapipe.python.solutions.selfie_segmentation import SelfieSegmentation

    with quiet(), SelfieSegmentation(model_selection=0) as net:
        return np.asarray(net.process(np.ascontiguousarray(photo)).segmentation_mask, np.float32)


def _connected(chance: Array, bones: Pixels, face: Array) -> Array:
    """The chance without what is not connected to the face."""
    own = _with_face((chance > 0.5) | (bones > 0), face)
    reach = 2 * round(BAND * max(chance.shape)) + 1
    return np.where(cv2.dilate(own.astype(np.uint8), np.ones((reach, reach), np.uint8)) > 0, chance, 0)


def _with_face(mask: NDArray[np.bool_], face: Array) -> NDArray[np.bool_]:
    """The part of a mask (h, w) that is in one piece with the face."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8))
    column, row = (int(np.clip(face[k], 0, mask.shape[1 - k] - 1)) for k in (0, 1))
    return labels == labels[row, column]


def _grab(picture: Pixels, chance: Array, bones: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """True where the person is."""
    reach = max(1, round(BAND * max(chance.shape)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    likely = (chance > 0.5).astype(np.uint8)
    inner = cv2.erode(likely, disc, borderValue=1) > 0
    outer = cv2.dilate((chance > 0.25).astype(np.uint8), disc) > 0
    state = np.where(likely > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    state[inner | bones] = cv2.GC_FGD
    state[~outer & ~bones] = cv2.GC_BGD
    if len(np.unique(state)) < 3 or not (state % 2 == 0).any():
        return likely > 0
    models = np.zeros((2, 1, 65), np.float64)
    cv2.setRNGSeed(0)
    cv2.grabCut(picture, state, None, models[0], models[1], PASSES, cv2.GC_INIT_WITH_MASK)
    return (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)


def guided(picture: Pixels, mask: Array, radius: int, epsilon: float) -> Array:
    """A mask (H, W) whose rims follow the edges of a picture (H, W, 3) within `radius` px; its grey leads."""
    guide = picture.astype(np.float32).mean(-1) / 255
    window = (2 * radius + 1, 2 * radius + 1)

    def mean(values: Array) -> Array:
        return cv2.blur(values, window, borderType=cv2.BORDER_REFLECT)

    middle, level = mean(guide), mean(mask)
    slope = (mean(guide * mask) - middle * level) / (mean(guide * guide) - middle**2 + epsilon)
    return (mean(slope) * guide + mean(level - slope * middle)).astype(np.float32)
