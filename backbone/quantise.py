"""Linear weights of a DiT's blocks kept in 8 bits by torchao and multiplied in the net's own number type.

Norms, modulations, embeddings and the last layer stay as they are: they are small and errors in them show.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from torch import nn

from avatar.backbone.notes import without_torchao_notes
from avatar.errors import UserError

Weights = Literal["int8", "fp8"]

KEPT = ("mod", "modulation")  # parts of names within a block whose weights stay


def quantise(net: nn.Module, weights: Weights) -> None:
    """Replace the weights of the blocks' linear layers, in place; for evaluation.

    Raises:
        UserError: torchao is not installed.
    """
    if find_spec("torchao") is None:
        raise UserError(f"{weights} weights need torchao: install it by `pip install avatar-toolkit[quant]`")
    with without_torchao_notes():
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = Int8WeightOnlyConfig() if weights == "int8" else Float8WeightOnlyConfig()
    for name in ("double_blocks", "single_blocks"):
        quantize_(net.get_submodule(name), config, filter_fn=_chosen)


def _chosen(module: nn.Module, name: str) -> bool:
    kept = any(part.endswith(KEPT) for part in name.split("."))
    return isinstance(module, nn.Linear) and not kept
