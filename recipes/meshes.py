"""Find the face mesh in every frame of the factory's clips, as a driving video's is found in use. Settings in
meshes.yaml; `python -m avatar.recipes.meshes clips=... out=...`.

Each `clip-SEED.safetensors` gets a `mesh-SEED.safetensors` with

    points     float32 (17, 478, 3)   landmarks in pixels; NaN where no face was found
    curves     float16 (17, 52)       the clip's own
    head       float32 (17, 6)        the clip's own
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import safe_open

from avatar.drivers.mesh import LANDMARKS
from avatar.drivers.track import FaceTracker
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.shards import seeds, write


class MeshesSettings(RecipeSettings):
    """See meshes.yaml."""

    clips: Path
    out: Path


def main(words: list[str]) -> None:
    """Write the meshes of every clip."""
    settings = read_settings(MeshesSettings, __file__, words)
    for seed in seeds(settings.clips, "clip"):
        target = settings.out / f"mesh-{seed}.safetensors"
        if target.exists():
            continue
        with safe_open(settings.clips / f"clip-{seed}.safetensors", "np") as clip:
            frames, curves, head = (clip.get_tensor(name) for name in ("frames", "curves", "head"))
        with FaceTracker() as tracker:
            found = [tracker(frame) for frame in frames]
        lost = np.full((LANDMARKS, 3), np.nan, np.float32)
        points = np.stack([lost if face is None else face for face in found])
        write({"points": points, "curves": curves, "head": head}, target)


if __name__ == "__main__":
    run(main)
