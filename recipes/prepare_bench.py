"""How fast `avatar prepare` is and how much memory it takes, on footage made here.

python -m avatar.recipes.prepare_bench --clips data/clips [--minutes 5] [--jobs 2] [--out bench]

The footage is a film of 1280 x 720 at 30 frames a second, see `avatar.recipes.bench_footage`. It is prepared
by processes of their own. A film that is in the folder already is taken as it is.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from avatar.errors import UserError
from avatar.measure import AVATAR, Usage, usage
from avatar.recipes.bench_footage import SIZE, make_footage


class Taken(NamedTuple):
    """What it took to prepare a video.

    Attributes:
        seconds: of the video.
        usage: wall time and memory.
        processor: s of CPU time of all processes.
        clips: how many were cut out.
        cut: s of video in them.
    """

    seconds: float
    usage: Usage
    processor: float
    clips: int
    cut: float

    @property
    def memory(self) -> int:
        """Peaks of the command and of all processes that it started, together, bytes."""
        return self.usage.memory + self.usage.children

    def told(self, jobs: int) -> str:
        wall, processor = self.usage.wall, self.processor
        quarters = ", ".join(f"{quarter / 2**20:.0f}" for quarter in self.usage.quarters)
        return (
            f"{self.seconds:.0f} s of {SIZE[0]} x {SIZE[1]} video, {jobs} jobs: {wall:.0f} s,"
            f" {self.seconds / wall:.2f} x real time ({processor:.0f} s of CPU time, which on two free cores"
            f" is {2 * self.seconds / processor:.2f} x); {self.clips} clips, {self.cut:.0f} s;"
            f" peak memory {self.memory / 2**20:.0f} MiB of all processes,"
            f" by quarters of the time {quarters} MiB"
        )


def measured(clips: Path, minutes: float, jobs: int, options: list[str], folder: Path) -> Taken:
    """Make a film if it is not there, and prepare it."""
    folder.mkdir(parents=True, exist_ok=True)
    film = folder / f"film-{minutes:g}.mp4"
    if not film.exists():
        make_footage(clips, film, minutes)
    shutil.rmtree(folder / "data", ignore_errors=True)
    command = [*AVATAR, "prepare", str(film), "--out", str(folder / "data")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    taken = usage([*command, "--jobs", str(jobs), "--quiet", *options])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    index = json.loads((folder / "data" / "index.json").read_text())
    return Taken(60 * minutes, taken, busy, len(index), sum(entry["seconds"] for entry in index))


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
            taken = measured(clips, times * minutes, jobs, options.split(), out or Path(temporary))
        print(taken.told(jobs), flush=True)
        found.append(taken)
    if twice:
        print(f"twice the footage: {found[1].memory / found[0].memory:.3f} times the memory")


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(f"avatar: {error}")
