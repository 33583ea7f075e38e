"""Low-rank changes of a net that stays as it is otherwise (Hu et al. 2021), by peft."""

from __future__ import annotations

from torch import Tensor, nn

from avatar.adapters.adapter_file import CHANGE, DOWN, UP

NAME = "own"  # of the adapter inside peft


def add_lora(net: nn.Module, layers: list[str], rank: int, alpha: float) -> None:
    """Freeze a net and put trainable factors beside its layers, in place; the net says what it said before.

    Args:
        layers: ends of the names of the linear layers and convolutions.
    """
    from peft import LoraConfig, inject_adapter_in_model

    net.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=layers)  # type: ignore[arg-type]
    inject_adapter_in_model(config, net, adapter_name=NAME)


def lora_tensors(net: nn.Module) -> dict[str, Tensor]:
    """What was trained, under the names of adapter files: factors of layers, and parameters that are new."""
    found: dict[str, Tensor] = {}
    for name, value in net.named_parameters():
        if not value.requires_grad:
            continue
        for factor, ending in (("lora_A", DOWN), ("lora_B", UP)):
            if name.endswith(f".{factor}.{NAME}.weight"):
                found[name.removesuffix(f".{factor}.{NAME}.weight") + ending] = value
                break
        else:
            found[name + CHANGE] = value
    return found
