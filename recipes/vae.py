"""Train the VAE. Settings in vae.yaml; `python -m avatar.recipes.vae key=value ...`.

The loss is spec 1.1's without its perceptual and adversarial terms, whose nets need a download: L1 on
pixels and on their gradients. Frames are squares cut at random; the frame stride is drawn from 1..4, so
that fast motion is seen.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from pydantic import PositiveInt
from safetensors import safe_open
from torch import Tensor, nn

from avatar.backbone.vae import CausalVAE
from avatar.errors import UserError
from avatar.presets import PRESETS
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.shards import seeds
from avatar.recipes.training import Batch, Losses, train

STRIDES = (1, 1, 2, 4)  # of frames, so that fast motion is seen


class VAESettings(Settings):
    """See vae.yaml."""

    preset: str
    crop: int
    images: float
    gradient_weight: float
    held_out: PositiveInt


class ClipReader:
    """Random squares of random clips; a step always gets the same ones."""

    def __init__(self, settings: VAESettings) -> None:
        self.settings = settings
        known = seeds(settings.data, "clip")
        if len(known) <= settings.held_out:
            raise UserError(f"{settings.data}: {len(known)} clips, more than {settings.held_out} are needed")
        self.held_out, self.seeds = known[: settings.held_out], known[settings.held_out :]

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.settings.seed, step))
        single = rng.uniform() < self.settings.images
        stride = 0 if single else int(rng.choice(STRIDES))
        count = self.settings.batch * (4 if single else max(1, stride))
        return {"x": torch.cat([self.square(int(s), rng, stride) for s in rng.choice(self.seeds, count)])}

    def square(self, seed: int, rng: np.random.Generator, stride: int) -> Tensor:
        """One square (1, 3, T, crop, crop) of a clip: T = 17, 9, 5 for stride 1, 2, 4, and 1 for 0."""
        with safe_open(self.settings.data / f"clip-{seed}.safetensors", "pt") as file:
            frames = file.get_slice("frames")
            total, height, width, _ = frames.get_shape()
            y, x = (int(rng.integers(0, side - self.settings.crop + 1)) for side in (height, width))
            area = (slice(y, y + self.settings.crop), slice(x, x + self.settings.crop))
            start = 0 if stride else int(rng.integers(total))
            cut = frames[start : start + 1 if not stride else total, area[0], area[1]][:: stride or 1]
        if rng.uniform() < 0.5:
            cut = cut.flip(2)
        return cut.permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def reconstruction_loss(
    gradient_weight: float,
) -> Callable[[nn.Module, Batch, torch.Generator], Losses]:
    """L1 of pixels plus that of their differences along height and width."""

    def loss(model: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        x = batch["x"]
        error = model(x).float() - x
        pixels = error.abs().mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        psnr = -10 * torch.log10(error.square().mean() / 4)
        return {"loss": pixels + gradient_weight * edges, "l1": pixels, "psnr": psnr}

    return loss


def main(words: list[str]) -> list[float]:
    """Train with the settings of vae.yaml changed by `words`; returns the losses."""
    settings = read_settings(VAESettings, __file__, words)
    torch.manual_seed(settings.seed)
    model = CausalVAE(PRESETS[settings.preset].vae)
    read = ClipReader(settings)
    if model.config.linear_shortcut:
        rng = np.random.default_rng(settings.seed)
        some = [int(s) for s in rng.choice(read.seeds, min(120, len(read.seeds)), replace=False)]
        model.init_linear_shortcut(torch.cat([model.blocks(read.square(s, rng, 1)) for s in some]))
    whole = VAESettings(**{**settings.model_dump(), "crop": 256})
    test = [ClipReader(whole).square(s, np.random.default_rng(0), 1) for s in read.held_out]

    def probe(net: nn.Module) -> dict[str, float]:
        errors = [(net(x).float() - x).square().mean().item() for x in test]
        return {"held_out_psnr": round(float(np.mean([-10 * np.log10(e / 4) for e in errors])), 3)}

    return train(model, read, reconstruction_loss(settings.gradient_weight), settings, probe)


if __name__ == "__main__":
    run(main)
