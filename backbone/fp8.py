"""Weights stored as 8-bit floats with one scale for each matrix, as the public fp8 checkpoints are."""

from collections.abc import Mapping

import torch
from torch import Tensor

FP8 = torch.float8_e4m3fn


def dequantise(tensors: Mapping[str, Tensor], scales: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Every 8-bit weight times its scale, in bfloat16 as the public code does; the rest as it is.

    Args:
        tensors: by name.
        scales: of one number each, by the name of the module whose weight they belong to.

    Raises:
        ValueError: an 8-bit weight has no scale, or a scale no 8-bit weight; the message names them all.
    """
    small = {name.rpartition(".")[0]: name for name, value in tensors.items() if value.dtype == FP8}
    wrong = sorted(small.keys() ^ scales.keys())
    if wrong:
        raise ValueError(f"8-bit weights and scales do not match: {', '.join(wrong)}")
    exact = {
        name: tensors[name].to(torch.bfloat16) * scales[module].to(torch.bfloat16)
        for module, name in small.items()
    }
    return {**tensors, **exact}
