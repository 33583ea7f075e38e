"""Cutting clips: pixels into cells, streams into groups, large clips into overlapping tiles blended linearly.

Shape legend: B batch, C channels, T frames, H height, W width. Tile geometry defaults are those of the public
HunyuanVideo VAE (256 px and 64 frames, one quarter shared), and so is the arithmetic: a tile begins at every
multiple of the stride, also where the tile before already reaches the end, and in a corner the tile above
counts after its own blending.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import torch
from torch import Tensor

from avatar.backbone.causal import Kernel


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Size and step of the tiles in pixels and frames; what neighbours share is `size - stride`.

    The shared part is at most the stride. Tiles of 16 frames with a stride of 12 are those of diffusers.
    """

    size: int = 256
    stride: int = 192
    frames: int = 64
    frame_stride: int = 48


def whole_groups(chunks: Iterable[Tensor], group: int) -> Iterator[Tensor]:
    """Recut a stream of frames (B, C, any, H, W) into one frame plus whole groups, then whole groups.

    Raises:
        ValueError: frames are left over at the end.
    """
    held: Tensor | None = None
    lead = 1
    for chunk in chunks:
        held = chunk if held is None else torch.cat([held, chunk], dim=2)
        ready = lead + (held.shape[2] - lead) // group * group
        if ready:
            yield held[:, :, :ready]
            held, lead = held[:, :, ready:], 0
    if held is not None and held.shape[2]:
        raise ValueError(f"{held.shape[2]} frames left over: a clip has {group}n + 1 frames")


def fold(x: Tensor, patch: Kernel) -> Tensor:
    """Group pixels into channels: (B, C, T, H, W) to (B, t, h, w, C * pt * ph * pw), C outermost."""
    (b, c, t, h, w), (pt, ph, pw) = x.shape, patch
    x = x.reshape(b, c, t // pt, pt, h // ph, ph, w // pw, pw).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return x.flatten(4)


def unfold(x: Tensor, patch: Kernel) -> Tensor:
    """Undo `fold`: (B, t, h, w, C * pt * ph * pw) to (B, C, T, H, W)."""
    (b, t, h, w, c), (pt, ph, pw) = x.shape, patch
    x = x.reshape(b, t, h, w, c // prod(patch), pt, ph, pw).permute(0, 4, 1, 5, 2, 6, 3, 7)
    return x.reshape(b, -1, t * pt, h * ph, w * pw)


def mix(before: Tensor, tile: Tensor, overlap: int, dim: int) -> Tensor:
    """`tile` whose first entries along `dim` ramp linearly from the last ones of `before` to its own.

    A tile shorter than the overlap ends where `before` ends, so they share all of it.
    """
    overlap = min(overlap, before.shape[dim], tile.shape[dim])
    if not overlap:
        return tile
    shape = [1] * tile.dim()
    shape[dim] = overlap
    ramp = (torch.arange(overlap, device=tile.device, dtype=tile.dtype) / overlap).view(shape)
    tail = before.narrow(dim, before.shape[dim] - overlap, overlap)
    mixed = tail + (tile.narrow(dim, 0, overlap) - tail) * ramp
    return torch.cat([mixed, tile.narrow(dim, overlap, tile.shape[dim] - overlap)], dim)


def blend(tiles: Iterable[Tensor], overlap: int, dim: int) -> Iterator[Tensor]:
    """Join tiles that share `overlap` entries along `dim` by a linear ramp; yields parts once final."""
    held: Tensor | None = None
    for tile in tiles:
        if held is not None:
            shared = min(overlap, held.shape[dim], tile.shape[dim])
            yield held.narrow(dim, 0, held.shape[dim] - shared)
            tile = mix(held, tile, shared, dim)
        held = tile
    if held is not None:
        yield held


MapTiles = Callable[[Callable[[Tensor], Tensor], Iterable[Tensor]], Iterator[Tensor]]
"""Applies a function to tiles, in order; the built-in `map` does it one by one."""


def map_space(
    fn: Callable[[Tensor], Tensor],
    x: Tensor,
    size: int,
    stride: int,
    scale: Fraction,
    map_tiles: MapTiles = map,
) -> Tensor:
    """Apply `fn`, which scales height and width by `scale`, to tiles of (B, C, T, H, W) and blend.

    What fits into one tile is not cut.
    """
    height, width = x.shape[-2:]
    if height <= size and width <= size:
        return fn(x)
    overlap, kept = int((size - stride) * scale), int(stride * scale)
    above: list[Tensor] = []
    rows = []
    tops, lefts = range(0, height, stride), range(0, width, stride)
    cut = (x[..., top : top + size, left : left + size] for top in tops for left in lefts)
    made = map_tiles(fn, cut)
    for _ in tops:
        tiles: list[Tensor] = []
        for column, _ in enumerate(lefts):
            tile = next(made)
            if above:
                tile = mix(above[column], tile, overlap, 3)
            if tiles:
                tile = mix(tiles[-1], tile, overlap, 4)
            tiles.append(tile)
        rows.append(torch.cat([tile[..., :kept, :kept] for tile in tiles], dim=4))
        above = tiles
    return torch.cat(rows, dim=3)


def map_time(
    fn: Callable[[Tensor], Tensor], chunks: Iterable[Tensor], size: int, stride: int, scale: Fraction
) -> Iterator[Tensor]:
    """Apply a causal `fn`, which multiplies a clip's length after its first frame by `scale`, to tiles of a
    stream.

    A tile reads `size + 1` frames: the extra first one only warms the causal layers up, and what it gives is
    dropped in all tiles but the first. A clip of at most `size` frames is not cut.

    Args:
        fn: maps (B, C, 1 + n, H, W) to (B, C', 1 + n * scale, H', W').
        chunks: pieces of the clip, (B, C, any, H, W).
    """

    def tiles() -> Iterator[Tensor]:
        held: Tensor | None = None
        first = True
        for chunk in chunks:
            held = chunk if held is None else torch.cat([held, chunk], dim=2)
            while held.shape[2] > size:
                y = fn(held[:, :, : size + 1])
                yield y if first else y[:, :, 1:]
                held, first = held[:, :, stride:], False
        if held is not None and first:
            yield fn(held)
            return
        while held is not None and held.shape[2] > 1:
            yield fn(held[:, :, : size + 1])[:, :, 1:]
            held = held[:, :, stride:]

    yield from blend(tiles(), int((size - stride) * scale), 2)
