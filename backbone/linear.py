"""A linear layer and its GELU in one kernel, where there is one: bfloat16 on a CPU, without gradients."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avatar.backbone.precision import tracked


def fuses(layer: nn.Linear, x: Tensor) -> bool:
    """Whether the layer may be replaced by its bare weight: no hook, no other kind of weight, no gradient."""
    if tracked(x, layer.weight) or x.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    plain = type(layer) is nn.Linear and type(layer.weight) in (nn.Parameter, Tensor)
    same = x.dtype == layer.weight.dtype == torch.bfloat16
    return plain and same and not layer._forward_hooks and not layer._forward_pre_hooks


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """GELU (tanh form) of a linear layer, for layers of which `fuses` is true.

    Its GELU is that of oneDNN: PyTorch's takes as long as half the matrix product before it.
    """
    if not torch.cpu._is_avx512_bf16_supported():
        return F.gelu(F.linear(x, weight, bias), approximate="tanh")
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
