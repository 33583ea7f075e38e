"""Linear layers by their bare weights: with their GELU in one kernel, of inputs in parts, with a gate.

Shape legend: N tokens, C input channels, D output channels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from avatar.backbone.precision import tracked
from avatar.backbone.threads import share

RUN = 1 << 16  # numbers that a thread takes at a time


def bare(layer: nn.Linear, x: Tensor) -> bool:
    """Whether the layer may be replaced by its bare weight: no hook, no other kind of weight, no autocast,
    which keeps what it has cast of whole weights only."""
    own = type(layer) is nn.Linear and type(layer.weight) in (nn.Parameter, Tensor)
    same = x.dtype == layer.weight.dtype and not torch.is_autocast_enabled(x.device.type)
    return own and same and not layer._forward_hooks and not layer._forward_pre_hooks


def gelu(x: Tensor) -> Tensor:
    """GELU (tanh form)."""
    if x.device.type == "cpu" and x.dtype == torch.bfloat16 and tracked(x):
        return _HalfGelu.apply(x)
    return F.gelu(x, approximate="tanh")


class _HalfGelu(torch.autograd.Function):
    """GELU and its gradient in bfloat16 on a CPU, each in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from avatar.backbone import half_kernels  # numba takes long to import

        ctx.save_for_backward(x)  # as it lies: a part of a larger result is not copied to be kept
        return _by_rows(half_kernels.gelu, x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        from avatar.backbone import half_kernels

        return _by_rows(half_kernels.gelu_gradient, *ctx.saved_tensors, grads[0])


def _by_rows(kernel: Callable[..., None], *inputs: Tensor) -> Tensor:
    """A kernel of tensors (..., C) of one shape, number by number; threads take some rows at a time."""
    from avatar.backbone.half_kernels import bits

    out = inputs[0].new_empty(inputs[0].shape)
    rows = [x.reshape(-1, x.shape[-1]) for x in inputs]
    made = bits(out).reshape(-1, out.shape[-1])
    count = max(1, RUN // out.shape[-1])

    def run(first: int) -> None:
        part = slice(first, first + count)
        kernel(*(bits(x[part].contiguous()).reshape(-1) for x in rows), made[part].reshape(-1))

    share(run, range(0, len(made), count))
    return out


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GELU (tanh form) of a linear layer, in one kernel of oneDNN where there is one and no gradient.

    PyTorch's GELU takes as long as half the matrix product before it.
    """
    fast = x.device.type == "cpu" and x.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    if tracked(x, weight) or not fast or not torch.cpu._is_avx512_bf16_supported():
        return gelu(F.linear(x, weight, bias))
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")


def linear_of_parts(parts: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer of inputs (..., N, C) joined on the channel axis, without the copy that joins them."""
    first, *others = zip(parts, weight.split([x.shape[-1] for x in parts], dim=1), strict=True)
    out = F.linear(*first, bias)
    for x, part in others:
        out.flatten(0, -2).addmm_(x.flatten(0, -2), part.T)
    return out


def gated_linear(
    x: Tensor, gate: Tensor, parts: Sequence[Tensor], weight: Tensor, bias: Tensor | None
) -> Tensor:
    """x (B, N, D) + gate (B, D) times the linear layer of parts of its input.

    In training on one sample the gate goes into the weights, so that no gradient needs the result of the
    layer: nothing of it is kept, and a block that is computed again for its gradients stops before it.
    """
    if len(gate) == 1 and tracked(x, gate, weight, *parts):
        return x + linear_of_parts(parts, gate.T * weight, None if bias is None else gate[0] * bias)
    return torch.addcmul(x, gate[:, None], linear_of_parts(parts, weight, bias))
