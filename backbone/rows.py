"""Attention in bfloat16 on a CPU, a block of queries at a time over all keys.

PyTorch's CPU kernel runs bfloat16 attention at less than half the rate of a matrix product on CPUs without
matrix tiles (AMX). Here both products of a block go through the matrix library whole, with the softmax
between, each thread with blocks of its own. Scores are rounded to bfloat16, which doubles the kernel's
rounding error (docs/performance.md).

Shape legend: B batch, N queries, M keys, A heads, D channels of a head, R rows of a block.
"""

import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from avatar.backbone.threads import share

ROWS = 256  # queries of a block: its scores of 4k keys, 2 MB, stay in the cache of each thread
LEAST = 1024  # keys; below, PyTorch's kernel has less to set up


def suits(q: Tensor, k: Tensor) -> bool:
    """Whether attention of these queries and keys is faster here than in PyTorch's kernel."""
    small = q.device.type != "cpu" or q.dtype != torch.bfloat16 or min(q.shape[1], k.shape[1]) < LEAST
    return not small and torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def row_attention(q: Tensor, k: Tensor, v: Tensor, known: Tensor | None = None) -> Tensor:
    """Attention of (B, N, A, D) over (B, M, A, D), same shape as the queries; it can be trained through.

    `known` is its result, where that was computed before and only gradients are wanted.
    """
    return _RowAttention.apply(q, k, v, known)


class _Scratch(threading.local):
    """A thread's memory for the scores of a block; new memory for each block costs as much as the softmax."""

    def __init__(self, keys: int, like: Tensor) -> None:
        self.scores, self.sums = like.new_empty(ROWS, keys), torch.empty(ROWS)


class _RowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, known: Tensor | None) -> Tensor:
        from avatar.backbone import half_kernels  # numba takes long to import

        ctx.save_for_backward(q, k, v)
        if known is not None:
            return known.detach()
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        keys, values = (x.transpose(1, 2).contiguous() for x in (k, v))
        scratch = _Scratch(k.shape[1], q)

        def attend(block: tuple[int, int, slice]) -> None:
            b, a, rows = block
            count = len(asked := q[b, rows, a])
            scores, sums = scratch.scores[:count], scratch.sums[:count]
            torch.mm(asked, keys[b, a].mT, out=scores)
            half_kernels.softmax_parts(half_kernels.bits(scores), q.shape[-1] ** -0.5, sums.numpy())
            torch.div(torch.mm(scores, values[b, a]), sums[:, None], out=out[b, rows, a])

        share(attend, [(b, a, rows) for b, a in _heads(q) for rows in _blocks(q)])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """With P the weights: dV = P' dO, dS = P (dP - sum dP P), dP = dO V', dQ = dS K, dK = dS' Q."""
        (q, k, v), grad = ctx.saved_tensors, grads[0]
        dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        scale = q.shape[-1] ** -0.5

        def attend(head: tuple[int, int]) -> None:
            b, a = head
            keys, values = k[b, :, a] * scale, v[b, :, a].contiguous()
            sums = torch.zeros(2, *keys.shape)  # of keys and values, over many blocks: in float32
            for rows in _blocks(q):
                ask, asked = q[b, rows, a].contiguous(), grad[b, rows, a].contiguous()
                weights = torch.softmax(torch.mm(ask, keys.mT), -1)
                sums[1] += torch.mm(weights.mT, asked)
                change = torch.mm(asked, values.mT)
                change = torch._softmax_backward_data(change, weights, -1, q.dtype)
                dq[b, rows, a] = torch.mm(change, keys)
                sums[0] += torch.mm(change.mT, ask)
            dk[b, :, a], dv[b, :, a] = sums[0] * scale, sums[1]

        share(attend, _heads(q))
        return dq, dk, dv, None


def _heads(q: Tensor) -> Iterator[tuple[int, int]]:
    """(sample, head) of (B, N, A, D)."""
    for b in range(q.shape[0]):
        for a in range(q.shape[2]):
            yield b, a


def _blocks(q: Tensor) -> Iterator[slice]:
    """Rows of each block of queries."""
    for start in range(0, q.shape[1], ROWS):
        yield slice(start, min(start + ROWS, q.shape[1]))
