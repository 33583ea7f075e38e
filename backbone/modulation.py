"""adaLN modulation: vectors made from the condition shift, scale and gate tokens.

Shape legend: B batch, N tokens, D hidden channels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.attention import modulate

_Change = Callable[[Tensor, tuple[Tensor, ...]], Tensor]


class FirstFrame(NamedTuple):
    """A condition vector (B, D) of its own for the first `tokens` of the sequence, those of a clean frame."""

    vector: Tensor
    tokens: int


class Modulation(nn.Module):
    """Condition vector (B, D) to `count` vectors (B, D); zero at the start: every block is the identity."""

    def __init__(self, hidden: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.linear = nn.Linear(hidden, count * hidden)

    def forward(self, vector: Tensor, first: FirstFrame | None = None) -> "Modulated":
        """Shifts, scales and gates, in triples of this order, of all tokens and of the first frame's."""
        runs = [self.linear(F.silu(vector)).chunk(self.count, dim=-1)]
        if first is None:
            return Modulated(runs, 0)
        return Modulated([self.linear(F.silu(first.vector)).chunk(self.count, dim=-1), *runs], first.tokens)


class Modulated:
    """What one `Modulation` gave for one evaluation; `place` counts its triples (attention 0, MLP 1)."""

    def __init__(self, runs: list[tuple[Tensor, ...]], first_tokens: int) -> None:
        self.runs, self.first_tokens = runs, first_tokens

    def shift(self, x: Tensor, place: int) -> Tensor:
        """x (1 + scale) + shift, (B, N, D)."""
        return self._each(x, lambda part, m: modulate(part, m[3 * place], m[3 * place + 1]))

    def gate(self, x: Tensor, place: int) -> Tensor:
        """gate x, (B, N, D)."""
        return self._each(x, lambda part, m: m[3 * place + 2][:, None] * part)

    def _each(self, x: Tensor, change: _Change) -> Tensor:
        if len(self.runs) == 1:
            return change(x, self.runs[0])
        parts = x.split([self.first_tokens, x.shape[1] - self.first_tokens], dim=1)
        return torch.cat([change(part, m) for part, m in zip(parts, self.runs, strict=True)], dim=1)
