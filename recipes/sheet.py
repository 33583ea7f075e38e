"""Contact sheet: frames of several videos side by side, one row a video, cut to the moving head.

python -m avatar.recipes.sheet a.mp4 b.mp4 c.mp4 --at 0.4,0.9,1.3 --labels "closed,ah,oo" --out sheet.png
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from avatar.drivers.face import Crop, choose_face, extract, find_faces, head_crop
from avatar.media import read_video, video_info

TILE = 224  # px
TITLE = 18  # px


def tiles(video: Path, seconds: list[float], zoom: float) -> list[NDArray[np.uint8]]:
    """The head at some moments of a video, each (TILE, TILE, 3); `zoom` above 1 shows the face alone."""
    fps = video_info(video).fps
    wanted = [round(float(s * fps)) for s in seconds]
    frames = {i: f for i, f in enumerate(islice(read_video(video), max(wanted) + 1)) if i in {0, *wanted}}
    crop = head_square(frames[0], zoom)
    return [extract(frames[i], crop, TILE) for i in wanted]


def head_square(frame: NDArray[np.uint8], zoom: float) -> Crop:
    """The square around the head that the nets see, or a smaller one in its middle."""
    size = (frame.shape[1], frame.shape[0])
    crop = head_crop(choose_face(find_faces(frame), "largest", size), size)
    return Crop.around(crop.x + crop.side / 2, crop.y + crop.side / 2, crop.side / zoom)


def main(
    videos: list[Path],
    at: Annotated[str, typer.Option(help="seconds, separated by commas")],
    out: Annotated[Path, typer.Option(help="picture to write")],
    labels: Annotated[str, typer.Option(help="one for each moment, separated by commas")] = "",
    zoom: Annotated[float, typer.Option(help="above 1: closer to the face")] = 1.0,
) -> None:
    """Write a contact sheet of VIDEOS."""
    seconds = [float(s) for s in at.split(",")]
    names = labels.split(",") if labels else [f"{s:.2f} s" for s in seconds]
    sheet = Image.new("RGB", (TILE * len(seconds), TITLE + TILE * len(videos)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, name in enumerate(names):
        pen.text((TILE * column + 6, 3), name, fill="black")
    for row, video in enumerate(videos):
        for column, tile in enumerate(tiles(video, seconds, zoom)):
            sheet.paste(Image.fromarray(tile), (TILE * column, TITLE + TILE * row))
    sheet.save(out)


if __name__ == "__main__":
    typer.run(main)
