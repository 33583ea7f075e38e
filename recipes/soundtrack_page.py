"""Draw true and made sound one above the other, with their onsets. Settings in soundtrack_page.yaml;
`python -m avatar.recipes.soundtrack_page key=value ...`.

Each scene has two spectrograms: what was heard, and what the nets make of its picture and caption. Lines
above them are visible blows, dots are onsets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor

from avatar.backbone.checkpoint import load
from avatar.backbone.hifigan import HiFiGAN
from avatar.backbone.mel import log_mel
from avatar.backbone.mel_vae import MelVAE
from avatar.backbone.v2a import V2A
from avatar.drivers.sight import Seen
from avatar.errors import UserError
from avatar.recipes.onsets import FRAME, QUIET, onsets
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.soundtrack_data import KIND, read_facts
from avatar.recipes.soundtrack_eval import Maker
from avatar.recipes.soundtrack_sounds import MEL

WIDTH, HEIGHT = 5.0, 1.5  # inches of a spectrogram
DOTS = 100  # an inch


class SoundtrackPageSettings(RecipeSettings):
    """See soundtrack_page.yaml."""

    scenes: Path
    seeds: tuple[NonNegativeInt, ...]
    vae: Path
    vocoder: Path
    v2a: Path
    steps: PositiveInt
    guidance: float
    seed: NonNegativeInt
    out: Path


def draw(rows: list[tuple[str, list[float], Tensor, Tensor]], out: Path) -> None:
    """Write a picture of scenes: caption, times of visible blows, true and made spectrograms (M, F)."""
    from matplotlib.figure import Figure

    figure = Figure((2 * WIDTH, HEIGHT * len(rows)), dpi=DOTS)
    figure.subplots_adjust(0.01, 0.3 / (HEIGHT * len(rows)), 0.99, 1 - 0.2 / (HEIGHT * len(rows)), 0.03, 0.3)
    axes: NDArray = figure.subplots(len(rows), 2, squeeze=False, sharex=True, sharey=True)
    for (caption, hits, *mels), pair in zip(rows, axes, strict=True):
        for what, mel, ax in zip(("true", "made"), mels, pair, strict=True):
            top = float(mel.max())
            seconds = mel.shape[1] * FRAME
            extent = (0.0, seconds, 0.0, float(len(mel)))
            ax.imshow(
                mel, origin="lower", aspect="auto", vmin=top - QUIET, vmax=top, extent=extent, cmap="magma"
            )
            ax.vlines(hits, len(mel), len(mel) + 8, color="tab:blue")
            found = onsets(mel)
            ax.plot(found, np.full(len(found), len(mel) + 13), ".", color="tab:red")
            ax.set_xlim(0, seconds)
            ax.set_ylim(0, len(mel) + 18)
            ax.set_yticks([])
            ax.set_title(f"{what}: {caption}" if what == "true" else what, fontsize=8, loc="left")
    figure.savefig(out, pil_kwargs={"quality": 85})


@torch.no_grad()
def main(words: list[str]) -> None:
    """Draw the page."""
    settings = read_settings(SoundtrackPageSettings, __file__, words)
    torch.set_num_threads(1)
    net = load(V2A, settings.v2a)
    vae, vocoder = load(MelVAE, settings.vae), load(HiFiGAN, settings.vocoder)
    maker = Maker(vae, vocoder, net, steps=settings.steps, guidance=settings.guidance)
    rows = []
    for number in settings.seeds:
        path = settings.scenes / f"{KIND}-{number}.safetensors"
        if not path.exists():
            raise UserError(f"{path}: no such scene, make it by avatar.recipes.soundtrack_data")
        scene, facts = load_file(path), read_facts(path)
        true = log_mel(scene["samples"][None].float() / 32767, MEL)[0]
        made = maker(Seen(scene["motion"], scene["looks"]), facts["captions"][0], settings.seed + number)
        rows.append((facts["captions"][0], facts["hits"], true, made))
    draw(rows, settings.out)


if __name__ == "__main__":
    run(main)
