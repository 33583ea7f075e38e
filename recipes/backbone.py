"""Train a HunyuanVideo DiT on encoded clips: pictures, then films of growing length and size, whole or by
LoRA. `python -m avatar.recipes.backbone NAME key=value ...`, where NAME.yaml has the settings.

Flow matching as the public nets have it (section 1.3 of the design): time runs from data at 0 to noise at 1,
is logit-normal and shifted towards the noise, and the loss is the mean square error of the velocity. A net
that is told the first frame (section 2.6) is told that of the clip, and for a share of the clips the last one
too. Out: the run folder; OUT/lora.safetensors for `avatar generate --lora` where a LoRA was trained, else
OUT/model.safetensors for `avatar generate --dit-weight`.
Shape legend: B samples, C channels, T latent frames of h w.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar import weights
from avatar.adapters.audio_dit import AudioDiTConfig
from avatar.backbone import flow
from avatar.backbone.attention import Grid
from avatar.backbone.dit import TIME_SCALE, DiT, DiTConfig
from avatar.backbone.image_condition import concat_condition
from avatar.errors import UserError
from avatar.recipes.encoded import EncodedReader, EncodedSet, StageSettings, chosen, samples_of_each
from avatar.recipes.lora import LowRank, LowRankConfig, named, save_lora
from avatar.recipes.settings import read_settings, recipe_of, run
from avatar.recipes.training import Batch, Losses, train
from avatar.recipes.unfreezing import Unfreezing
from avatar.releases import RELEASES

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the probe


def _size(hidden: int, heads: int, double: int, single: int, rope: Grid) -> dict[str, Any]:
    blocks = {"double_blocks": double, "single_blocks": single}
    return {"hidden": hidden, "heads": heads, "rope_channels": rope, **blocks}


# `small` is the public HYVideo-S/2 (section 2.1 of the reference), `tiny` is for trying things out.
SIZES = {
    "tiny": _size(64, 2, 2, 2, (4, 14, 14)),
    "small": _size(480, 5, 6, 12, (12, 42, 42)),
    "release": {},
}


class BackboneSettings(StageSettings):
    """See image_256.yaml, and lora.yaml and finetune_full.yaml for what has a default here.

    Attributes:
        last_share: share of the clips whose last frame is given too, of nets that know it.
        recompute: activations inside blocks are computed again going back, which saves memory.
        unfreeze_every, unfreeze_blocks: see `Unfreezing`.
        base: weights that a LoRA of a rank changes, in any layout that `avatar weights` knows.
    """

    preset: str
    size: Literal["tiny", "small", "release"]
    text_dropout: float
    shift: float
    guidance: float
    last_share: float = 0.25
    recompute: bool = False
    unfreeze_every: NonNegativeInt = 0
    unfreeze_blocks: PositiveInt = 1
    base: Path | None = None
    rank: NonNegativeInt = 0
    alpha: float = 0.0
    layers: tuple[str, ...] = ()


class Told(NamedTuple):
    """What a net is given of clips beside the noisy latents.

    Attributes:
        first: (B, C, 1, h, w), latents that stand in the place of the first frame; None where they do not.
        condition: (B, 17, T, h, w), pictures and mask on the channels; None for nets without.
    """

    first: Tensor | None = None
    condition: Tensor | None = None


def tell(config: DiTConfig, clean: Tensor, last: Tensor) -> Told:
    """What a net of a config is given of clean latents; `last` (B,) says whose last frame is given too.

    Raises:
        UserError: a net that is told the first frame can learn nothing from pictures.
    """
    if not config.clean_first_frame and not config.condition_channels:
        return Told()
    if clean.shape[2] < 3:
        raise UserError("durations: a net that is told the first frame needs 9 frames at least")
    first = clean[:, :, :1]
    if config.clean_first_frame:
        return Told(first)
    alone = concat_condition(first, clean.shape[2])
    both = concat_condition(first, clean.shape[2], clean[:, :, -1:])
    return Told(None, torch.where(last[:, None, None, None, None], both, alone))


def predict(
    net: nn.Module, x: Tensor, time: Tensor, told: Told, batch: Batch, guidance: Tensor | None
) -> Tensor:
    """Velocity (B, C, T, h, w) at noisy latents, without a first frame that is given.

    Args:
        guidance: (B,), what a net with distilled guidance is told; None for others.
    """
    if told.first is not None:
        x = torch.cat([told.first, x[:, :, 1:]], dim=2)
    text = {"text": batch["text"], "text_mask": batch["mask"], "pooled": batch["pooled"]}
    found = net(x, TIME_SCALE * time, told.condition, guidance=guidance, **text).float()
    return found if told.first is None else found[:, :, 1:]


def velocity_error(
    net: nn.Module,
    config: DiTConfig,
    batch: Batch,
    noise: Tensor,
    time: Tensor,
    last: Tensor,
    guidance: float,
) -> Tensor:
    """Mean square error of the velocity that a net predicts on the way from a batch to noise.

    Args:
        guidance: what a net with distilled guidance is told.
    """
    clean = batch["latents"]
    x = flow.interpolate(noise, clean, time, reverse=True)
    scale = torch.full_like(time, guidance) if config.guidance_embed else None
    found = predict(net, x, time, tell(config, clean, last), batch, scale)
    target = flow.velocity_target(noise, clean, reverse=True)
    return (found - target[:, :, -found.shape[2] :]).square().mean()


def config_of(settings: BackboneSettings, data: EncodedSet) -> DiTConfig:
    """The release's config at the size that is asked for, with the channels of the data.

    Raises:
        UserError: no such preset, or one that hears; or the data was encoded for another one.
    """
    if settings.preset not in RELEASES:
        raise UserError(f"preset={settings.preset}: must be one of {', '.join(RELEASES)}")
    config = RELEASES[settings.preset].dit
    if isinstance(config, AudioDiTConfig):
        raise UserError(f"preset={settings.preset}: hears, and the encoded clips have no sound")
    encoded = data.settings["preset"]
    if RELEASES[encoded].template != RELEASES[settings.preset].template:
        raise UserError(f"preset={settings.preset}: data={settings.data} has the text of {encoded}")
    channels, text, pooled = data.sizes
    given = {"in_channels": channels, "out_channels": channels, "text_dim": text, "pooled_dim": pooled}
    return replace(config, **SIZES[settings.size] | given)


def make_net(settings: BackboneSettings, config: DiTConfig) -> DiT | LowRank:
    """A new net, or factors beside a trained one.

    Raises:
        UserError: settings that contradict each other, or a base that is another net.
    """
    if not settings.rank:
        if settings.base is not None:
            raise UserError(
                f"base={settings.base}: is what a LoRA changes, give a rank; a run goes on from start="
            )
        net = DiT(config)
        net.recompute = settings.recompute
        return net
    if settings.base is None or settings.start is not None or settings.unfreeze_every:
        raise UserError(
            f"rank={settings.rank}: a LoRA needs base=, the weights it changes, no start= and no unfreezing"
        )
    loaded = weights.load(settings.base).module().float()
    if type(loaded) is not DiT or loaded.config.text_dim != config.text_dim:
        raise UserError(f"base={settings.base}: is no DiT for text of {config.text_dim} channels")
    loaded.train()
    loaded.recompute = settings.recompute
    return LowRank(LowRankConfig(layers=settings.layers, rank=settings.rank, alpha=settings.alpha), loaded)


def velocity_loss(
    settings: BackboneSettings, config: DiTConfig, open_up: Unfreezing | None
) -> Callable[[nn.Module, Batch, torch.Generator], Losses]:
    """The error at random times; what trains at a step is opened before it."""

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        if open_up is not None:
            open_up(int(batch["step"]))
        clean = batch["latents"]
        time = flow.training_times(len(clean), generator, settings.shift, reverse=True)
        noise = torch.randn(clean.shape, generator=generator)
        last = torch.rand(len(clean), generator=generator) < settings.last_share
        device = next(net.parameters()).device
        batch = {name: value.to(device) for name, value in batch.items()}
        drawn = (noise.to(device), time.to(device), last.to(device))
        return {"loss": velocity_error(net, config, batch, *drawn, settings.guidance)}

    return loss


def held_out_probe(
    settings: BackboneSettings, config: DiTConfig, data: EncodedSet
) -> Callable[[nn.Module], dict[str, float]] | None:
    """Measures the error on clips of the validation split at fixed times; None where there are none."""
    places = chosen(data.places("validation"), settings.durations, settings.scales)
    batches = samples_of_each(data, places, settings.tokens)
    if not batches:
        return None

    def probe(net: nn.Module) -> dict[str, float]:
        device, errors = next(net.parameters()).device, []
        for given in batches:
            batch = {name: value.to(device) for name, value in given.items()}
            count = len(batch["latents"])
            noise = flow.noise(tuple(batch["latents"].shape), 0).to(device)
            last = torch.zeros(count, dtype=torch.bool, device=device)
            for t in TIMES:
                time = torch.full((count,), t, device=device)
                errors.append(velocity_error(net, config, batch, noise, time, last, settings.guidance).item())
        return {"held_out": round(sum(errors) / len(errors), 5)}

    return probe


def main(words: list[str], recipe: str = __file__) -> list[float]:
    """Train with the settings of a recipe's YAML changed by `words`, of which the first may name the recipe;
    returns the losses."""
    recipe, words = recipe_of(words, recipe)
    settings = read_settings(BackboneSettings, recipe, words)
    torch.manual_seed(settings.seed)
    data = EncodedSet(settings.data)
    config = config_of(settings, data)
    net = make_net(settings, config)
    read = EncodedReader(data, settings, settings.text_dropout)
    open_up = None
    if isinstance(net, LowRank):
        config = net.net.config  # type: ignore[assignment]
    else:
        open_up = Unfreezing(net, settings.unfreeze_every, settings.unfreeze_blocks)
    probe = held_out_probe(settings, config, data)
    losses = train(net, read, velocity_loss(settings, config, open_up), settings, probe)
    if isinstance(net, LowRank):
        factors = load_file(settings.out / "model.safetensors")
        factors = {name.removeprefix("net."): value for name, value in factors.items()}
        save_lora(named(factors), settings.alpha, settings.out / "lora.safetensors")
    return losses


if __name__ == "__main__":
    run(main)
