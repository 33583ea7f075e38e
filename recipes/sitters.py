"""Factory people who hold still until told: the truth for the response probe.

    python -m avatar.recipes.sitters --preset mini --people 4

A sitter has one face, camera, light and background, faces the camera without expression, and is rendered on
demand. Seeds start where training clips never come. About 8 s a person on one core.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from avatar.backbone.decode import PlainDecode
from avatar.backbone.vae import CausalVAE
from avatar.drivers.curves import CURVES
from avatar.drivers.mesh import FaceBasis, rotation
from avatar.drivers.mouth import MouthModel
from avatar.model import Generator
from avatar.presets import Preset
from avatar.probe import CONDITIONS, Array, Frames, Renderer, Response, conditions, follow, probe, table
from avatar.recipes import factory
from avatar.recipes.acting import Act
from avatar.recipes.drawing import act_out, draw_frame
from avatar.recipes.people import pose_head
from avatar.recipes.validation import lip_figures, means, write_video
from avatar.render import Motion, Nets, Sampling, render_picture

if TYPE_CHECKING:
    from avatar.animator import Animator

FIRST_SEED = 2_000_000_000
RATE = Fraction(25)  # frames a second
TORSO_SHARE = 0.5  # of the head's shift that the shoulders join in; there is none here


class Sitter:
    """One person. Called with curves (n, 52) and angles (n, 3), gives frames and the head track (n, 6)."""

    def __init__(self, seed: int, size: int = 256) -> None:
        rng = np.random.default_rng(seed)
        self.take = factory.draw_take(rng, size * factory.SAMPLES)
        self.drawn: dict[bytes, NDArray[np.uint8]] = {}

    @classmethod
    def some(cls, count: int, size: int = 256) -> list[Sitter]:
        """The first `count` people whose face the face mesh finds at rest."""
        found: list[Sitter] = []
        seed = FIRST_SEED
        rest = np.zeros((1, len(CURVES)), np.float32), np.zeros((1, 3), np.float32)
        while len(found) < count:
            sitter = cls(seed, size)
            if factory.find_landmarks(sitter(*rest)[0][0]) is not None:
                found.append(sitter)
            seed += 1
        return found

    def __call__(self, curves: Array, angles: Array) -> tuple[Frames, Array]:
        act = Act(
            curves=np.concatenate([np.zeros((1, len(CURVES)), np.float32), curves]),
            angles=np.concatenate([np.zeros((1, 3), np.float32), angles]),
            shift=np.zeros((1 + len(curves), 3), np.float32),
            expression="neutral",
            kind="still",
        )
        pose = pose_head(self.take.figure.person, rotation(act.angles), act.shift, TORSO_SHARE)
        frames = [self._frame(*row) for row in zip(curves, angles, strict=True)]
        return np.stack(frames), factory.head_track(self.take, act, pose)

    def _frame(self, curves: Array, angles: Array) -> NDArray[np.uint8]:
        """One picture; grain and noise are always the same, so that only the condition makes a difference."""
        key = curves.tobytes() + angles.tobytes()
        if key not in self.drawn:
            take = self.take
            pose = pose_head(take.figure.person, rotation(angles[None]), np.zeros((1, 3)), TORSO_SHARE)
            points = act_out(take.figure, curves[None], pose)
            gap = float(factory.openness(take.figure, points)[0])
            drawing = draw_frame(take.figure, points[0], pose, 0, gap, take.camera, take.light)
            self.drawn[key] = factory.develop(drawing, take, np.random.default_rng(0))
        return self.drawn[key]


def probe_animator(animator: Animator, people: int = 4) -> dict[str, Response]:
    """Median response of an animator over people it has not seen."""

    def model(reference: NDArray[np.uint8]) -> Renderer:
        return lambda curves, head: animator.render(reference, curves, head)

    return probe(model, Sitter.some(people))


class SitterProbe:
    """What the nets in training make of some people, for the log of a run and for its validation videos.

    Args:
        vae, generator: the nets that are not in training; by default a generator that leaves the driven
            reference as it is, and the VAE's own decode.
    """

    def __init__(
        self, people: int, preset: Preset, vae: CausalVAE, generator: Generator | None = None
    ) -> None:
        self.sitters = Sitter.some(people)
        self.nets = Nets(
            vae=vae,
            generator=generator or Generator(preset.generator),
            decoder=PlainDecode(),
            basis=FaceBasis.load(),
            mouth=MouthModel.load(),
            window=preset.window,
            device=next(vae.parameters()).device,
        )

    def respond(self, **trained: Any) -> dict[str, float]:
        """Median pixel response to every condition; given is the net in training (`generator=` or
        `decoder=`)."""
        if not self.sitters:
            return {}
        found = probe(partial(self._model, trained), self.sitters, landmarks=False)
        return {f"response_{name}": round(response.along, 3) for name, response in found.items()}

    def show(self, place: Path, **trained: Any) -> dict[str, float]:
        """Write a video of every person, the truth beside what the nets make under each condition in turn;
        figures of the lips."""
        figures = []
        for number, sitter in enumerate(self.sitters):
            true, made = self._act(sitter, trained)
            write_video(np.concatenate([true, made], 2), place / f"person-{number}.mp4", RATE)
            figures.append(lip_figures(follow(made), follow(true), float(RATE)))
        return means(figures, "shown_")

    def _act(self, sitter: Sitter, trained: dict[str, Any]) -> tuple[Frames, Frames]:
        """Frames of a person under the conditions, one after the other: true ones, and those of the nets."""
        rest, _ = sitter(*(np.zeros((1, n), np.float32) for n in (len(CURVES), 3)))
        model = self._model(trained, rest[0])
        true, made = [], []
        for condition in CONDITIONS:
            curves, angles = conditions(condition)
            frames, head = sitter(curves, angles)
            true.append(frames)
            made.append(model(curves, head))
        return np.concatenate(true), np.concatenate(made)

    def _model(self, trained: dict[str, Any], reference: NDArray[np.uint8]) -> Renderer:
        landmarks = factory.find_landmarks(reference)
        assert landmarks is not None  # so were they chosen
        shown = partial(render_picture, replace(self.nets, **trained), reference, landmarks)
        return lambda curves, head: shown(Motion(curves, head), Sampling())


def main(
    preset: Annotated[str, typer.Option(help="set of nets")] = "mini",
    people: Annotated[int, typer.Option(help="how many people the median is over")] = 4,
) -> None:
    """Print the response of the nets to every condition."""
    from rich.console import Console

    from avatar.animator import Animator

    Console().print(table(probe_animator(Animator.from_pretrained(preset), people)))


if __name__ == "__main__":
    typer.run(main)
