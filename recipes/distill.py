"""Distil a HunyuanVideo DiT: many steps of a teacher, with two evaluations each where it is guided, in few
steps with one. Settings in distill.yaml; `python -m avatar.recipes.distill key=value ...`.

The student begins as its teacher and learns where the teacher arrives (`avatar.recipes.distillation`). A
teacher that is guided by `cfg` is asked twice, with the text and without it; the scale is drawn for every
clip, and the student is told it (Meng et al. 2023). One that is guided by `embedded` knows the scale already,
and both are told it. As many steps of the teacher as of the student distil the guidance alone. The log has on
the validation clips how far from the teacher's many steps the student arrives, relative to as few steps of
the teacher (`held_out`): below 1 something is gained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from avatar import weights
from avatar.backbone import flow
from avatar.backbone.dit import DiT
from avatar.errors import UserError
from avatar.recipes.backbone import Told, predict, tell
from avatar.recipes.distillation import Field, Ladder, gained, line, walk
from avatar.recipes.encoded import EncodedReader, EncodedSet, StageSettings, chosen, samples_of_each
from avatar.recipes.settings import read_settings, run
from avatar.recipes.training import Batch, Losses, train

UNGUIDED = 1.0  # what a net with an embedded scale is told where guidance comes from outside


class DistillSettings(StageSettings):
    """See distill.yaml."""

    teacher: Path
    teacher_steps: PositiveInt
    student_steps: PositiveInt
    shift: float
    guided_by: Literal["cfg", "embedded"]
    guidance: tuple[float, float]
    last_share: float = 0.25
    recompute: bool = False


class Asked:
    """What nets are asked of a batch: velocities, with and without guidance.

    Args:
        silence: the text that says nothing, of one sample.
        scale: (B,), of the guidance.
    """

    def __init__(self, batch: Batch, silence: Batch, told: Told, scale: Tensor) -> None:
        self.batch, self.told, self.scale = batch, told, scale
        count = len(scale)
        self.silent = {name: value.expand(count, *value.shape[1:]) for name, value in silence.items()}

    def alone(self, net: nn.Module, scale: Tensor, batch: Batch | None = None) -> Field:
        """One evaluation of a net that is told a scale where it knows one."""
        own = scale if net.config.guidance_embed else None  # type: ignore[union-attr]

        def field(x: Tensor, time: Tensor) -> Tensor:
            found = predict(net, x, time, self.told, batch or self.batch, own)
            return found if self.told.first is None else torch.cat([torch.zeros_like(x[:, :, :1]), found], 2)

        return field

    def guided(self, net: nn.Module) -> Field:
        """Two evaluations, with the text and without it."""
        plain = torch.full_like(self.scale, UNGUIDED)
        with_text, without = self.alone(net, plain), self.alone(net, plain, self.silent)

        def field(x: Tensor, time: Tensor) -> Tensor:
            other = without(x, time)
            return other + self.scale[:, None, None, None, None] * (with_text(x, time) - other)

        return field


def load_teacher(path: Path) -> DiT:
    """A trained net, in any layout that `avatar weights` knows."""
    net = weights.load(path).module().float()
    if type(net) is not DiT:
        raise UserError(f"teacher={path}: is no DiT")
    return net.requires_grad_(False)


class Distillation:
    """The loss of a student, and how near it comes on clips that are held out.

    Raises:
        UserError: a teacher that knows no scale and is to be told one.
    """

    def __init__(self, settings: DistillSettings, teacher: DiT, data: EncodedSet) -> None:
        self.settings, self.teacher = settings, teacher
        self.ladder = Ladder(settings.student_steps, settings.teacher_steps, settings.shift, reverse=True)
        self.silence = data.texts([0])
        places = chosen(data.places("validation"), settings.durations, settings.scales)
        self.tests = samples_of_each(data, places, settings.tokens)
        low, high = settings.guidance
        if not teacher.config.guidance_embed and (low != high or settings.guided_by == "embedded"):
            raise UserError(f"teacher={settings.teacher}: knows no scale; give guided_by=cfg guidance=[s, s]")

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        clean, (low, high) = batch["latents"], self.settings.guidance
        device, count = next(net.parameters()).device, len(clean)
        times = self.ladder.draw(count, generator).to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        scale = low + (high - low) * torch.rand(count, generator=generator)
        last = torch.rand(count, generator=generator) < self.settings.last_share
        asked = self.ask(batch, scale, last, device)
        x = flow.interpolate(noise, asked.batch["latents"], times[:, 0], reverse=True)
        target = line(x, walk(self.by_teacher(asked), x, times), times)
        found = asked.alone(net, asked.scale)(x, times[:, 0])
        given = 0 if asked.told.first is None else 1
        return {"loss": (found - target)[:, :, given:].square().mean()}

    def ask(self, batch: Batch, scale: Tensor, last: Tensor, device: torch.device) -> Asked:
        """What is asked of a batch at scales (B,); `last` (B,) says whose last frame is given."""
        batch, silence = (
            {name: value.to(device) for name, value in part.items()} for part in (batch, self.silence)
        )
        told = tell(self.teacher.config, batch["latents"], last.to(device))
        return Asked(batch, silence, told, scale.to(device))

    def by_teacher(self, asked: Asked) -> Field:
        """The teacher's velocity, guided."""
        net = self.teacher.to(asked.scale.device)
        return asked.guided(net) if self.settings.guided_by == "cfg" else asked.alone(net, asked.scale)

    def probe(self, net: nn.Module) -> dict[str, float]:
        """Distance of the student from the teacher's end, relative to that of as few steps of the teacher."""
        apart = {"student": 0.0, "teacher": 0.0}
        device, middle = next(net.parameters()).device, sum(self.settings.guidance) / 2
        for batch in self.tests:
            count = len(batch["latents"])
            none = torch.zeros(count, dtype=torch.bool)
            asked = self.ask(batch, torch.full((count,), middle), none, device)
            noise = flow.noise(tuple(batch["latents"].shape), self.settings.seed).to(device)
            field = asked.alone(net, asked.scale)
            found = gained(field, self.by_teacher(asked), noise, self.ladder)
            apart = {name: apart[name] + value.item() for name, value in found.items()}
        return {"held_out": round(apart["student"] / apart["teacher"], 4)}


def main(words: list[str]) -> list[float]:
    """Distil with the settings of distill.yaml changed by `words`; returns the losses."""
    settings = read_settings(DistillSettings, __file__, words)
    torch.manual_seed(settings.seed)
    data, teacher = EncodedSet(settings.data), load_teacher(settings.teacher)
    student = DiT(teacher.config)
    student.load_state_dict(teacher.state_dict())
    student.recompute = settings.recompute
    task = Distillation(settings, teacher, data)
    read = EncodedReader(data, settings)
    return train(student, read, task, settings, task.probe if task.tests else None)


if __name__ == "__main__":
    run(main)
