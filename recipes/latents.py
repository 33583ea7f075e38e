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
    audio       float16 (5, 4, 10, d)     Whisper features around each frame, see avatar.adapters.audio.align
    heard       float32 (1,)              1 where the clip speaks, 0 where `audio` says nothing
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from safetensors.numpy import load_file

from avatar.adapters.audio import WINDOW, align
from avatar.backbone.checkpoint import load
from avatar.backbone.precision import autocast
from avatar.backbone.vae import CausalVAE
from avatar.drivers.whisper import SAMPLE_RATE, WhisperFeatures
from avatar.model import GROUP, hole_cells
from avatar.recipes.shards import seeds, write
from avatar.recipes.speech_corpus import load_utterance
from avatar.render import pixels

FPS = 25.0  # of the clips


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


class Listener:
    """Whisper features around the frames of speaking clips."""

    def __init__(self, whisper: WhisperFeatures, corpus: Path | None) -> None:
        self.whisper, self.corpus = whisper, corpus
        self.features = lru_cache(maxsize=64)(self._features)

    def _features(self, utterance: int) -> torch.Tensor:
        assert self.corpus is not None
        return self.whisper(load_utterance(self.corpus / f"{utterance:06d}").audio)[:, -1]

    def __call__(self, clip: dict[str, NDArray], latent_frames: int) -> dict[str, NDArray]:
        """`audio` and `heard` of a clip; nothing is heard without a corpus."""
        utterance, start = int(clip["utterance"][0]), int(clip["start"][0])
        if self.corpus is None or utterance < 0:
            silence = np.zeros((latent_frames, GROUP, WINDOW, self.whisper.dim), np.float16)
            return {"audio": silence, "heard": np.zeros(1, np.float32)}
        windows = align(self.features(utterance), latent_frames, FPS, start=start / SAMPLE_RATE)
        return {"audio": windows.half().numpy(), "heard": np.ones(1, np.float32)}


def main(
    clips: Annotated[Path, typer.Option()],
    driven: Annotated[Path, typer.Option()],
    vae: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    speech: Annotated[Path | None, typer.Option(help="corpus that the clips were made with")] = None,
) -> None:
    """Encode every clip that has a driven reference; existing files are kept."""
    model = load(CausalVAE, vae)
    listen = Listener(WhisperFeatures.from_pretrained(), speech)
    for seed in seeds(driven, "driven"):
        target = out / f"latent-{seed}.safetensors"
        if not target.exists():
            clip = load_file(clips / f"clip-{seed}.safetensors")
            record = encode_clip(model, clip, load_file(driven / f"driven-{seed}.safetensors"))
            write(record | listen(clip, record["clean"].shape[1]), target)


if __name__ == "__main__":
    typer.run(main)
