"""Measure the mean mouth of the factory's people: the model of `drivers/mouth.py`. Settings in mouth.yaml;
`python -m avatar.recipes.mouth clips=... out=...`.

Geometry is the mean of random Anny heads (CC0 shapes); the paints are medians over clips whose mouths show
them, see `recipes/driven.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from safetensors.numpy import load_file

from avatar.drivers.mesh import FaceBasis
from avatar.drivers.mouth import LOWER_TEETH, TONGUE, UPPER_TEETH, MouthModel
from avatar.drivers.warp import face_light
from avatar.recipes import people as anny
from avatar.recipes.driven import fit_paints, reference_mesh
from avatar.recipes.factory import face_points
from avatar.recipes.figure import draw_figure, lip_contact, mouth_seats, shared
from avatar.recipes.settings import RecipeSettings, read_settings, run
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


class MouthSettings(RecipeSettings):
    """See mouth.yaml."""

    clips: Path
    out: Path
    heads: PositiveInt
    count: PositiveInt
    seed: NonNegativeInt


def main(words: list[str]) -> None:
    """Measure geometry and paints and write the model."""
    settings = read_settings(MouthSettings, __file__, words)
    mouth, basis = measure(settings.heads, settings.seed), FaceBasis.load()
    found = []
    for number in seeds(settings.clips, "clip")[: settings.count]:
        clip = load_file(settings.clips / f"clip-{number}.safetensors")
        mesh = reference_mesh(clip, basis)
        usual = mouth.lit_paints(face_light(clip["reference"], mesh.landmarks))
        found.append(mouth.paints * fit_paints(clip, mesh, mouth) / usual)
    paints = np.median(found, 0).astype(np.float32)
    replace(mouth, paints=paints).save(settings.out)
    print(f"paints:\n{paints}")


if __name__ == "__main__":
    run(main)
