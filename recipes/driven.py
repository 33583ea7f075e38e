"""Give every clip of the factory its driven reference, once, so that training only reads.

    python -m avatar.recipes.driven --clips data/clips --out data/driven

Each `clip-SEED.safetensors` gets a `driven-SEED.safetensors` with

    picture   uint8 (17, 256, 256, 3)   the reference bent by its face mesh (avatar.drivers.warp)
    flow      float16 (17, 2, 64, 64)   its backward flow, in pixels, at quarter resolution
    hole      uint8 (17, 256, 256)      255 where the mouth shows what the reference does not
    face      float32 (32, 32)          share of each latent cell that the reference's face covers
    motion    float32 (2,)              head motion and expressiveness, see `measure_motion`

Existing files are kept. About 0.3 s a clip on one core.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from safetensors.numpy import load_file

from avatar.drivers.mesh import FaceBasis, ReferenceMesh, face_mask, measure_motion
from avatar.drivers.warp import DrivenReference
from avatar.recipes.shards import seeds, write

LATENT_SIDE = 32  # cells of 8 px


def drive_clip(clip: dict[str, NDArray], basis: FaceBasis) -> dict[str, NDArray]:
    """The record described above for one clip of the factory."""
    curves, head = clip["curves"].astype(np.float32), clip["head"]
    mesh = ReferenceMesh(basis, clip["reference_landmarks"], clip["reference_curves"].astype(np.float32))
    driven = DrivenReference(mesh, clip["reference"])(curves, head)
    frames, _, side, _ = driven.flow.shape
    return {
        "picture": driven.picture,
        "flow": driven.flow.reshape(frames, 2, side // 4, 4, side // 4, 4).mean((3, 5)).astype(np.float16),
        "hole": (driven.hole * 255).astype(np.uint8),
        "face": face_mask(clip["reference_landmarks"], side, LATENT_SIDE),
        "motion": measure_motion(mesh, curves, head),
    }


def main(
    clips: Annotated[Path, typer.Option()], out: Annotated[Path, typer.Option()], weights: Path | None = None
) -> None:
    """Drive every clip in CLIPS and write the records to OUT."""
    basis = FaceBasis.load(weights)
    for seed in seeds(clips, "clip"):
        target = out / f"driven-{seed}.safetensors"
        if not target.exists():
            write(drive_clip(load_file(clips / f"clip-{seed}.safetensors"), basis), target)


if __name__ == "__main__":
    typer.run(main)
