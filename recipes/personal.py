"""What fine-tuning on one person's footage gains: the mouth's landmark error before and after, on sentences
kept apart.

    python -m avatar.recipes.personal --out personal --run
    python -m avatar.recipes.personal --data data --out personal --run      # footage of your own

Without --data the footage is of a made-up person (avatar.recipes.footage). Every validation clip is made anew
from its first frame and its sound, with the weights as they are shipped and with the adapter. MediaPipe's
face mesh is laid on every frame, turned to face the viewer (avatar.drivers.expression_net), and compared with
the clip's own: mean distance of the mouth's 20 iBUG landmarks, in distances between the eyes' outer corners.
Frames in which either face blinks are left out, for then the mesh's lips slide and nobody says when to blink.
OUT/figures.json holds the numbers.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from avatar.animator import Animator
from avatar.drivers.mesh import FaceBasis
from avatar.media import read_video
from avatar.recipes import audio_adapter, footage
from avatar.recipes.person_mouth import EYE_CORNERS, LIPS, awake, seen_in, turned
from avatar.recipes.prepared import Footage, read_index

Array = NDArray[np.float32]


class Mouths(NamedTuple):
    """Mouth landmarks (T, 20, 2) of a head that faces the viewer, in distances between the eyes, NaN where no
    face is found; and in which frames (T,) its eyes are open."""

    points: Array
    awake: NDArray[np.bool_]


class Errors(NamedTuple):
    """Mean distances of a clip's mouths from the true ones: `awake` of the frames in which both faces have
    open eyes, `every` of all, `still` of a mouth that stays as it is in the first frame."""

    awake: float
    every: float
    still: float


def mouths(frames: Iterable[NDArray[np.uint8]], basis: FaceBasis, name: str) -> Mouths:
    """The mouths of a film."""
    ahead = turned(seen_in(frames, name), basis)
    points = ahead[..., :2]
    eyes = np.linalg.norm(points[:, EYE_CORNERS[0]] - points[:, EYE_CORNERS[1]], axis=-1)
    return Mouths(points[:, list(LIPS)] / np.nanmedian(eyes), awake(ahead))


def landmark_errors(made: Mouths, true: Mouths) -> Errors:
    """How far mouths are from the true ones."""
    count = min(len(made.points), len(true.points))
    there = true.points[:count]
    open_eyed = made.awake[:count] & true.awake[:count]
    away, still = (np.linalg.norm(p - there, axis=-1) for p in (made.points[:count], there[:1]))
    return Errors(*(float(np.nanmean(e)) for e in (away[open_eyed], away, still[open_eyed])))


def judge(
    clips: list[Footage], true: list[Mouths], adapters: list[tuple[Path, float]], basis: FaceBasis
) -> list[Errors]:
    """Errors of each clip, made from its first frame and its sound; `true` are its own mouths."""
    animator = Animator.from_pretrained(adapters=adapters)
    errors = []
    for clip, there in zip(clips, true, strict=True):
        made = animator.stream(clip.video, clip.sound, ref_time=0)  # else the clip itself would be dubbed
        errors.append(landmark_errors(mouths(made, basis, "made"), there))
    return errors


def cpu_seconds() -> float:
    """Processor time of this process and of the programs that it ran."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def run(data: Path, out: Path, words: list[str]) -> dict[str, float]:
    """Fine-tune and judge; returns the figures."""
    began = cpu_seconds()
    audio_adapter.main([f"data={data}", f"out={out}", *words])
    spent = cpu_seconds() - began
    clips = [clip for clip in read_index(data) if clip.split == "validation" and clip.sound]
    basis = FaceBasis.load()
    true = [mouths(read_video(clip.video), basis, str(clip.video)) for clip in clips]
    before, after = (judge(clips, true, adapters, basis) for adapters in ([], [(out, 1.0)]))
    first, last = (Errors(*np.mean(found, 0).tolist()) for found in (before, after))
    size = (out / audio_adapter.FILE).stat().st_size / 1e6
    figures = {
        "still": first.still,
        "before": first.awake,
        "after": last.awake,
        "after / before": last.awake / first.awake,
        "of all frames": last.every / first.every,
        "worst sentence": max(a.awake / b.awake for a, b in zip(after, before, strict=True)),
        "sentences": len(clips),
        "CPU minutes": spent / 60,
        "adapter, MB": size,
    }
    rounded = {name: round(value, 4) for name, value in figures.items()}
    (out / "figures.json").write_text(json.dumps(rounded, indent=1) + "\n")
    return rounded


def main(
    out: Annotated[Path, typer.Option(help="folder of the run")],
    words: Annotated[list[str] | None, typer.Argument(help="settings of audio_adapter, key=value")] = None,
    data: Annotated[Path | None, typer.Option(help="prepared footage; made up without it")] = None,
    person: Annotated[int, typer.Option(help="which made-up person")] = 0,
    run_all: Annotated[bool, typer.Option("--run", help="fine-tune and judge")] = False,
) -> None:
    """Make footage of a made-up person; with --run fine-tune on it and print what that gains."""
    folder = data or out / "footage"
    if data is None:
        footage.make(folder, person)
    if run_all:
        for name, value in run(folder, out, words or []).items():
            print(f"{name:16} {value:g}")


if __name__ == "__main__":
    typer.run(main)
