"""Generated motion put into the full-resolution photo without a seam.

The nets work on a small square crop. What they say about motion (a flow) is enlarged and moves the photo's
own pixels, so skin and hair stay as sharp as they are; only where nothing in the photo can be moved to the
place (the inside of the mouth, closing lids) the small picture itself is enlarged and shown. Where several
faces are near each other, the motion of each ends half way to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar.drivers.face import Crop

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Place = tuple[float, float, float]  # of a face: x and y of its middle, and its height, px of the photo

MAX_SIDE = 1080  # px, long side of the video unless another size is asked for
FADE = 0.14  # of the crop's side: over this distance from its border motion fades in
STILL = (
    2  # cells of the nets' grid along the border that never move, so that enlarging keeps the border exact
)
LEAST_OTHER = 0.5  # of a face's height another one must have to bound it
BORDER = 0.3  # face heights before the line between two faces over which motion fades out
# A smaller share of the small picture or a smaller change of light can not change an 8-bit value by more
# than half a level.
LEAST = 1 / 512


def output_photo(photo: Pixels, scale: float) -> Pixels:
    """The still picture at output size, both sides even.

    The last row or column of an odd size is left off: making up one more would touch every pixel.
    """
    height, width = photo.shape[:2]
    if scale != 1:
        target = (round(width * scale), round(height * scale))
        kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        photo = cv2.resize(photo, target, interpolation=kind).astype(np.uint8, copy=False)
    return np.ascontiguousarray(photo[: photo.shape[0] // 2 * 2, : photo.shape[1] // 2 * 2])


class Compositor:
    """Makes full frames of one photo.

    Args:
        photo: (H, W, 3), RGB.
        crop: the square seen by the nets, in pixels of `photo`.
        size: long side of the frames in px; None keeps the photo's own up to MAX_SIDE.
        face: where the crop's face is.
        others: where the photo's other faces are, which the motion of this one does not touch.
    """

    def __init__(
        self,
        photo: Pixels,
        crop: Crop,
        size: int | None = None,
        face: Place = (0, 0, 1),
        others: Sequence[Place] = (),
    ) -> None:
        longest = max(photo.shape[:2])
        scale = (size or min(longest, MAX_SIDE)) / longest
        self.photo = output_photo(photo, scale)
        self.size = (self.photo.shape[1], self.photo.shape[0])
        self.crop = crop.scaled(scale)
        self.faces = [face, *(other for other in others if other[2] >= LEAST_OTHER * face[2])]
        self._whole = crop
        # The part of the crop that lies inside the picture: its rows and columns there, then in the crop.
        left, top = max(self.crop.x, 0), max(self.crop.y, 0)
        right = min(self.crop.x + self.crop.side, self.size[0])
        bottom = min(self.crop.y + self.crop.side, self.size[1])
        self.region = (slice(top, bottom), slice(left, right))
        self._part = (
            slice(top - self.crop.y, bottom - self.crop.y),
            slice(left - self.crop.x, right - self.crop.x),
        )
        self.fade = cache(self._fade)
        columns, rows = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
        self._places = np.stack([columns, rows], -1).astype(np.float32)

    def __call__(
        self, flow: Floats, mask: Floats, rgb: Floats, shade: Floats, picture: Pixels | None = None
    ) -> Pixels:
        """One frame, (H, W, 3).

        Args:
            flow: (2, h, w), from how far right and down each cell of the crop takes its pixels, in cells.
            mask: (h, w), 1 for the moved photo, 0 for `rgb`.
            rgb: (3, h, w) in [-1, 1].
            shade: (3, h, w), added to the moved photo, in the same units.
            picture: what is moved, (H, W, 3): the frame with other faces already in it; None: the photo.
                A fourth channel, a matte, is moved with it.
        """
        still = self.photo if picture is None else picture
        fade = self.fade(mask.shape[0])
        cell = self.crop.side / mask.shape[0]  # px
        shift = self.enlarge((flow * (fade * cell)).transpose(1, 2, 0), cv2.INTER_LINEAR)
        source = self._places + shift
        moved = cv2.remap(still, source, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        share, light = (1 - mask) * fade, shade * fade
        if (box := self._box(reduce(np.maximum, np.abs(light), share) > LEAST)) is not None:
            share = self.enlarge(share, cv2.INTER_LINEAR)[box][..., None]
            light = self.enlarge(light.transpose(1, 2, 0), cv2.INTER_LINEAR)[box]
            drawn = self.enlarge(rgb.transpose(1, 2, 0), cv2.INTER_CUBIC)[box] * 127.5 + 127.5
            below = moved[box][..., :3] + 127.5 * light
            moved[box][..., :3] = (below + share * (drawn - below) + 0.5).clip(0, 255)
        frame = still.copy()
        frame[self.region] = moved
        return frame

    def enlarge(self, field: Floats, kind: int) -> Floats:
        """A field on the nets' grid at the output pixels of the region."""
        side = (self.crop.side, self.crop.side)
        large = cv2.resize(np.ascontiguousarray(field), side, interpolation=kind)
        return large[self._part].astype(np.float32, copy=False)

    def _box(self, changed: NDArray[np.bool_]) -> tuple[slice, slice] | None:
        """Rows and columns of the region that some cells of the nets' grid reach when enlarged; None for no
        cell."""
        if not changed.any():
            return None
        cell, box = self.crop.side / len(changed), []
        for axis, part in zip((1, 0), self._part, strict=True):
            first, last = np.flatnonzero(changed.any(axis))[[0, -1]]
            start, stop = int((first - 1) * cell) - part.start, int((last + 2) * cell) + 1 - part.start
            box.append(slice(max(start, 0), max(stop, 0)))
        return box[0], box[1]

    def _fade(self, cells: int) -> Floats:
        """(cells, cells), 0 along those borders of the crop that lie inside the picture, 1 in the middle."""
        place = np.arange(cells, dtype=np.float32)
        ramps = []
        for start, length in ((self.crop.y, self.size[1]), (self.crop.x, self.size[0])):
            before = place if start > 0 else np.inf
            after = cells - 1 - place if start + self.crop.side < length else np.inf
            ramps.append(np.clip((np.minimum(before, after) - STILL) / (FADE * cells), 0, 1) * np.ones(cells))
        smooth = [3 * ramp**2 - 2 * ramp**3 for ramp in ramps]
        return (np.outer(*smooth) * self._own(cells)).astype(np.float32)

    def _own(self, cells: int) -> Floats:
        """(cells, cells), 1 around the face, 0 from half way to another one on."""
        place = (np.arange(cells, dtype=np.float32) + 0.5) * (self._whole.side / cells)
        x, y = np.meshgrid(self._whole.x + place, self._whole.y + place)
        own, *others = (np.hypot(x - left, y - top) / height for left, top, height in self.faces)
        share = np.ones_like(own)
        for other in others:
            share *= np.clip((other - own) / BORDER, 0, 1)
        return 3 * share**2 - 2 * share**3
