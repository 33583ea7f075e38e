"""Train a judge of sounds. Settings in soundtrack_classifier.yaml;
`python -m avatar.recipes.soundtrack_classifier key=value ...`.

A small convolutional net over log-mel spectrograms says which classes of `avatar.recipes.sounding` it hears.
It judges generated sounds, so it never hears any in training. Shape legend: B batch, M mel bands, F frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from avatar.backbone.mel import log_mel
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.sounding import CLASSES
from avatar.recipes.soundtrack_data import KIND, read_facts
from avatar.recipes.soundtrack_sounds import MEL, SoundReader
from avatar.recipes.training import Batch, Losses, train

RANGE = 9.0  # nepers under the loudest band that are heard


class ClassifierSettings(Settings):
    """See soundtrack_classifier.yaml."""

    frames: PositiveInt
    width: PositiveInt
    held_out: PositiveInt


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """Channels of the first layer, and the classes in order."""

    width: int
    classes: tuple[str, ...] = CLASSES


class SoundClassifier(nn.Module):
    """Log-mel spectrograms (B, M, F) to logits (B, classes)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        widths = [1, config.width, 2 * config.width, 2 * config.width, 4 * config.width]
        self.layers = nn.ModuleList(
            nn.Conv2d(inside, outside, 3, stride=2, padding=1) for inside, outside in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in widths[1:])
        self.head = nn.Linear(8 * config.width, len(config.classes))

    def forward(self, mel: Tensor) -> Tensor:
        loudest = mel.amax((1, 2), keepdim=True)  # the level of a sound is not its kind
        x = ((mel.clamp(min=loudest - RANGE) - loudest) / (0.5 * RANGE) + 1)[:, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.gelu(norm(layer(x)))
        x = x.mean(2)
        return self.head(torch.cat([x.mean(2), x.amax(2)], dim=1))


class LabelReader(SoundReader):
    """Sounds with their classes, (B, classes) of 0 and 1."""

    def labels(self, seed: int) -> Tensor:
        heard = read_facts(self.data / f"{KIND}-{seed}.safetensors")["classes"]
        return torch.tensor([float(name in heard) for name in CLASSES])

    def __call__(self, step: int) -> Batch:
        rng = self.rng(step)
        chosen = [int(seed) for seed in rng.choice(self.seeds, self.batch)]
        samples = torch.stack([self.cut(seed, rng) for seed in chosen])
        return {"mel": log_mel(samples, MEL), "labels": torch.stack([self.labels(seed) for seed in chosen])}


def main(words: list[str]) -> list[float]:
    """Train with the settings of soundtrack_classifier.yaml changed by `words`; returns the losses."""
    settings = read_settings(ClassifierSettings, __file__, words)
    torch.manual_seed(settings.seed)
    model = SoundClassifier(ClassifierConfig(width=settings.width))
    length = settings.frames * MEL.hop
    read = LabelReader(settings.data, settings.held_out, settings.batch, length, settings.seed)
    test = log_mel(torch.stack([read.whole(seed) for seed in read.held_out]), MEL)
    true = torch.stack([read.labels(seed) for seed in read.held_out])

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        error = F.binary_cross_entropy_with_logits(net(batch["mel"]).float(), batch["labels"])
        return {"loss": error}

    def probe(net: nn.Module) -> dict[str, float]:
        best = net(test).argmax(1)
        return {"held_out_right": round(true.gather(1, best[:, None]).mean().item(), 3)}

    return train(model, read, loss, settings, probe)


if __name__ == "__main__":
    run(main)
