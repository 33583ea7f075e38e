"""Train the mel-VAE of the soundtrack. Settings in soundtrack_vae.yaml;
`python -m avatar.recipes.soundtrack_vae key=value ...`.

The loss is the L1 of log-mel values plus the divergence of the latents from a standard normal law.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import nn

from avatar.backbone.mel import log_mel
from avatar.backbone.mel_vae import MelVAE, kl_divergence
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.soundtrack_sounds import MEL, SoundReader
from avatar.recipes.training import Batch, Losses, train
from avatar.soundtrack_presets import PRESETS

FAR = 1 << 30  # steps that no run takes: their sounds give the linear transform


class SoundtrackVAESettings(Settings):
    """See soundtrack_vae.yaml."""

    preset: str
    frames: PositiveInt
    kl_weight: float
    held_out: PositiveInt


def main(words: list[str]) -> list[float]:
    """Train with the settings of soundtrack_vae.yaml changed by `words`; returns the losses."""
    settings = read_settings(SoundtrackVAESettings, __file__, words)
    torch.manual_seed(settings.seed)
    model = MelVAE(PRESETS[settings.preset].vae)
    length = settings.frames * MEL.hop
    read = SoundReader(settings.data, settings.held_out, settings.batch, length, settings.seed)
    model.init_linear_shortcut(torch.cat([read(FAR + i)["mel"] for i in range(24)]))
    test = log_mel(torch.stack([read.whole(seed) for seed in read.held_out]), MEL)

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        posterior = net.posterior(batch["mel"])  # type: ignore[operator]
        error = (net.decode(posterior.sample(generator)).float() - batch["mel"]).abs().mean()  # type: ignore[operator]
        kl = kl_divergence(posterior)
        return {"loss": error + settings.kl_weight * kl, "l1": error, "kl": kl}

    def probe(net: nn.Module) -> dict[str, float]:
        latents = net.encode(test)  # type: ignore[operator]
        error = (net.decode(latents).float() - test).abs().mean()  # type: ignore[operator]
        return {"held_out_l1": round(error.item(), 4), "latent_std": round(latents.float().std().item(), 4)}

    return train(model, read, loss, settings, probe)


if __name__ == "__main__":
    run(main)
