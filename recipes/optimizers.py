"""Optimisers by name, with states of eight bits where a package that has them is installed."""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import nn

from avatar.errors import UserError
from avatar.recipes.settings import Settings

BETAS = (0.9, 0.99)


def make_optimizer(settings: Settings, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019) as `settings.optimizer` wants it.

    Raises:
        UserError: an optimiser of eight bits, and neither bitsandbytes with a GPU nor torchao is there.
    """
    rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "betas": BETAS}
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(trained, **rates, fused=True)  # type: ignore[arg-type]
    if find_spec("bitsandbytes") and torch.cuda.is_available():
        from bitsandbytes.optim import AdamW8bit as OnDevice

        return OnDevice(trained, **rates)
    if find_spec("torchao"):
        from torchao.optim import AdamW8bit

        return AdamW8bit(trained, **rates)
    raise UserError("optimizer=adamw8bit: needs bitsandbytes or torchao: pip install torchao")
