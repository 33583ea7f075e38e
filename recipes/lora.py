"""Low-rank changes of a net that stays as it is otherwise (Hu et al. 2021), by peft."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from avatar.adapters.adapter_file import CHANGE, DOWN, UP
from avatar.errors import UserError

NAME = "own"  # of the adapter inside peft
PREFIX = "diffusion_model."  # before the modules' names in LoRA files of video nets


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
    return named({name: value for name, value in net.named_parameters() if value.requires_grad})


def named(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Trained parameters by peft's names, under those of adapter files."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        for factor, ending in (("lora_A", DOWN), ("lora_B", UP)):
            if name.endswith(f".{factor}.{NAME}.weight"):
                found[name.removesuffix(f".{factor}.{NAME}.weight") + ending] = value
                break
        else:
            found[name + CHANGE] = value
    return found


@dataclass(frozen=True, kw_only=True)
class LowRankConfig:
    """Sizes of the factors of a `LowRank`."""

    layers: tuple[str, ...]
    rank: int
    alpha: float


class LowRank(nn.Module):
    """A net with trainable factors; only these are in its state, so states are small and the net may be
    large.

    Raises:
        UserError: the net has none of the layers.
    """

    def __init__(self, config: LowRankConfig, net: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.net = net
        try:
            add_lora(net, list(config.layers), config.rank, config.alpha)
        except ValueError as error:
            raise UserError(f"layers: {', '.join(config.layers)}: the net has no such layers") from error
        self.own = {name for name, value in self.named_parameters() if value.requires_grad}

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.net(*inputs, **named)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The factors."""
        return {
            name: value for name, value in super().state_dict(*args, **kwargs).items() if name in self.own
        }

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take factors; the net stays."""
        if strict and state_dict.keys() != self.own:
            raise ValueError(f"not the factors of this net: {sorted(state_dict.keys() ^ self.own)[:3]}")
        return super().load_state_dict(state_dict, strict=False, assign=assign)


def save_lora(factors: Mapping[str, Tensor], alpha: float, path: Path) -> None:
    """Write a LoRA file as `avatar generate --lora` and other programs read it, whole or not at all.

    Args:
        factors: under the names of adapter files; half precision is kept.
    """
    out: dict[str, Tensor] = {}
    for name, value in factors.items():
        out[PREFIX + name] = value.detach().cpu().contiguous()
        if name.endswith(DOWN):
            out[f"{PREFIX}{name.removesuffix(DOWN)}.alpha"] = torch.tensor(alpha)
    part = path.with_name(path.name + ".partial")
    save_file(out, part)
    os.replace(part, path)
