"""Where the nets run."""

from __future__ import annotations

import torch

from avatar.errors import UserError

DEVICES = ("auto", "cpu", "cuda", "mps")


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the fastest there is.

    Raises:
        UserError: unknown, or not on this machine.
    """
    if name not in DEVICES:
        raise UserError(f"--device {name}: must be one of {', '.join(DEVICES)}")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    if not there[name]:
        raise UserError(f"--device {name}: this machine has none; use --device cpu")
    return torch.device(name)
