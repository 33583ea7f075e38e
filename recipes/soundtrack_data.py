"""Write scenes that sound. Settings in soundtrack_data.yaml; `python -m avatar.recipes.soundtrack_data ...`.

A sample has `samples` (131072,) int16 at 22.05 kHz, `motion` (149, 256) and `looks` (38, K) of
avatar.drivers.sight as float16, and in its metadata the captions, the classes heard and seen and the times of
visible blows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from safetensors import safe_open

from avatar.drivers.sight import look
from avatar.errors import UserError
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.shards import write
from avatar.recipes.sounding import Scene, make
from avatar.soundtrack import make_eyes

KIND = "scene"


class SoundtrackDataSettings(RecipeSettings):
    """See soundtrack_data.yaml."""

    out: Path
    count: PositiveInt
    first: NonNegativeInt
    held_out: bool
    eyes: Path


def facts(scene: Scene) -> dict[str, str]:
    """What is known of a scene, as the metadata of its file."""
    known = {
        "captions": scene.captions,
        "classes": scene.classes,
        "seen": scene.seen,
        "hits": [round(hit, 4) for hit in scene.hits],
    }
    return {"facts": json.dumps(known)}


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a file."""
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["facts"])


def main(words: list[str]) -> None:
    """Write the scenes that are missing."""
    settings = read_settings(SoundtrackDataSettings, __file__, words)
    if not settings.eyes.exists():
        raise UserError(
            f"eyes={settings.eyes}: no such file, the VAE of the preset is needed, or CLIP's folder"
        )
    torch.set_num_threads(1)
    eyes = make_eyes(settings.eyes, torch.device("cpu"))
    for seed in range(settings.first, settings.first + settings.count):
        path = settings.out / f"{KIND}-{seed}.safetensors"
        if path.exists():
            continue
        scene = make(seed, settings.held_out)
        seen = look(eyes, iter([scene.frames]))
        sample = {
            "samples": np.round(32767 * scene.sound).astype(np.int16),
            "motion": seen.motion.half().numpy(),
            "looks": seen.looks.half().numpy(),
        }
        write(sample, path, facts(scene))


if __name__ == "__main__":
    run(main)
