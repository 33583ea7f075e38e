"""Fewer steps: one step of a student ends where several steps of its teacher end.

This is progressive distillation (Salimans and Ho 2022) with any number of the teacher's steps to one: the
student's sampler has few times, each step is cut into several of the teacher's, and the student learns the
straight line from where the teacher starts to where it arrives.
Shape legend: B samples, C T h w latents, k steps of the teacher to one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from avatar.backbone import flow
from avatar.errors import UserError

Field = Callable[[Tensor, Tensor], Tensor]
"""Velocity of latents (B, C, T, h, w) at times (B,)."""


@dataclass(frozen=True)
class Ladder:
    """The steps of a student, each cut into those of its teacher.

    Args:
        student: steps from noise to data.
        teacher: the same, a multiple.
        shift, reverse: as `avatar.backbone.flow.schedule`.

    Raises:
        UserError: no multiple.
    """

    student: int
    teacher: int
    shift: float = 1.0
    reverse: bool = False

    def __post_init__(self) -> None:
        if self.teacher % self.student:
            raise UserError(
                f"teacher_steps={self.teacher}: must be a multiple of student_steps={self.student}"
            )

    @property
    def times(self) -> Tensor:
        """(student, k + 1), the teacher's times within each step of the student."""
        each = self.teacher // self.student
        return flow.schedule(self.teacher, self.shift, self.reverse).unfold(0, each + 1, each)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """A random step for each of `count` samples, (count, k + 1)."""
        return self.times[torch.randint(self.student, (count,), generator=generator)]


@torch.no_grad()
def walk(field: Field, x: Tensor, times: Tensor) -> Tensor:
    """Follow a field from `x` at times[:, 0] (B, k + 1) to times[:, -1] in straight steps."""
    for now, after in pairwise(times.unbind(1)):
        x = x + wide(after - now) * field(x, now).float()
    return x


def line(x: Tensor, end: Tensor, times: Tensor) -> Tensor:
    """The velocity that leads straight from `x` at times[:, 0] to `end` at times[:, -1]."""
    return (end - x) / wide(times[:, -1] - times[:, 0])


def gained(student: Field, teacher: Field, noise: Tensor, ladder: Ladder) -> dict[str, Tensor]:
    """Mean square distances from where the teacher arrives by all of its steps: of the student's few steps,
    and of as few steps of the teacher."""
    steps = ladder.times.to(noise.device)
    many = torch.cat([steps[:, :-1].flatten(), steps[-1:, -1]]).expand(len(noise), -1)
    few = torch.cat([steps[:, 0], steps[-1:, -1]]).expand(len(noise), -1)
    end = walk(teacher, noise, many)
    return {
        "student": (walk(student, noise, few) - end).square().mean(),
        "teacher": (walk(teacher, noise, few) - end).square().mean(),
    }


def wide(values: Tensor) -> Tensor:
    """(B,) as (B, 1, 1, 1, 1)."""
    return values[:, None, None, None, None]
