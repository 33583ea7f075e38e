"""Files of training data: one safetensors file a sample, named KIND-SEED, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file


def seeds(folder: Path, kind: str) -> list[int]:
    """Seeds of the samples of a kind in a folder, in order."""
    return sorted(int(path.stem.rpartition("-")[2]) for path in folder.glob(f"{kind}-*.safetensors"))


def write(sample: dict[str, NDArray], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a sample beside its place, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    # save_file writes bytes as they lie in memory: a transposed array would be read back in another order.
    save_file({name: np.asarray(value, order="C") for name, value in sample.items()}, part, metadata)
    os.replace(part, path)
