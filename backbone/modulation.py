"""adaLN modulation: vectors made from the condition shift, scale and gate tokens.

Shape legend: B batch, N tokens, D hidden channels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.attention import norm_modulate
from avatar.backbone.linear import bare, gated_linear


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

    def norm(self, x: Tensor, place: int) -> Tensor:
        """norm(x) (1 + scale) + shift, (B, N, D)."""
        return self._each(lambda m, part: norm_modulate(part, m[3 * place], m[3 * place + 1]), x)

    def add(self, x: Tensor, y: Tensor, place: int) -> Tensor:
        """x + gate y, (B, N, D)."""
        return self._each(lambda m, x, y: torch.addcmul(x, m[3 * place + 2][:, None], y), x, y)

    def add_linear(self, x: Tensor, layer: nn.Linear, parts: Sequence[Tensor], place: int) -> Tensor:
        """x + gate layer(parts joined by channels), (B, N, D)."""
        if len(self.runs) > 1 or not bare(layer, parts[0]):
            return self.add(x, layer(parts[0] if len(parts) == 1 else torch.cat(tuple(parts), dim=-1)), place)
        return gated_linear(x, self.runs[0][3 * place + 2], parts, layer.weight, layer.bias)

    def _each(self, change: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """`change` with the vectors of each part of the sequence and that part of the inputs."""
        if len(self.runs) == 1:
            return change(self.runs[0], *inputs)
        sizes = [self.first_tokens, inputs[0].shape[1] - self.first_tokens]
        parts = zip(*(x.split(sizes, dim=1) for x in inputs), strict=True)
        return torch.cat([change(m, *part) for m, part in zip(self.runs, parts, strict=True)], dim=1)
