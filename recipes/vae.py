"""Train the VAE. `python -m avatar.recipes.vae NAME key=value ...`, where NAME.yaml has the settings.

The loss is that of section 1.1 of the design: L1 on pixels, the perceptual distance of frames
(`avatar.recipes.perceptual`), an adversary (`avatar.recipes.discriminator`) and the divergence of the
posterior from a normal law, each a mean; and beside them, where asked for, the L1 of the pictures' gradients.
A term with the weight 0 is not computed.

Frames are squares cut at random, with a frame stride drawn at random, so that fast motion is seen. Size and
length may grow on the way, and in a share of the steps the net works in tiles, as it does on large clips.
Out: the run folder; with an adversary model.safetensors has both, and vae.safetensors is the VAE alone.
Shape legend: B clips, T frames, H height, W width.
"""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.backbone.checkpoint import fill, save
from avatar.backbone.tiling import Tiling
from avatar.backbone.vae import CausalVAE, Posterior
from avatar.errors import UserError
from avatar.presets import PRESETS
from avatar.recipes.captioned import Captioned, read_captioned
from avatar.recipes.discriminator import Contest, DiscriminatorConfig, vae_tensors
from avatar.recipes.perceptual import Perceptual, read_weights
from avatar.recipes.settings import Settings, read_settings, recipe_of, run
from avatar.recipes.training import Batch, Losses, train
from avatar.render import pixels

STILLS = 4  # single frames of a step in the place of a clip
PROBE = 256  # px, side of the held-out squares


class VAESettings(Settings):
    """See vae.yaml, and vae_hunyuan.yaml for what has a default here.

    Attributes:
        curriculum: (step, frames, crop): from that step on these hold, before the first `frames` and `crop`.
        adversarial_from: step from which the VAE is told what the adversary says.
        discriminator: channels of the adversary's first layer.
        perceptual: files of weights, or `stlpips`; see `avatar.recipes.perceptual.read_weights`.
        perceptual_frames: of each clip that are compared, at random.
        trained: `decoder` holds all that makes latents.
        tiled_share: share of the steps in tiles of `tile` px and `tile_frames` frames, a quarter shared.
    """

    preset: str
    crop: int
    images: float
    gradient_weight: float
    held_out: PositiveInt
    frames: PositiveInt = 17
    strides: tuple[PositiveInt, ...] = (1, 1, 2, 4)
    curriculum: tuple[tuple[NonNegativeInt, PositiveInt, PositiveInt], ...] = ()
    perceptual: tuple[str, ...] = ()
    perceptual_weight: float = 0.0
    perceptual_frames: PositiveInt = 4
    adversarial_weight: float = 0.0
    adversarial_from: NonNegativeInt = 0
    discriminator: PositiveInt = 64
    kl_weight: float = 0.0
    trained: Literal["all", "decoder"] = "all"
    tiled_share: float = 0.0
    tile: PositiveInt = 256
    tile_frames: PositiveInt = 16


class ClipReader:
    """Random squares of random clips; a step always gets the same ones."""

    def __init__(self, settings: VAESettings) -> None:
        self.settings = settings
        films = read_captioned(settings.data, more_than=settings.held_out)
        self.held_out, self.films = films[: settings.held_out], films[settings.held_out :]
        self.parts = settings.accumulate * int(os.environ.get("WORLD_SIZE", "1"))

    def stage(self, step: int) -> tuple[int, int]:
        """Frames and side of the squares at a step."""
        begun = [stage for stage in self.settings.curriculum if stage[0] <= step]
        return max(begun)[1:] if begun else (self.settings.frames, self.settings.crop)

    def __call__(self, part: int) -> Batch:
        rng = np.random.default_rng((self.settings.seed, part))
        step = part // self.parts
        frames, crop = self.stage(step)
        single = rng.uniform() < self.settings.images
        stride = 1 if single else int(rng.choice(self.settings.strides))
        count = 1 if single else self.fits(frames, stride)
        each = STILLS if single else (frames - 1) // max(1, count - 1)
        films = [film for film in self.films if film.shape[0] > stride * (count - 1)]
        chosen = rng.choice(len(films), self.settings.batch * max(1, each))
        squares = [self.square(films[i], rng, count, stride, crop) for i in chosen]
        return {"x": torch.cat(squares), "step": torch.tensor(step)}

    def fits(self, frames: int, stride: int) -> int:
        """The most frames, 4n + 1 and not more than `frames`, that a film has at a stride."""
        longest = max(film.shape[0] for film in self.films)
        return min(frames, (longest - 1) // stride // 4 * 4 + 1)

    def square(self, film: Captioned, rng: np.random.Generator, count: int, stride: int, crop: int) -> Tensor:
        """One square (1, 3, count, crop, crop) of a clip, every `stride`-th frame from a random one on."""
        total, *sides = film.shape
        if crop > min(sides):
            raise UserError(f"crop={crop}: {film.path} has {sides[1]} x {sides[0]} px")
        y, x = (int(rng.integers(0, side - crop + 1)) for side in sides)
        room = total - 1 - stride * (count - 1)
        start = int(rng.integers(room + 1)) if room else 0
        cut = film.frames(start, count, stride)[:, y : y + crop, x : x + crop]
        if rng.uniform() < 0.5:
            cut = cut[:, :, ::-1]
        return pixels(np.ascontiguousarray(cut))


def code(
    vae: CausalVAE, x: Tensor, generator: torch.Generator, tiled: bool, held: bool
) -> tuple[Tensor, Posterior | None]:
    """Clips (B, 3, T, H, W) made of their latents, and the posterior of these where it is trained.

    Args:
        held: latents are the mean, and what makes them gets no gradient.
    """
    with torch.set_grad_enabled(torch.is_grad_enabled() and not held):
        if tiled:
            z, posterior = vae.encode_tiled(x), None
        else:
            posterior = vae.posterior(x)
            z = (posterior.mean if held else posterior.sample(generator)) * vae.config.scaling_factor
    made = vae.decode_tiled(z) if tiled else vae.decode(z)
    return made, None if held else posterior


def divergence(posterior: Posterior) -> Tensor:
    """Mean over the numbers of the latents of what they tell beyond a standard normal law."""
    assert posterior.logvar is not None
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


class ReconstructionLoss:
    """The terms that the settings give a weight."""

    def __init__(self, settings: VAESettings, perceptual: Perceptual | None) -> None:
        self.settings, self.perceptual = settings, perceptual

    def __call__(self, model: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        settings, vae = self.settings, model
        assert isinstance(vae, CausalVAE)
        x = batch["x"].to(next(vae.parameters()).device)
        tiled = bool(torch.rand((), generator=generator) < settings.tiled_share)
        made, posterior = code(vae, x, generator, tiled, settings.trained == "decoder")
        error = made.float() - x
        pixel = error.abs().mean()
        found = {"l1": pixel, "psnr": -10 * torch.log10(error.square().mean() / 4)}
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        loss = pixel + settings.gradient_weight * edges
        if self.perceptual is not None:
            found["perceptual"] = self.distance(x, made, generator)
            loss = loss + settings.perceptual_weight * found["perceptual"]
        if isinstance(vae, Contest):
            found["adversarial"], found["discriminator"] = vae.losses(x, made)
            told = float(batch["step"] >= settings.adversarial_from)
            # The adversary's own loss has the same weight: AdamW does not see it, but the clipped gradient
            # would.
            loss = loss + settings.adversarial_weight * (told * found["adversarial"] + found["discriminator"])
        if settings.kl_weight:
            found["kl"] = pixel.new_zeros(()) if posterior is None else divergence(posterior)
            loss = loss + settings.kl_weight * found["kl"]
        return {"loss": loss, **found}

    def distance(self, x: Tensor, made: Tensor, generator: torch.Generator) -> Tensor:
        """Perceptual distance of some frames of each clip."""
        assert self.perceptual is not None
        count = min(self.settings.perceptual_frames, x.shape[2])
        some = torch.randperm(x.shape[2], generator=generator)[:count].to(x.device)
        one, other = (clip.float().index_select(2, some).transpose(1, 2).flatten(0, 1) for clip in (made, x))
        return self.perceptual.to(x.device)(one, other).mean()


def make_net(settings: VAESettings, read: ClipReader) -> CausalVAE:
    """The VAE, with its adversary where it has a weight.

    Raises:
        UserError: settings that ask for what the preset's VAE has not, or contradict each other.
    """
    config, adversary = PRESETS[settings.preset].vae, DiscriminatorConfig(width=settings.discriminator)
    vae = Contest(config, adversary) if settings.adversarial_weight else CausalVAE(config)
    if settings.kl_weight and not vae.config.stochastic:
        raise UserError(f"kl_weight: the VAE of the preset {settings.preset} has no posterior, only a mean")
    if bool(settings.perceptual) != bool(settings.perceptual_weight):
        raise UserError("perceptual, perceptual_weight: each needs the other; give both or none")
    if settings.tiled_share:
        tile, frames = settings.tile, settings.tile_frames
        if tile % 32 or frames % 16:
            raise UserError(f"tile={tile}, tile_frames={frames}: must be multiples of 32 px and of 16 frames")
        vae.tiling = Tiling(size=tile, stride=tile * 3 // 4, frames=frames, frame_stride=frames * 3 // 4)
    if vae.config.linear_shortcut and settings.start is None:
        rng = np.random.default_rng(settings.seed)
        some = rng.choice(len(read.films), min(120, len(read.films)), replace=False)
        count = read.fits(settings.frames, 1)
        squares = [read.square(read.films[i], rng, count, 1, settings.crop) for i in some]
        vae.init_linear_shortcut(torch.cat([vae.blocks(square) for square in squares]))
    if settings.trained == "decoder":
        for name, module in vae.named_children():
            if name in ("encoder", "quant_conv", "shortcut_in"):
                module.requires_grad_(False)
    return vae


def main(words: list[str], recipe: str = __file__) -> list[float]:
    """Train with the settings of a recipe's YAML changed by `words`, of which the first may name the recipe;
    returns the losses."""
    recipe, words = recipe_of(words, recipe)
    settings = read_settings(VAESettings, recipe, words)
    torch.manual_seed(settings.seed)
    read = ClipReader(settings)
    model = make_net(settings, read)
    perceptual = Perceptual(read_weights(settings.perceptual)) if settings.perceptual else None
    side = min(PROBE, *(side for film in read.held_out for side in film.shape[1:]))
    test = []
    for film in read.held_out:
        count = min(settings.frames, (film.shape[0] - 1) // 4 * 4 + 1)
        test.append(read.square(film, np.random.default_rng(0), count, 1, side))

    def probe(net: nn.Module) -> dict[str, float]:
        errors = [(net(x).float() - x).square().mean().item() for x in test]
        return {"held_out_psnr": round(float(np.mean([-10 * np.log10(e / 4) for e in errors])), 3)}

    losses = train(model, read, ReconstructionLoss(settings, perceptual), settings, probe)
    if isinstance(model, Contest):
        averaged = vae_tensors(load_file(settings.out / "model.safetensors"))
        save(fill(CausalVAE, model.config, averaged, "the run"), settings.out / "vae.safetensors")
    return losses


if __name__ == "__main__":
    run(main)
