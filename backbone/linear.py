"""Linear layers by their bare weights: with their GELU in one kernel, of inputs in parts, with a gate.

Shape legend: N tokens, C input channels, D output channels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.precision import tracked


def bare(layer: nn.Linear, x: Tensor) -> bool:
    """Whether the layer may be replaced by its bare weight: no hook, no other kind of weight, no autocast,
    which keeps what it has cast of whole weights only."""
    own = type(layer) is nn.Linear and type(layer.weight) in (nn.Parameter, Tensor)
    same = x.dtype == layer.weight.dtype and not torch.is_autocast_enabled(x.device.type)
    return own and same and not layer._forward_hooks and not layer._forward_pre_hooks


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GELU (tanh form) of a linear layer, in one kernel of oneDNN where there is one and no gradient.

    PyTorch's GELU takes as long as half the matrix product before it.
    """
    fast = x.device.type == "cpu" and x.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    if tracked(x, weight) or not fast or not torch.cpu._is_avx512_bf16_supported():
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")
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
