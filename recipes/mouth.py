"""Measure the mean mouth of the factory's people: the model of `drivers/mouth.py`.

    python -m avatar.recipes.mouth --clips data/clips --out avatar/weights/mini/mouth.safetensors

Geometry is the mean of random Anny heads (CC0 shapes); the paints are medians over clips whose mouths show
them, see `recipes/driven.py`. About a minute on one core.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import load_file

from avatar.drivers.mesh import FaceBasis
from avatar.drivers.mouth import LOWER_TEETH, TONGUE, UPPER_TEETH, MouthModel
from avatar.drivers.warp import face_light
from avatar.recipes import people as anny
from avatar.recipes.driven import fit_paints, reference_mesh
from avatar.recipes.factory import face_points
from avatar.recipes.figure import draw_figure, lip_contact, mouth_seats, shared
from avatar.recipes.shards import seeds

PARTS = {anny.UPPER_TEETH: UPPER_TEETH, anny.LOWER_TEETH: LOWER_TEETH, anny.TONGUE: TONGUE}
FIRST_PAINTS = np.array([[0.6, 0.6, 0.6], [0.5, 0.3, 0.3], [0.03, 0.02, 0.02]], np.float32)


def measure(heads: int, seed: int) -> MouthModel:
    """The mean geometry of `heads` people."""
    base = shared()
    mesh, rng = base.mesh, np.random.default_rng(seed)
    triangles = mesh.triangles[np.isin(mesh.part, list(PARTS))]
    own = np.unique(triangles)
    part = np.zeros(len(mesh.template), np.uint8)
    for number, name in PARTS.items():
        part[np.unique(mesh.triangles[mesh.part == number])] = name
    points, moves = [], []
    for _ in range(heads):
        figure = draw_figure(rng)
        rest, (top, chin) = figure.person.rest, face_points(figure)
        height = np.linalg.norm(rest[top] - rest[chin])
        own_points = rest[own] - rest[list(lip_contact(mesh))].mean(0)
        own_points[:, 1] -= mouth_seats(figure.person, mesh)[part[own]]
        points.append(own_points / height)
        moves.append(base.actions[:, own] / height)
    middle = np.mean(points, 0)
    middle[:, 0] -= middle[:, 0].mean()
    return MouthModel(
        points=middle.astype(np.float32),
        displacement=np.mean(moves, 0).astype(np.float32),
        triangles=np.searchsorted(own, triangles).astype(np.int32),
        part=part[own],
        teeth=base.teeth[own],
        paints=FIRST_PAINTS,
    )


def main(
    clips: Annotated[Path, typer.Option(help="clips of the factory")],
    out: Annotated[Path, typer.Option()],
    heads: int = 24,
    count: Annotated[int, typer.Option(help="how many clips to look at")] = 300,
    seed: int = 0,
) -> None:
    """Measure geometry and paints and write the model to OUT."""
    mouth, basis = measure(heads, seed), FaceBasis.load()
    found = []
    for number in seeds(clips, "clip")[:count]:
        clip = load_file(clips / f"clip-{number}.safetensors")
        mesh = reference_mesh(clip, basis)
        usual = mouth.lit_paints(face_light(clip["reference"], mesh.landmarks))
        found.append(mouth.paints * fit_paints(clip, mesh, mouth) / usual)
    paints = np.median(found, 0).astype(np.float32)
    replace(mouth, paints=paints).save(out)
    typer.echo(f"paints:\n{paints}")


if __name__ == "__main__":
    typer.run(main)
