"""What the soundtrack's net sees of a video: what moves, frame by frame, and how things look.

Frames are sampled at 25 a second by their timestamps, whatever the rate of the file, and squeezed to 64 px.
Motion is the difference of neighbouring frames, told per cell of 8 px: its strength, its sign, and the flow
that explains it best (Lucas and Kanade 1981). Looks are latents of the backbone's VAE, or with larger nets
vectors of CLIP, which needs larger frames.

Shape legend: T frames at 25 a second of S px, t = (T - 1) / 4 + 1 latent frames, K numbers of how one looks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avatar import ffmpeg
from avatar.backbone.v2a import Sight
from avatar.backbone.vae import CausalVAE
from avatar.errors import UserError
from avatar.media import check_file

FPS = 25
SIDE = 64  # px
CELL = 8  # px
PARTS = 4  # numbers a cell: strength, sign, flow to the right, flow down
MOTION = PARTS * (SIDE // CELL) ** 2
LOOKS = 16 * (SIDE // 8) ** 2  # numbers of a latent frame
LUMA = torch.tensor([0.299, 0.587, 0.114])
STIFFNESS = 0.02  # added to the squares of gradients: flat cells have no flow
PIECE = 400  # frames of 64 px in memory at a time
GROUP = 4  # frames behind a latent frame; the first one has one only


@dataclass(frozen=True)
class Seen:
    """All that is seen of a video: `motion` (T, 256) at 25 frames a second and `looks` (t, K)."""

    motion: Tensor
    looks: Tensor

    def mirrored(self) -> Seen:
        """With left and right of what moves exchanged; looks stay."""
        cells = self.motion.unflatten(1, (PARTS, SIDE // CELL, SIDE // CELL)).flip(3)
        signs = torch.tensor([1.0, 1.0, -1.0, 1.0])[
            :, None, None
        ]  # what flows to the right flows to the left
        return Seen((cells * signs).flatten(1), self.looks)

    def window(self, first: int, count: int, seconds: float, span: int) -> Sight:
        """What is seen around sound latents `first` to `first + count`, as a batch of one.

        Args:
            seconds: length of a sound latent; the first begins with the video.
            span: frames of motion around each, odd.
        """
        middle = (torch.arange(first, first + count, dtype=torch.float64) + 0.5) * seconds * FPS
        nearest = middle.round().long()
        frames = nearest[:, None] + torch.arange(span) - span // 2
        around = self.motion[frames.clamp(0, len(self.motion) - 1)]
        start = math.floor(first * seconds * FPS / GROUP)
        index = start + torch.arange(math.ceil(count * seconds * FPS / GROUP) + 2)
        index = index.clamp(max=len(self.looks) - 1)
        own = (GROUP * index[:, None] - torch.arange(GROUP - 1, -1, -1)).clamp(min=0)
        tokens = torch.cat([self.looks[index], self.motion[own].flatten(1)], dim=1)
        moments = (GROUP * index - (GROUP - 1) / 2).clamp(min=0) / (FPS * seconds) - 0.5 - first
        return Sight(around[None].float(), (middle - nearest).float(), tokens[None].float(), moments.float())


def video_seconds(path: str | Path) -> Fraction:
    """Length of a video's pictures by their timestamps: the end of the last minus the start of the first.

    Raises:
        UserError: missing or damaged file, no picture track, no frames.
    """
    path = Path(path)
    check_file(path, "video")
    base, first, end = Fraction(0), None, Fraction(0)
    with ffmpeg.reading(path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framecrc") as reader:
        for line in reader.stdout:
            if found := re.match(rb"#tb 0: (\d+)/(\d+)", line):
                base = Fraction(int(found[1]), int(found[2]))
            elif not line.startswith(b"#"):
                _, _, start, length, *_ = line.split(b",")
                first = int(start) if first is None else first
                end = max(end, (int(start) + max(int(length), 1) - first) * base)
        log = reader.finish()
    if first is None:
        raise UserError(f"{path}: not a video that can be read ({ffmpeg.cause(log)})")
    return end


def frame_total(seconds: Fraction | float) -> int:
    """Frames at 25 a second that cover a length, 4n + 1 of them."""
    return 4 * math.ceil((math.ceil(seconds * FPS) - 1) / 4) + 1


def watch(path: str | Path, seconds: Fraction, side: int = SIDE) -> Iterator[NDArray[np.uint8]]:
    """Frames of a video at 25 a second in pieces (any, S, S, 3), `frame_total` in all; the last one stays.

    Raises:
        UserError: the video can not be read.
    """
    total, seen, last = frame_total(seconds), 0, None
    piece, size = PIECE * SIDE**2 // side**2, side * side * 3
    convert = f"setpts=PTS-STARTPTS,fps={FPS}:round=near,scale={side}:{side}:flags=area,format=rgb24"
    with ffmpeg.reading(Path(path), "-map", "0:v:0", "-vf", convert, "-f", "rawvideo") as reader:
        while seen < total and (data := reader.stdout.read(piece * size)):
            frames = np.frombuffer(data, np.uint8).reshape(-1, side, side, 3)[: total - seen]
            seen, last = seen + len(frames), frames[-1:]
            yield frames
        if last is None:
            raise UserError(f"{path}: not a video that can be read ({ffmpeg.cause(reader.finish())})")
    while seen < total:
        count = min(piece, total - seen)
        yield np.repeat(last, count, axis=0)
        seen += count


def motion(frames: NDArray[np.uint8], before: NDArray[np.uint8] | None = None) -> Tensor:
    """Motion (T, 256) of frames (T, 64, 64, 3); `before`: the frame that the first one follows."""
    luma = _luma(frames)
    lead = luma[:1] if before is None else _luma(before)[None]
    luma = torch.cat([lead, luma])
    change = luma[1:] - luma[:-1]
    middle = F.pad(0.5 * (luma[1:] + luma[:-1])[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across = 0.5 * (middle[:, 1:-1, 2:] - middle[:, 1:-1, :-2])
    down = 0.5 * (middle[:, 2:, 1:-1] - middle[:, :-2, 1:-1])
    a, b, c = (_cells(x) + k for x, k in ((across**2, STIFFNESS), (across * down, 0.0), (down**2, STIFFNESS)))
    p, q = -_cells(across * change), -_cells(down * change)
    determinant = a * c - b**2
    right, below = (c * p - b * q) / determinant, (a * q - b * p) / determinant
    strength = torch.log1p(50 * (_cells(change**2) / CELL**2).sqrt())
    sign = 10 * _cells(change) / CELL**2
    found = torch.stack([strength, sign.clamp(-3, 3), right.clamp(-3, 3), below.clamp(-3, 3)], 1)
    return found.flatten(1)


def _luma(frames: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(frames.astype(np.float32)) @ LUMA / 255


def _cells(x: Tensor) -> Tensor:
    """Sums over cells: (T, 64, 64) to (T, 8, 8)."""
    return CELL**2 * F.avg_pool2d(x, CELL)


class Eyes(Protocol):
    """A net that tells how frames look; `side` is how large it wants them, px, a multiple of 64."""

    side: int

    def __call__(self, pieces: Iterator[NDArray[np.uint8]]) -> Tensor:
        """(t, K) of frames that come in pieces (any, S, S, 3), 4n + 1 in all."""


class VAEEyes:
    """The backbone's VAE: its latents, K = 1024."""

    side = SIDE

    def __init__(self, vae: CausalVAE) -> None:
        self.vae = vae

    def __call__(self, pieces: Iterator[NDArray[np.uint8]]) -> Tensor:
        pixels = (
            torch.from_numpy(piece.copy()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1 for piece in pieces
        )
        return torch.cat(list(self.vae.encode_stream(pixels)), dim=2)[0].transpose(0, 1).flatten(1)


@torch.no_grad()
def look(eyes: Eyes, pieces: Iterator[NDArray[np.uint8]]) -> Seen:
    """What is seen of frames that come in pieces (any, S, S, 3), 4n + 1 in all."""
    moves: list[Tensor] = []
    last: list[NDArray[np.uint8] | None] = [None]

    def watched() -> Iterator[NDArray[np.uint8]]:
        for frames in pieces:
            small = _small(frames)
            moves.append(motion(small, last[0]))
            last[0] = small[-1]
            yield frames

    looks = eyes(watched())
    return Seen(torch.cat(moves), looks)


def _small(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means over squares of pixels: (T, S, S, 3) to (T, 64, 64, 3)."""
    count, side = frames.shape[:2]
    if side == SIDE:
        return frames
    squares = frames.reshape(count, SIDE, side // SIDE, SIDE, side // SIDE, 3)
    return squares.mean((2, 4)).round().astype(np.uint8)
