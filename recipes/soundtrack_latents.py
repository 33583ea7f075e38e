"""Encode sounding scenes. Settings in soundtrack_latents.yaml;
`python -m avatar.recipes.soundtrack_latents key=value ...`.

A sample has `latents` (128, C) of the mel-VAE; `blows` (128,), how near a visible blow is to each, 1 at its
very moment and 0 a latent away; `motion` and `looks` as they were; and for its three captions the token
states `text` (3, 32, 384) with `mask` (3, 32) of the sentence encoder, or of T5.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import NonNegativeInt
from safetensors import safe_open
from safetensors.torch import load_file

from avatar.backbone.checkpoint import load
from avatar.backbone.mel import log_mel
from avatar.backbone.mel_vae import MelVAE
from avatar.errors import UserError
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.shards import seeds, write
from avatar.recipes.soundtrack_data import KIND as SCENE
from avatar.recipes.soundtrack_data import read_facts
from avatar.recipes.soundtrack_sounds import MEL
from avatar.soundtrack import make_reader
from avatar.soundtrack_presets import LATENT_SECONDS

KIND = "sounding"
WORDS = 32  # tokens of a caption, padded


class SoundtrackLatentsSettings(RecipeSettings):
    """See soundtrack_latents.yaml."""

    data: Path
    out: Path
    vae: Path
    t5: Path | None
    limit: NonNegativeInt


def nearness(hits: list[float], count: int) -> NDArray[np.float16]:
    """Blows at times, s, as a track of sound latents."""
    middles = (np.arange(count) + 0.5) * LATENT_SECONDS
    away = np.abs(middles[:, None] - np.array([*hits, np.inf])).min(1) / LATENT_SECONDS
    return np.clip(1 - away, 0, 1).astype(np.float16)


@torch.no_grad()
def main(words: list[str]) -> None:
    """Encode the scenes that are not encoded yet."""
    settings = read_settings(SoundtrackLatentsSettings, __file__, words)
    torch.set_num_threads(1)
    known = seeds(settings.data, SCENE)[: settings.limit or None]
    if not known:
        raise UserError(f"data={settings.data}: has no scenes, make some by avatar.recipes.soundtrack_data")
    vae, read = load(MelVAE, settings.vae), make_reader(settings.t5, torch.device("cpu"))
    for seed in known:
        target = settings.out / f"{KIND}-{seed}.safetensors"
        if target.exists():
            continue
        source = settings.data / f"{SCENE}-{seed}.safetensors"
        scene = load_file(source)
        facts = read_facts(source)
        text = read(facts["captions"])
        lengthen = WORDS - text.mask.shape[1]
        latents = vae.encode(log_mel(scene["samples"][None].float() / 32767, MEL))[0]
        sample = {
            "latents": latents.half().numpy(),
            "blows": nearness(facts["hits"], len(latents)),
            "motion": scene["motion"].numpy(),
            "looks": scene["looks"].numpy(),
            "text": F.pad(text.tokens, (0, 0, 0, lengthen)).half().numpy(),
            "mask": F.pad(text.mask, (0, lengthen)).numpy(),
        }
        with safe_open(source, "pt") as file:
            write(sample, target, file.metadata())


if __name__ == "__main__":
    run(main)
