"""Which floating-point type is fast where, by what the hardware can do: equal machines give equal frames."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """bfloat16 where the hardware multiplies it, else float32.

    A CPU without bfloat16 instructions emulates them some fifty times slower than float32.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if kind == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device | str = "cpu") -> AbstractContextManager[object]:
    """Mixed precision in `fast_dtype`, or nothing where that is float32."""
    dtype = fast_dtype(device)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=dtype)


def tracked(*tensors: Tensor) -> bool:
    """Whether a gradient will be asked for: what is computed in place or in a fused kernel has none."""
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
