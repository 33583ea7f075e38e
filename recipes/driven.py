"""Give every clip of the factory its driven reference, once, so that training only reads. Settings in
driven.yaml; `python -m avatar.recipes.driven clips=... out=...`.

Each `clip-SEED.safetensors` gets a `driven-SEED.safetensors` with

    picture   uint8 (17, 256, 256, 3)   the reference bent by its face mesh (avatar.drivers.warp)
    flow      float16 (17, 2, 64, 64)   its backward flow, in pixels, at quarter resolution
    hole      uint8 (17, 256, 256)      255 where the mouth shows what the reference does not
    lids      uint8 (17, 256, 256)      255 in and around eyes that have closed
    relief    float16 (17, 9, 64, 64)   shape and motion of the face, see `avatar.drivers.warp.Driven`
    gain      float16 (17, 64, 64)      by what factor the light on the moved skin is another
    face      float32 (32, 32)          share of each latent cell that the reference's face covers
    motion    float32 (2,)              head motion and expressiveness, see `measure_motion`

The mouth is drawn with the person's own seats and paints (`fit_paints`), a little wrong.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from avatar.drivers.mesh import FaceBasis, ReferenceMesh, face_mask, measure_motion
from avatar.drivers.mouth import MouthModel, linear
from avatar.drivers.warp import DrivenReference, face_light
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.shards import seeds, write
from avatar.recipes.surfaces import MOUTH_PART

LATENT_SIDE = 32  # cells of 8 px
SURE = 3.0  # pixels of a paint that weigh as much as the mean mouth
DOUBT = 0.12  # log of the factor by which a paint is wrong, so that the nets check it


def reference_mesh(clip: dict[str, NDArray], basis: FaceBasis) -> ReferenceMesh:
    """Mesh of the clip's reference, whose expression is known."""
    return ReferenceMesh(basis, clip["reference_landmarks"], clip["reference_curves"].astype(np.float32))


def fit_paints(clip: dict[str, NDArray], mesh: ReferenceMesh, mouth: MouthModel) -> NDArray[np.float32]:
    """Linear RGB of enamel, flesh and dark that draw the clip's mouth best, (3, 3); where it shows too little
    of one, that of the mean mouth in the light of the face."""
    usual = mouth.lit_paints(face_light(clip["reference"], mesh.landmarks))
    # Painted in red, green and blue, the picture says how much of each paint a pixel shows.
    told = DrivenReference(mesh, clip["reference"], mouth, clip["seats"], np.eye(3, dtype=np.float32))
    layers, _, hole, *_ = told(clip["curves"].astype(np.float32), clip["head"])
    inside = clip["parts"].repeat(2, 1).repeat(2, 2) == MOUTH_PART
    chosen = (hole > 0.9) & inside
    shown, truth = linear(layers[chosen]), linear(clip["frames"][chosen])
    sure = SURE * np.eye(3)
    return np.linalg.solve(shown.T @ shown + sure, shown.T @ truth + sure @ usual).clip(0).astype(np.float32)


def drive_clip(
    clip: dict[str, NDArray], basis: FaceBasis, mouth: MouthModel, rng: np.random.Generator
) -> dict[str, NDArray]:
    """The record described above for one clip of the factory."""
    curves, head = clip["curves"].astype(np.float32), clip["head"]
    mesh = reference_mesh(clip, basis)
    paints = fit_paints(clip, mesh, mouth) * np.exp(rng.normal(0, DOUBT, (3, 3)))
    driven = DrivenReference(mesh, clip["reference"], mouth, clip["seats"], paints.astype(np.float32))(
        curves, head
    )
    frames, _, side, _ = driven.flow.shape
    return {
        "picture": driven.picture,
        "flow": driven.flow.reshape(frames, 2, side // 4, 4, side // 4, 4).mean((3, 5)).astype(np.float16),
        "hole": (driven.hole * 255).astype(np.uint8),
        "lids": (driven.lids * 255).astype(np.uint8),
        "relief": driven.relief.astype(np.float16),
        "gain": driven.gain.astype(np.float16),
        "face": face_mask(clip["reference_landmarks"], side, LATENT_SIDE),
        "motion": measure_motion(mesh, curves, head),
    }


class DrivenSettings(RecipeSettings):
    """See driven.yaml."""

    clips: Path
    out: Path
    weights: Path | None


def main(words: list[str]) -> None:
    """Drive every clip and write the records."""
    settings = read_settings(DrivenSettings, __file__, words)
    weights = settings.weights
    basis = FaceBasis.load(weights and weights / "mesh.safetensors")
    mouth = MouthModel.load(weights and weights / "mouth.safetensors")
    for seed in seeds(settings.clips, "clip"):
        target = settings.out / f"driven-{seed}.safetensors"
        if not target.exists():
            clip = load_file(settings.clips / f"clip-{seed}.safetensors")
            write(drive_clip(clip, basis, mouth, np.random.default_rng(seed)), target)


if __name__ == "__main__":
    run(main)
