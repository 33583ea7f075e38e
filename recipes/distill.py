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

from collections.abc import Callable
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
    if not isinstance(net, DiT):
        raise UserError(f"teacher={path}: is no DiT")
    return net.requires_grad_(False)


def main(words: list[str]) -> list[float]:
    """Distil with the settings of distill.yaml changed by `words`; returns the losses."""
    settings = read_settings(DistillSettings, __file__, words)
    torch.manual_seed(settings.seed)
    ladder = Ladder(settings.student_steps, settings.teacher_steps, settings.shift, reverse=True)
    data, teacher = EncodedSet(settings.data), load_teacher(settings.teacher)
    config, low, high = teacher.config, *settings.guidance
    if not config.guidance_embed and (low != high or settings.guided_by == "embedded"):
        raise UserError(f"teacher={settings.teacher}: knows no scale; give guided_by=cfg guidance=[s, s]")
    student = DiT(config)
    student.load_state_dict(teacher.state_dict())
    student.recompute = settings.recompute
    read = EncodedReader(data, settings)
    silence = data.texts([0])

    def ask(batch: Batch, scale: Tensor, last: Tensor) -> Asked:
        nothing = {name: value.to(scale.device) for name, value in silence.items()}
        return Asked(batch, nothing, tell(config, batch["latents"], last), scale)

    def by_teacher(asked: Asked) -> Field:
        net = teacher.to(asked.scale.device)
        return asked.guided(net) if settings.guided_by == "cfg" else asked.alone(net, asked.scale)

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        clean = batch["latents"]
        device, count = next(net.parameters()).device, len(clean)
        times = ladder.draw(count, generator).to(device)
        noise = torch.randn(clean.shape, generator=generator).to(device)
        scale = (low + (high - low) * torch.rand(count, generator=generator)).to(device)
        last = (torch.rand(count, generator=generator) < settings.last_share).to(device)
        batch = {name: value.to(device) for name, value in batch.items()}
        asked = ask(batch, scale, last)
        x = flow.interpolate(noise, batch["latents"], times[:, 0], reverse=True)
        target = line(x, walk(by_teacher(asked), x, times), times)
        found = asked.alone(net, scale)(x, times[:, 0])
        given = 0 if asked.told.first is None else 1
        return {"loss": (found - target)[:, :, given:].square().mean()}

    probe: Callable[[nn.Module], dict[str, float]] | None = None
    places = chosen(data.places("validation"), settings.durations, settings.scales)
    tests = samples_of_each(data, places, settings.tokens)
    if tests:

        def look(net: nn.Module) -> dict[str, float]:
            apart = {"student": 0.0, "teacher": 0.0}
            for given in tests:
                device, count = next(net.parameters()).device, len(given["latents"])
                batch = {name: value.to(device) for name, value in given.items()}
                scale = torch.full((count,), (low + high) / 2, device=device)
                asked = ask(batch, scale, torch.zeros(count, dtype=torch.bool, device=device))
                noise = flow.noise(tuple(batch["latents"].shape), settings.seed).to(device)
                found = gained(asked.alone(net, scale), by_teacher(asked), noise, ladder)
                apart = {name: apart[name] + value.item() for name, value in found.items()}
            return {"held_out": round(apart["student"] / apart["teacher"], 4)}

        probe = look
    return train(student, read, loss, settings, probe)


if __name__ == "__main__":
    run(main)
