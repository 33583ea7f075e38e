"""RMS norm and rotation of queries and keys, in float32, of little memory forth and back.

On a CPU they go in runs of tokens that stay in the cache in float32: ten times faster than all at once.

Shape legend: B batch, N tokens, A heads, D channels of a head.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from avatar.backbone.attention import EPS, Rotation
from avatar.backbone.threads import share

RUN = 256  # tokens of a run

Heads = tuple[Tensor, Tensor, Rotation | None]
"""Queries or keys (B, N, A, D), the weight of their norm, and their rotation, if any."""


def norm_rope(parts: Sequence[Heads]) -> Tensor:
    """RMS norm and rotation of the parts of a sequence, joined; computed in float32, returned as given."""
    return _NormRope.apply(*chain(*parts))


class _NormRope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        ctx.save_for_backward(*inputs)
        first, parts = inputs[0], list(zip(*[iter(inputs)] * 3, strict=True))
        out = first.new_empty(len(first), sum(x.shape[1] for x, _, _ in parts), *first.shape[2:])
        for (x, weight, rotation), there in zip(parts, _split(out, parts), strict=True):
            _norm_rope_into(there, x, weight.float(), rotation)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        """Only the inputs are kept: the norm is computed again."""
        parts = list(zip(*[iter(ctx.saved_tensors)] * 3, strict=True))
        found: list[Tensor | None] = []
        for (x, weight, rotation), grad in zip(parts, _split(grads[0], parts), strict=True):
            dx, dw = _norm_rope_grad(grad, x, weight.float(), rotation)
            found += [dx, dw.to(weight.dtype), None]
        return tuple(found)


def _split(joined: Tensor, parts: Sequence[Heads]) -> Sequence[Tensor]:
    return joined.split([x.shape[1] for x, _, _ in parts], dim=1)


def _norm_rope_into(out: Tensor, x: Tensor, weight: Tensor, rotation: Rotation | None) -> None:
    def norm(tokens: slice) -> None:
        run = x[:, tokens].to(torch.float32, copy=True)
        run *= torch.rsqrt(run.square().mean(-1, keepdim=True) + EPS)
        run *= weight
        if rotation is not None:
            torch.view_as_complex(run.unflatten(-1, (-1, 2))).mul_(rotation[tokens, None])
        out[:, tokens] = run

    share(norm, _runs(x))


def _norm_rope_grad(
    grad: Tensor, x: Tensor, weight: Tensor, rotation: Rotation | None
) -> tuple[Tensor, Tensor]:
    """With n = x / rms(x) and g the gradient turned back: dw = sum g n,
    dx = (g w - n mean(g w n)) / rms(x)."""
    runs = _runs(x)
    dx = torch.empty_like(x, memory_format=torch.contiguous_format)
    sums = weight.new_empty(len(runs), len(weight))

    def norm(i: int) -> None:
        # Plain products give gradients of any layout, and pairs must lie side by side.
        run, back = (
            y[:, runs[i]].to(torch.float32, copy=True, memory_format=torch.contiguous_format)
            for y in (x, grad)
        )
        if rotation is not None:
            torch.view_as_complex(back.unflatten(-1, (-1, 2))).mul_(rotation[runs[i], None].conj())
        factor = torch.rsqrt(run.square().mean(-1, keepdim=True) + EPS)
        run *= factor
        sums[i] = (back * run).sum((0, 1, 2))
        back *= weight
        back -= run * (back * run).mean(-1, keepdim=True)
        dx[:, runs[i]] = back.mul_(factor)

    share(norm, range(len(runs)))
    return dx, sums.sum(0)


def _runs(x: Tensor) -> list[slice]:
    """Tokens that are normed at a time."""
    step = RUN if x.device.type == "cpu" else x.shape[1]
    return [slice(i, i + step) for i in range(0, x.shape[1], step)]
