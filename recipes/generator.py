"""Train the generator. Settings in generator.yaml; `python -m avatar.recipes.generator key=value ...`.

The net predicts clean latents (avatar.model), so the loss is the weighted square error of those. The
average over training times flatters, because late times already show the answer: the log therefore has the
error at t = 0 relative to that of the driven reference alone, everywhere (`zero`) and inside the mouth's
hole (`zero_hole`), where below 1 is learnt, and the response to every condition (avatar.probe), where 1 is
full obedience.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.backbone import flow
from avatar.backbone.checkpoint import load
from avatar.backbone.vae import CausalVAE
from avatar.errors import UserError
from avatar.model import Conditions, Generator, Strengths
from avatar.presets import PRESETS
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.shards import seeds
from avatar.recipes.sitters import SitterProbe
from avatar.recipes.training import Batch, Losses, train


class LatentSettings(Settings):
    """How encoded clips are read, what is withheld of them and where errors count."""

    face_weight: float
    hole_weight: float
    audio_dropout: float
    pose_dropout: float
    expression_dropout: float
    known_share: float
    held_out: PositiveInt


class GeneratorSettings(LatentSettings):
    """See generator.yaml."""

    preset: str
    zero_share: float
    vae: Path
    probe_people: NonNegativeInt


class LatentReader:
    """Random encoded clips; a step always gets the same ones."""

    def __init__(self, settings: LatentSettings) -> None:
        self.settings = settings
        known = seeds(settings.data, "latent")
        if len(known) <= settings.held_out:
            raise UserError(f"{settings.data}: {len(known)} clips, more than {settings.held_out} are needed")
        self.held_out, self.seeds = known[: settings.held_out], known[settings.held_out :]

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.settings.seed, step))
        return self.read(int(s) for s in rng.choice(self.seeds, self.settings.batch))

    def read(self, chosen: Iterable[int]) -> Batch:
        """Some clips."""
        samples = [load_file(self.settings.data / f"latent-{seed}.safetensors") for seed in chosen]
        return {key: torch.stack([s[key].float() for s in samples]) for key in samples[0]}


def conditions(batch: Batch, known: Tensor | None = None) -> Conditions:
    """What a batch says about its clips; `known` (B, T) is 1 for the latent frames that are given."""
    given = None
    if known is not None:
        mask = known[:, None, :, None, None].expand_as(batch["clean"][:, :1])
        given = torch.cat([batch["clean"] * mask, mask], 1)
    return Conditions(
        reference=batch["reference"],
        driven=batch["driven"],
        hole=batch["hole"],
        face=batch["face"][:, None],
        motion=batch["motion"],
        known=given,
        audio=batch["audio"],
        codes=batch["codes"],
        pose=batch["pose"],
    )


def pick_known(batch: Batch, share: float, generator: torch.Generator) -> Tensor:
    """(B, T), 1 for latent frames that are known beforehand: in a share of the clips the first one, in
    half of those the last one too."""
    count, frames = len(batch["clean"]), batch["clean"].shape[2]
    known = torch.zeros(count, frames)
    lot = torch.rand(count, generator=generator)
    known[lot < share, 0] = 1
    known[lot < share / 2, -1] = 1
    return known


def kept(where: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """Strengths (B, 1) of a signal: 0 where there is none, and for a random share of the others."""
    return where * (torch.rand(where.shape, generator=generator) >= dropout)


def unheard(batch: Batch, dropout: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """(B,), True for clips that do not speak and for a random share of those that do."""
    silent = batch["heard"][:, 0] == 0
    return silent | (torch.rand(len(silent), generator=generator) < dropout)


def weights(batch: Batch, settings: LatentSettings) -> Tensor:
    """Weight of each latent position, (B, 1, T, h, w)."""
    hole = batch["hole"].mean(1, keepdim=True)
    near = F.max_pool3d(hole, (1, 3, 3), stride=1, padding=(0, 1, 1))  # lips and teeth's edge too
    return 1 + settings.face_weight * batch["face"][:, None, None] + settings.hole_weight * near


def share(error: Tensor, still: Tensor, where: Tensor) -> Tensor:
    """Error relative to that of the driven reference over the positions `where` weighs."""
    return (error * where).sum() / (still * where).sum().clamp(min=1e-6)


class Task:
    """The loss of redrawing a driven reference, and what the log says of clips that are held out."""

    def __init__(self, settings: GeneratorSettings, test: Batch) -> None:
        self.settings, self.test = settings, test
        self.still = (test["driven"] - test["clean"]).square()
        self.hole = test["hole"].mean(1, keepdim=True)

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        settings, clean = self.settings, batch["clean"]
        time = flow.training_times(len(clean), generator, zero_share=settings.zero_share)
        noise = torch.randn(clean.shape, generator=generator)
        drop = unheard(batch, settings.audio_dropout, generator)
        x = flow.interpolate(noise, clean, time)
        strengths = Strengths(
            expression=kept(batch["seen"], settings.expression_dropout, generator),
            pose=kept(torch.ones_like(batch["seen"]), settings.pose_dropout, generator),
        )
        known = pick_known(batch, settings.known_share, generator)
        predicted = net(x, time, conditions(batch, known), strengths, drop).float()
        error = (predicted - clean).square()
        still = (batch["driven"] - clean).square()
        weight = weights(batch, settings)
        at_zero = (time == 0).float()[:, None, None, None, None]
        hole = batch["hole"].mean(1, keepdim=True)
        return {
            "loss": (weight * error).sum() / (weight.sum() * clean.shape[1]),
            "zero": share(error, still, at_zero),
            "zero_hole": share(error, still, at_zero * hole),
        }

    def error(self, net: nn.Module, strengths: Strengths, known: Tensor | None = None) -> Tensor:
        """Squared error of one step from noise on the held-out clips."""
        parts = []
        for i in range(0, len(self.hole), self.settings.batch):
            rows = slice(i, i + self.settings.batch)
            part = {key: value[rows] for key, value in self.test.items()}
            noise = torch.randn(part["clean"].shape, generator=torch.Generator().manual_seed(i))
            given = conditions(part, None if known is None else known[rows])
            own = Strengths(*(s[rows] if isinstance(s, Tensor) else s for s in strengths))
            parts.append(net(noise, torch.zeros(len(noise)), given, own, unheard(part)).float())
        return (torch.cat(parts) - self.test["clean"]).square()

    def probe(self, net: nn.Module) -> dict[str, float]:
        """Errors without, with one and with all of the signals, and next to frames that are known."""
        seen, ends = self.test["seen"], torch.zeros(len(self.hole), self.hole.shape[2])
        ends[:, [0, -1]] = 1
        everywhere = torch.ones_like(self.hole)
        error = self.error(net, Strengths(expression=0.0, pose=0.0))
        found = {
            "held_out": share(error, self.still, everywhere),
            "held_out_hole": share(error, self.still, self.hole),
            "held_out_pose": share(self.error(net, Strengths(expression=0.0)), self.still, everywhere),
            "held_out_expression": share(self.error(net, Strengths(1.0, seen, 0.0)), self.still, everywhere),
            "held_out_all": share(self.error(net, Strengths(1.0, seen)), self.still, everywhere),
        }
        error = self.error(net, Strengths(expression=0.0, pose=0.0), ends)
        within = 1 - ends[:, None, :, None, None]
        found["held_out_between"] = share(error, self.still, within * everywhere)
        found["held_out_known"] = share(error, self.still, (1 - within) * everywhere)
        return {name: value.item() for name, value in found.items()}


def main(words: list[str]) -> list[float]:
    """Train with the settings of generator.yaml changed by `words`; returns the losses."""
    settings = read_settings(GeneratorSettings, __file__, words)
    torch.manual_seed(settings.seed)
    preset = PRESETS[settings.preset]
    model = Generator(preset.generator)
    read = LatentReader(settings)
    task = Task(settings, read.read(read.held_out))
    people = SitterProbe(settings.probe_people, preset, load(CausalVAE, settings.vae))

    def probe(net: nn.Module) -> dict[str, float]:
        return task.probe(net) | people.respond(generator=net)

    def show(net: nn.Module, place: Path) -> dict[str, float]:
        return people.show(place, generator=net)

    return train(model, read, task, settings, probe, show)


if __name__ == "__main__":
    run(main)
