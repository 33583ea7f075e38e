"""What a recipe shows of a net in training: videos that the judge looks at, and a sheet of their frames.

The judge asks for phones, which footage does not have. The moments in which the person's own lips are shut or
open stand for them: what is asked is whether the made lips do the same then.
Shapes: T frames, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from avatar import metrics
from avatar.adapters.adapter_file import FILE, Adapter
from avatar.media import read_audio, read_video, video_info
from avatar.metrics import CLOSED_AT, OPEN_AT, Tracks
from avatar.phones import Kind, Phone
from avatar.recipes.prepared import FPS, Footage

if TYPE_CHECKING:
    from PIL.Image import Image

Show = Callable[[nn.Module, Path], dict[str, float]]  # writes NAME.mp4 into a folder, returns figures
Pixels = NDArray[np.uint8]

COLUMNS = 8  # frames of a video on the sheet
TILE = 160  # px, height of a frame on it
TITLE = 14  # px


def moments(aperture: NDArray[np.floating], fps: float) -> list[Phone]:
    """Stretches in which a mouth (T,) is shut or open, by the judge's limits, as phones of those classes."""
    peak = metrics.peak(aperture)
    kinds: list[Kind] = [
        "closed" if value <= CLOSED_AT * peak else "open" if value >= OPEN_AT * peak else "other"
        for value in aperture
    ]
    found, start = [], 0
    for kind, frames in groupby(kinds):
        stop = start + len(list(frames))
        found.append(Phone(start / fps, stop / fps, kind, kind))
        start = stop
    return found


def lip_figures(made: Tracks, true: Tracks, fps: float) -> dict[str, float]:
    """Lips of a made video beside the true ones: correlation of the openings, and the shares of the moments
    with lips shut and open in which the made ones are so too. What can not be told is left out."""
    count = min(len(made.aperture), len(true.aperture))
    here, there = made.aperture[:count], true.aperture[:count]
    said = moments(there, fps)
    figures = {
        "aperture_r": metrics.correlation(here, there),
        "closure": metrics.closure(here, said, fps),
        "opening": metrics.opening(here, said, fps),
    }
    return {name: value for name, value in figures.items() if value is not None}


def sync_figures(aperture: NDArray[np.floating], sound: Path) -> dict[str, float]:
    """How a mouth (T,) of 25 frames a second moves with a sound, see `avatar.recipes.heard.lip_sync`; nothing
    where little is spoken."""
    from avatar.recipes.heard import hear, lip_sync

    heard = hear([read_audio(sound)])
    found = lip_sync(aperture, heard.part(0, len(aperture)))
    return {} if found is None else {"sync_r": found[0], "sync_lag": float(found[1])}


def drive_clips(clips: Sequence[Footage], adapter: Adapter, place: Path) -> dict[str, float]:
    """Write into a folder what `mini` with an adapter makes of the first frame and the sound of each clip;
    means of the figures of the lips."""
    from avatar.animator import Animator
    from avatar.watch import watch

    file = place / FILE
    adapter.save(file)
    animator = Animator.from_pretrained(adapters=[(file, 1.0)])
    figures = []
    for clip in clips:
        assert clip.sound is not None
        video = place / f"{clip.id}.mp4"
        animator.drive(clip.video, clip.sound, ref_time=0).save(video)
        made, true = watch(video)[0], watch(clip.video)[0]
        figures.append(lip_figures(made, true, FPS) | sync_figures(made.aperture, clip.sound))
    return means(figures, "shown_")


def means(figures: Sequence[dict[str, float]], prefix: str) -> dict[str, float]:
    """Mean of each figure over several videos, under names for the log; what is no number is left out."""
    names = dict.fromkeys(name for one in figures for name in one)
    found = {name: float(np.mean([one[name] for one in figures if name in one])) for name in names}
    return {f"{prefix}{name}": round(value, 4) for name, value in found.items() if math.isfinite(value)}


def write_video(frames: Iterable[Pixels], path: Path, fps: Fraction) -> None:
    """A film (T, H, W, 3) without sound."""
    from avatar.writer import VideoWriter

    every = list(frames)
    height, width = every[0].shape[:2]
    with VideoWriter(path, size=(width, height), fps=fps) as writer:
        for frame in every:
            writer.write(frame)


def contact_sheet(videos: Sequence[Path], title: str) -> Image:
    """A row for each video, of frames that lie evenly in it."""
    from PIL import Image, ImageDraw

    rows = [_row(video) for video in videos]
    width = max(row.shape[1] for row in rows)
    sheet = Image.new("RGB", (width, len(rows) * (TITLE + TILE)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (row, video) in enumerate(zip(rows, videos, strict=True)):
        top = number * (TITLE + TILE)
        pen.text((4, top + 1), f"{title}  {video.stem}", fill="black")
        sheet.paste(Image.fromarray(row), (0, top + TITLE))
    return sheet


def _row(video: Path) -> Pixels:
    import cv2

    count = video_info(video).frames
    wanted = set(np.linspace(0, count - 1, min(COLUMNS, count)).round().astype(int).tolist())
    tiles = []
    for number, frame in enumerate(read_video(video)):
        if number in wanted:
            height, width = frame.shape[:2]
            tiles.append(
                cv2.resize(frame, (round(width * TILE / height), TILE), interpolation=cv2.INTER_AREA)
            )
    return np.concatenate(tiles, 1)
