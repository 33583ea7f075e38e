"""The contact sheets of the pages on the signals: reference, driver and result side by side.

    python -m avatar.recipes.pages --out pages
    python -m avatar.recipes.pages --out pages --parts pose,text --docs docs

Purpose: to see what the figures say. Each sheet is a picture of rows: the reference, then moments of the
driver or its words, and below them the same moments of the result. Photos, recording and films are those of
`avatar.recipes.reenact`, and nothing was trained or tuned on them. Layout: DIR/photos, DIR/audio, DIR/drivers
as there, DIR/videos; the sheets are written as --docs/NAME.jpg.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps

from avatar import media
from avatar.drivers.face import extract
from avatar.recipes import films, heldout
from avatar.recipes.reenact import Bench, names
from avatar.recipes.sheet import head_square

Pixels = NDArray[np.uint8]

TILE = 176  # px
TITLE = 16  # px
CLOSER = 1.1  # than the square that the nets see
MOMENTS = (0.2, 0.8, 1.4, 2.0, 2.6, 3.2)  # s
BODY_MOMENTS = (0.1, 0.4, 0.8, 1.1, 1.5, 1.9)  # s
SECONDS = 3.5
PROMPTS = (
    "she smiles and slowly turns to the left",
    "she looks sad and lowers her head",
    "she is surprised, then closes her eyes",
    "she shakes her head angrily",
)
MOODS = ("happy", "sad", "angry", "surprised", "disgusted", "afraid")


class Row(NamedTuple):
    """A title, the picture in front and the tiles after it, each (H, W, 3)."""

    title: str
    front: Pixels | None
    tiles: Sequence[Pixels]


def moments(video: Path, seconds: Sequence[float] = MOMENTS) -> list[Pixels]:
    """The frames of a video at some moments."""
    fps = media.video_info(video).fps
    wanted = [round(float(second * fps)) for second in seconds]
    frames = dict(enumerate(islice(media.read_video(video), max(wanted) + 1)))
    return [frames[min(row, len(frames) - 1)] for row in wanted]


def closer(rows: Sequence[Row]) -> list[Row]:
    """Rows whose tiles are cut to the head, about where it is in the first of them."""
    cut = []
    for row in rows:
        near = head_square(row.tiles[0] if row.front is None else row.front, CLOSER)
        front = None if row.front is None else extract(row.front, near, TILE)
        cut.append(Row(row.title, front, [extract(tile, near, TILE) for tile in row.tiles]))
    return cut


def first(path: Path) -> Pixels:
    return np.asarray(media.read_image(path), np.uint8)


def draw(rows: Sequence[Row], out: Path) -> None:
    """Write a sheet; tiles are cut to squares about their middle."""
    width = TILE * (1 + max(len(row.tiles) for row in rows))
    sheet = Image.new("RGB", (width, (TITLE + TILE) * len(rows)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = number * (TITLE + TILE)
        pen.text((4, top + 2), row.title, fill="black")
        for column, tile in enumerate((row.front, *row.tiles)):
            if tile is not None:
                square = ImageOps.fit(Image.fromarray(tile), (TILE, TILE))
                sheet.paste(square, (TILE * column, top + TITLE))
    part = out.with_name(f".{out.name}.part")
    sheet.save(part, "JPEG", quality=88)
    part.replace(out)


# ---- the sheets ------------------------------------------------------------------------------------------


def driven(
    bench: Bench, title: str, ref: Path, driver: Path, seconds: Sequence[float], **drive: Any
) -> list[Row]:
    """Two rows: the moments of a driver, and of the video that it makes of a reference."""
    made = bench.make(title.replace(" ", "-").replace(",", ""), ref, **drive)
    return [
        Row(f"driver: {driver.name}", None, moments(driver, seconds)),
        Row(title, first(ref), moments(made, seconds)),
    ]


def pose(bench: Bench) -> list[Row]:
    """A head that follows the carphone clip, and a body that follows another's."""
    bodies = [bench.out / "drivers" / f"body-{person}.mp4" for person in range(films.PEOPLE)]
    return [
        *driven(bench, "pose, head", bench.photo, bench.carphone, MOMENTS, pose=bench.carphone),
        *driven(bench, "pose, body", bodies[1], bodies[0], BODY_MOMENTS, pose=bodies[0]),
    ]


def expression(bench: Bench) -> list[Row]:
    """Two films whose faces are followed, and the moods."""
    moods = [
        moments(bench.make(f"mood-{word}", bench.photo, expression=word, seconds=1.4), (1.3,))[0]
        for word in MOODS
    ]
    faces = [
        *driven(bench, "expression, real", bench.photo, bench.carphone, MOMENTS, expression=bench.carphone),
        *driven(bench, "expression, rendered", bench.photo, bench.acted, MOMENTS, expression=bench.acted),
        Row(f"moods: {', '.join(MOODS)}", first(bench.photo), moods),
    ]
    return closer(faces)


def text(bench: Bench) -> list[Row]:
    """What prompts make of one photo."""
    rows = []
    for number, words in enumerate(PROMPTS):
        made = bench.make(f"prompt-{number}", bench.photo, prompt=words, seconds=SECONDS)
        rows.append(Row(words, first(bench.photo), moments(made)))
    return closer(rows)


def mixing(bench: Bench) -> list[Row]:
    """Speech alone, then with a pose, with an expression and with a prompt beside it."""
    audio = bench.out / "audio" / "english.wav"
    ways: dict[str, dict[str, Any]] = {
        "speech alone": {},
        "speech + pose of carphone.mp4": {"pose": bench.carphone},
        "speech + expression of acted.mp4": {"expression": bench.acted},
        "speech + pose + expression + 'she looks sad'": {
            "pose": bench.carphone,
            "expression": bench.acted,
            "prompt": "she looks sad",
        },
    }
    rows = []
    for number, (title, drive) in enumerate(ways.items()):
        made = bench.make(
            f"mixing-{number}", bench.photo, audio, seconds=SECONDS, when_short="mirror", **drive
        )
        rows.append(Row(title, first(bench.photo), moments(made)))
    return closer(rows)


def video(bench: Bench) -> list[Row]:
    """A clip dubbed, and the way from one of its frames to another."""
    audio = bench.out / "audio" / "english.wav"
    dubbed = bench.make("dubbed", bench.carphone, audio, seconds=SECONDS)
    ends = [bench.out / "drivers" / f"carphone-{at}.png" for at in (0, 2)]
    for at, path in zip((0, 2), ends, strict=True):
        Image.fromarray(media.read_image(bench.carphone, at)).save(path)
    way = bench.make("between", ends[0], last=ends[1], seconds=2)
    return [
        Row("carphone.mp4", None, moments(bench.carphone)),
        Row("dubbed with english.wav", None, moments(dubbed)),
        Row(
            "from the first picture to the last",
            first(ends[0]),
            [*moments(way, BODY_MOMENTS)[:-1], first(ends[1])],
        ),
    ]


SHEETS: dict[str, Callable[[Bench], list[Row]]] = {
    "pose": pose,
    "expression": expression,
    "text": text,
    "mixing": mixing,
    "video": video,
}


def main(
    out: Annotated[Path, typer.Option(help="folder of the films and the videos")],
    docs: Annotated[Path, typer.Option(help="folder of the sheets")] = Path("docs"),
    parts: Annotated[str, typer.Option(help=f"only these of {', '.join(SHEETS)}")] = "",
    reuse: Annotated[bool, typer.Option("--reuse", help="show videos that are there")] = False,
) -> None:
    """Make the videos and write the sheets."""
    chosen = names(parts, SHEETS)
    heldout.build(out)
    films.build_films(out / "drivers")
    bench = Bench(out, reuse)
    for name in chosen:
        draw(SHEETS[name](bench), docs / f"{name}.jpg")


if __name__ == "__main__":
    typer.run(main)
