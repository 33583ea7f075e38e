"""Distil the generator of a preset: as many steps of a teacher as are wanted, in one or a few. Settings in
distill_mini.yaml; `python -m avatar.recipes.distill_mini key=value ...`.

The student begins as its teacher and learns where the teacher arrives (`avatar.recipes.distillation`), for
clips whose signals are withheld at random as in the generator's own training. The net says clean latents, so
the loss is the weighted square error of those that lie on the teacher's line. The log has on held-out clips
how far from the teacher's many steps the student arrives, relative to as few steps of the teacher
(`held_out`): below 1 something is gained.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from avatar.backbone import flow
from avatar.backbone.checkpoint import load
from avatar.model import Generator, Strengths
from avatar.recipes.distillation import Field, Ladder, gained, line, walk, wide
from avatar.recipes.generator import (
    LatentReader,
    LatentSettings,
    conditions,
    kept,
    pick_known,
    unheard,
    weights,
)
from avatar.recipes.settings import read_settings, run
from avatar.recipes.training import Batch, Losses, train


class DistillMiniSettings(LatentSettings):
    """See distill_mini.yaml."""

    teacher: Path
    teacher_steps: PositiveInt
    student_steps: PositiveInt


class Said:
    """What a batch says of its clips, some of it withheld."""

    def __init__(self, batch: Batch, strengths: Strengths, drop: Tensor, known: Tensor | None) -> None:
        self.given, self.strengths, self.drop = conditions(batch, known), strengths, drop

    def clean(self, net: nn.Module, x: Tensor, time: Tensor) -> Tensor:
        """Clean latents that a net sees in noisy ones at times (B,)."""
        return net(x, time, self.given, self.strengths, self.drop).float()

    def field(self, net: nn.Module) -> Field:
        """The velocity that leads to what the net sees."""
        return lambda x, time: flow.velocity_from_clean(x, self.clean(net, x, time), time)


def main(words: list[str]) -> list[float]:
    """Distil with the settings of distill_mini.yaml changed by `words`; returns the losses."""
    settings = read_settings(DistillMiniSettings, __file__, words)
    torch.manual_seed(settings.seed)
    ladder = Ladder(settings.student_steps, settings.teacher_steps)
    teacher = load(Generator, settings.teacher).requires_grad_(False)
    student = load(Generator, settings.teacher).train()
    read = LatentReader(settings)

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        clean = batch["clean"]
        times = ladder.draw(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator)
        strengths = Strengths(
            expression=kept(batch["seen"], settings.expression_dropout, generator),
            pose=kept(torch.ones_like(batch["seen"]), settings.pose_dropout, generator),
        )
        drop = unheard(batch, settings.audio_dropout, generator)
        said = Said(batch, strengths, drop, pick_known(batch, settings.known_share, generator))
        x = flow.interpolate(noise, clean, times[:, 0])
        target = x + wide(1 - times[:, 0]) * line(x, walk(said.field(teacher), x, times), times)
        weight = weights(batch, settings)
        error = (said.clean(net, x, times[:, 0]) - target).square()
        return {"loss": (weight * error).sum() / (weight.sum() * clean.shape[1])}

    test = read.read(read.held_out)
    noise = flow.noise(tuple(test["clean"].shape), settings.seed)

    def probe(net: nn.Module) -> dict[str, float]:
        found = []
        for i in range(0, settings.held_out, settings.batch):
            part = {name: value[i : i + settings.batch] for name, value in test.items()}
            said = Said(part, Strengths(1.0, part["seen"]), unheard(part), None)
            some = noise[i : i + settings.batch]
            found.append(gained(said.field(net), said.field(teacher), some, ladder))
        apart = {name: sum(one[name].item() for one in found) for name in found[0]}
        return {"held_out": round(apart["student"] / apart["teacher"], 4)}

    return train(student, read, loss, settings, probe)


if __name__ == "__main__":
    run(main)
