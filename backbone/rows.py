"""Attention in bfloat16 on a CPU, a block of queries at a time over all keys.

PyTorch's CPU kernel runs bfloat16 attention at less than half the rate of a matrix product on CPUs without
matrix tiles (AMX). Here both products of a block go through the matrix library whole, with the softmax
between. Scores are rounded to bfloat16, which doubles the kernel's rounding error (docs/performance.md).

Shape legend: B batch, N queries, M keys, A heads, D channels of a head, R rows of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

ROWS = 512  # queries of a block: its scores of 4k keys, 4 MB, stay in the cache
LEAST = 1024  # keys; below, PyTorch's kernel has less to set up


def suits(q: Tensor, k: Tensor) -> bool:
    """Whether attention of these queries and keys is faster here than in PyTorch's kernel."""
    small = q.device.type != "cpu" or q.dtype != torch.bfloat16 or min(q.shape[1], k.shape[1]) < LEAST
    return not small and torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()


def row_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of (B, N, A, D) over (B, M, A, D), same shape as the queries; it can be trained through."""
    return _RowAttention.apply(q, k, v)


class _RowAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v)
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        scores = q.new_empty(ROWS, k.shape[1])
        weights = torch.empty_like(scores)
        for b, a in _heads(q):
            keys, values = (k[b, :, a] * q.shape[-1] ** -0.5).mT, v[b, :, a].contiguous()
            for rows in _blocks(q):
                count = rows.stop - rows.start
                torch.mm(q[b, rows, a], keys, out=scores[:count])
                torch.softmax(scores[:count], -1, out=weights[:count])
                out[b, rows, a] = torch.mm(weights[:count], values)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """With P the weights: dV = P' dO, dS = P (dP - sum dP P), dP = dO V', dQ = dS K, dK = dS' Q."""
        (q, k, v), grad = ctx.saved_tensors, grads[0]
        dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
        scale = q.shape[-1] ** -0.5
        scores = q.new_empty(ROWS, k.shape[1])
        weights, change = torch.empty_like(scores), torch.empty_like(scores)
        for b, a in _heads(q):
            keys, values = k[b, :, a] * scale, v[b, :, a].contiguous()
            sums = torch.zeros(2, *keys.shape)  # of keys and values, over many blocks: in float32
            for rows in _blocks(q):
                count = rows.stop - rows.start
                ask, asked = q[b, rows, a], grad[b, rows, a].contiguous()
                torch.mm(ask, keys.mT, out=scores[:count])
                torch.softmax(scores[:count], -1, out=weights[:count])
                sums[1] += torch.mm(weights[:count].mT, asked)
                torch.mm(asked, values.mT, out=scores[:count])
                torch._softmax_backward_data(
                    scores[:count], weights[:count], -1, q.dtype, grad_input=change[:count]
                )
                dq[b, rows, a] = torch.mm(change[:count], keys)
                sums[0] += torch.mm(change[:count].mT, ask)
            dk[b, :, a], dv[b, :, a] = sums[0] * scale, sums[1]
        return dq, dk, dv


def _heads(q: Tensor) -> Iterator[tuple[int, int]]:
    """(sample, head) of (B, N, A, D)."""
    for b in range(q.shape[0]):
        for a in range(q.shape[2]):
            yield b, a


def _blocks(q: Tensor) -> Iterator[slice]:
    """Rows of each block of queries."""
    for start in range(0, q.shape[1], ROWS):
        yield slice(start, min(start + ROWS, q.shape[1]))
