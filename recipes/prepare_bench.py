"""How fast `avatar prepare` is and how much memory it takes, on footage made here.

python -m avatar.recipes.prepare_bench --clips data/clips [--minutes 5] [--jobs 2] [--out bench]

The footage is one video of 1280 x 720 at 30 frames a second: clips of the factory, one after the other, each
played forth and back for some seconds, with speech-like noise. It is read in processes of its own.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from safetensors.numpy import load_file

from avatar import ffmpeg
from avatar.errors import UserError
from avatar.measure import AVATAR, usage

SHOT = 8  # s
RATE = 30  # frames a second
SIZE = (1280, 720)
SOUND = "anoisesrc=color=pink:amplitude=0.3,tremolo=f=4:d=0.9"


def make_footage(clips: Path, out: Path, minutes: float) -> float:
    """Write the video; its seconds.

    Raises:
        UserError: there are no clips.
    """
    found = sorted(clips.glob("clip-*.safetensors"))
    if not found:
        raise UserError(f"{clips}: holds no clips, make some with `python -m avatar.recipes.factory`")
    shots = max(1, round(60 * minutes / SHOT))
    width, height = SIZE
    size = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "256x256", "-framerate", str(RATE), "-i", "pipe:0"]
    shape = f"scale={height}:{height},pad={width}:{height}:(ow-iw)/2:0:color=0x506070"
    coded = ["-vf", shape, "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
    sound = ["-f", "lavfi", "-i", SOUND, "-c:a", "aac", "-shortest", "-y", str(out)]
    command = ffmpeg.command(*size, *sound[:4], *coded, *sound[4:])
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    for shot in range(shots):
        frames = load_file(found[shot % len(found)])["frames"]
        there_and_back = np.concatenate([frames, frames[-2:0:-1]])
        for number in range(SHOT * RATE):
            process.stdin.write(there_and_back[number // 2 % len(there_and_back)].tobytes())
    process.stdin.close()
    if process.wait() != 0:
        raise UserError(f"{out}: the footage could not be written")
    return float(shots * SHOT)


class Taken(NamedTuple):
    """What it took to prepare a video; seconds and bytes.

    Attributes:
        processor: CPU time of all processes.
        memory: peaks of the command and of all processes that it started, together.
    """

    seconds: float
    wall: float
    processor: float
    memory: int


def measured(clips: Path, minutes: float, jobs: int, options: list[str], folder: Path) -> Taken:
    """Make a video and prepare it."""
    footage = folder / "footage"
    footage.mkdir(parents=True, exist_ok=True)
    seconds = make_footage(clips, footage / "made.mp4", minutes)
    shutil.rmtree(folder / "data", ignore_errors=True)
    command = [*AVATAR, "prepare", str(footage), "--out", str(folder / "data")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = usage([*command, "--jobs", str(jobs), "--quiet", *options])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Taken(seconds, taken.wall, busy, taken.memory + taken.children)


def main(
    clips: Annotated[Path, typer.Option(help="clips of the factory")],
    minutes: Annotated[float, typer.Option(help="length of the footage")] = 5.0,
    jobs: Annotated[int, typer.Option(help="processes")] = 2,
    options: Annotated[str, typer.Option(help="further options of avatar prepare")] = "",
    twice: Annotated[bool, typer.Option("--twice", help="also footage of twice the length")] = False,
    out: Annotated[Path | None, typer.Option(help="folder to keep footage and set in")] = None,
) -> None:
    """Print speed over real time, and peak memory; with --twice, how that grows with the length."""
    found: list[Taken] = []
    for times in (1, 2) if twice else (1,):
        with tempfile.TemporaryDirectory() as temporary:
            folder = out or Path(temporary)
            taken = measured(clips, times * minutes, jobs, options.split(), folder)
        print(
            f"{taken.seconds:.0f} s of {SIZE[0]} x {SIZE[1]} video, {jobs} jobs: {taken.wall:.0f} s,"
            f" {taken.seconds / taken.wall:.2f} x real time ({taken.processor:.0f} s of CPU time);"
            f" peak memory {taken.memory / 2**20:.0f} MiB of all processes",
            flush=True,
        )
        found.append(taken)
    if twice:
        print(f"twice the footage: {found[1].memory / found[0].memory:.3f} times the memory")


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"avatar: {error}")
