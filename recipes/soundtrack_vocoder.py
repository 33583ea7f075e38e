"""Train the soundtrack's vocoder. Settings in soundtrack_vocoder.yaml;
`python -m avatar.recipes.soundtrack_vocoder key=value ...`.

HiFi-GAN's loss (arXiv:2010.05646, section 2.3): L1 between log-mel spectrograms, least-squares adversarial
terms and feature matching. Both sides learn in the same step: the discriminators are held still inside the
generator's terms, and the generator's sound is held still inside theirs. The generator alone is written as
`generator.safetensors`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from avatar.backbone import checkpoint
from avatar.backbone.hifigan import (
    DiscriminatorConfig,
    HiFiGAN,
    HiFiGANConfig,
    MultiPeriodDiscriminator,
    MultiScaleDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from avatar.backbone.mel import MelConfig, log_mel
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.soundtrack_sounds import MEL, SoundReader
from avatar.recipes.training import Batch, Losses, train
from avatar.soundtrack_presets import PRESETS

# A sixteenth of the paper's channels and less: the generator is small too.
JUDGES = DiscriminatorConfig(
    period_widths=(8, 16, 32, 64, 64),
    scale_widths=(16, 16, 32, 64, 128, 128, 128),
    scale_groups=(1, 4, 4, 4, 4, 4, 1),
)
# Spectrograms of several sizes: what one window can not tell apart, another one can.
SIZES = (
    MEL,
    MelConfig(fft=512, hop=128, bands=64, high=11_025),
    MelConfig(fft=2048, hop=512, bands=120, high=11_025),
)


class VocoderSettings(Settings):
    """See soundtrack_vocoder.yaml."""

    preset: str
    frames: PositiveInt
    mel_weight: float
    feature_weight: float
    adversarial_from: NonNegativeInt
    held_out: PositiveInt


@dataclass(frozen=True, kw_only=True)
class VocoderGANConfig:
    """Sizes of a `VocoderGAN`."""

    generator: HiFiGANConfig
    discriminators: DiscriminatorConfig


class VocoderGAN(nn.Module):
    """A generator and its two discriminators, trained as one."""

    def __init__(self, config: VocoderGANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = HiFiGAN(config.generator)
        self.judges = nn.ModuleList(
            [MultiPeriodDiscriminator(config.discriminators), MultiScaleDiscriminator(config.discriminators)]
        )

    def forward(self, mel: Tensor) -> Tensor:
        return self.generator(mel)


class VocoderReader(SoundReader):
    """Adds the number of the step."""

    def __call__(self, step: int) -> Batch:
        return super().__call__(step) | {"step": torch.tensor(step)}


def spectral_loss(made: Tensor, true: Tensor) -> Tensor:
    """L1 between log-mel spectrograms of several sizes, HiFi-GAN's own counting half."""
    first, *rest = ((log_mel(made, size) - log_mel(true, size)).abs().mean() for size in SIZES)
    return 0.5 * first + 0.5 * torch.stack(rest).mean()


def adversarial_terms(model: VocoderGAN, made: Tensor, true: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """What the generator and what the discriminators minimise."""
    for_generator, for_judges = made.new_zeros(()), made.new_zeros(())
    for judge in model.judges:
        judge.requires_grad_(False)
        _, real_features = judge(true)
        scores, features = judge(made)
        for_generator = (
            for_generator + adversarial_loss(scores) + weight * feature_loss(real_features, features)
        )
        judge.requires_grad_(True)
        for_judges = for_judges + discriminator_loss(judge(true)[0], judge(made.detach())[0])
    return for_generator, for_judges


def main(words: list[str]) -> list[float]:
    """Train with the settings of soundtrack_vocoder.yaml changed by `words`; returns the losses."""
    settings = read_settings(VocoderSettings, __file__, words)
    torch.manual_seed(settings.seed)
    config = VocoderGANConfig(generator=PRESETS[settings.preset].vocoder, discriminators=JUDGES)
    model = VocoderGAN(config)
    length = settings.frames * MEL.hop
    read = VocoderReader(settings.data, settings.held_out, settings.batch, length, settings.seed)
    test = torch.stack([read.whole(seed) for seed in read.held_out])

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        assert isinstance(net, VocoderGAN)
        true = batch["samples"]
        with torch.autocast(true.device.type, enabled=False):  # 8 bits are heard as noise 50 dB down
            made = net(batch["mel"])
        spectral = spectral_loss(made, true)
        total = settings.mel_weight * spectral
        found = {"mel": spectral}
        if batch["step"] >= settings.adversarial_from:
            mine, theirs = adversarial_terms(net, made, true, settings.feature_weight)
            total, found = total + mine + theirs, found | {"generator": mine, "judges": theirs}
        else:  # every parameter takes part in every step, so that a run resumes with the same optimiser
            total = total + 0.0 * sum(p.sum() for p in net.judges.parameters())
        return {"loss": total, **found}

    def probe(net: nn.Module) -> dict[str, float]:
        mel = log_mel(test, MEL)
        errors = [(log_mel(net(m[None]), MEL) - m).abs().mean().item() for m in mel]
        return {"held_out_mel_l1": round(sum(errors) / len(errors), 4)}

    losses = train(model, read, loss, settings, probe)
    trained = checkpoint.load(VocoderGAN, settings.out / "model.safetensors")
    checkpoint.save(trained.generator, settings.out / "generator.safetensors")
    return losses


if __name__ == "__main__":
    run(main)
