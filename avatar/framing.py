"""Pictures in the size and the form that the public nets want.

Shape legend: H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

BUCKET, BUCKET_BASES = 32, {"720p": 960, "540p": 720, "360p": 480}  # px
MAX_RATIO = 4  # of the sides of a bucket


def as_clip(picture: Pixels) -> Tensor:
    """A picture (H, W, 3) as a clip of one frame, (1, 3, 1, H, W) in [-1, 1]."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1


def cover(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """A picture scaled until it covers a size (H, W), its middle cut out."""
    from PIL import Image

    image, (height, width) = Image.fromarray(picture), size
    factor = max(width / image.width, height / image.height)
    scaled = max(width, round(image.width * factor)), max(height, round(image.height * factor))
    left, top = (scaled[0] - width) // 2, (scaled[1] - height) // 2
    resized = image.resize(scaled, Image.Resampling.BILINEAR)
    return np.array(resized.crop((left, top, left + width, top + height)))


def bucket(picture: Pixels, resolution: str) -> tuple[int, int]:
    """The size (H, W) that HunyuanVideo-I2V gives to a picture: of about one area, of nearly its shape.

    Sizes are all those of whole patches with one area, at most 4 times as long as wide. The nearest is taken
    among those that are not longer than the picture.
    """
    height, width = picture.shape[:2]
    count = round((BUCKET_BASES[resolution] / BUCKET) ** 2)
    sizes = [
        (h, w)
        for w in range(count, 0, -1)
        for h in range(max(1, count // (w + 1)), count // w + 1)
        if max(h, w) <= MAX_RATIO * min(h, w)
    ]
    ratio = height / width
    fitting = [(h, w) for h, w in sizes if (h / w <= ratio if ratio >= 1 else h / w > ratio)]
    h, w = min(fitting or sizes, key=lambda size: abs(size[0] / size[1] - ratio))
    return h * BUCKET, w * BUCKET
