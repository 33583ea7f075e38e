"""Encode clips and their driven references once, so that the generator trains on latents alone.

    python -m avatar.recipes.latents --clips data/clips --driven data/driven --vae
    runs/vae/model.safetensors \
        --out data/latents [--speech data/speech]

Each clip gets a `latent-SEED.safetensors` with

    clean       float16 (16, 5, 32, 32)   the clip
    driven      float16 (16, 5, 32, 32)   its driven reference
    reference   float16 (16, 1, 32, 32)
    hole        float16 (4, 5, 32, 32)    see avatar.model.hole_cells
    face        float32 (32, 32)
    motion      float32 (2,)
    audio       float16 (17, window, d)   Whisper features around each frame; only where the clip speaks
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from numpy.typing import NDArray
from safetensors.numpy import load_file

from avatar.backbone.checkpoint import load
from avatar.backbone.precision import autocast
from avatar.backbone.vae import CausalVAE
from avatar.model import hole_cells
from avatar.recipes.shards import seeds, write
from avatar.render import pixels


@torch.no_grad()
def encode_clip(vae: CausalVAE, clip: dict[str, NDArray], driven: dict[str, NDArray]) -> dict[str, NDArray]:
    """The record described above, without its sound."""
    with autocast(next(vae.parameters()).device):
        videos = (clip["frames"], driven["picture"], clip["reference"][None])
        clean, bent, reference = (vae.encode(pixels(video))[0].half().numpy() for video in videos)
    hole = hole_cells(torch.from_numpy(driven["hole"]).float() / 255, clean.shape[-1])
    return {
        "clean": clean,
        "driven": bent,
        "reference": reference,
        "hole": hole.half().numpy(),
        "face": driven["face"],
        "motion": driven["motion"],
    }


def main(
    clips: Annotated[Path, typer.Option()],
    driven: Annotated[Path, typer.Option()],
    vae: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
) -> None:
    """Encode every clip that has a driven reference; existing files are kept."""
    model = load(CausalVAE, vae)
    for seed in seeds(driven, "driven"):
        target = out / f"latent-{seed}.safetensors"
        if not target.exists():
            clip = load_file(clips / f"clip-{seed}.safetensors")
            write(encode_clip(model, clip, load_file(driven / f"driven-{seed}.safetensors")), target)


if __name__ == "__main__":
    typer.run(main)
