"""The waveforms of a folder of sounding scenes, cut at random; a step always gets the same ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from avatar.backbone.mel import MelConfig, log_mel
from avatar.errors import UserError
from avatar.recipes.shards import seeds
from avatar.recipes.soundtrack_data import KIND
from avatar.recipes.training import Batch

MEL = MelConfig()
LEVELS = (-12.0, 3.0)  # dB, change of a sound's level


class SoundReader:
    """Random cuts of random scenes, at random levels.

    Args:
        samples: length of a cut, a multiple of the hop.
    """

    def __init__(self, data: Path, held_out: int, batch: int, samples: int, seed: int) -> None:
        self.data, self.batch, self.samples, self.seed = data, batch, samples, seed
        known = seeds(data, KIND)
        if len(known) <= held_out:
            raise UserError(f"{data}: {len(known)} clips, more than {held_out} are needed")
        self.held_out, self.seeds = known[:held_out], known[held_out:]

    def rng(self, step: int) -> np.random.Generator:
        """Random numbers of a step."""
        return np.random.default_rng((self.seed, step))

    def __call__(self, step: int) -> Batch:
        rng = self.rng(step)
        cuts = [self.cut(int(seed), rng) for seed in rng.choice(self.seeds, self.batch)]
        samples = torch.stack(cuts)
        return {"samples": samples, "mel": log_mel(samples, MEL)}

    def cut(self, seed: int, rng: np.random.Generator) -> Tensor:
        """One cut (samples,)."""
        with safe_open(self.data / f"{KIND}-{seed}.safetensors", "pt") as file:
            stored = file.get_slice("samples")
            start = int(rng.integers(stored.get_shape()[0] - self.samples + 1))
            cut = stored[start : start + self.samples].float() / 32767
        peak = float(cut.abs().max()) + 1e-6
        return cut * min(10 ** (rng.uniform(*LEVELS) / 20), 1 / peak)

    def whole(self, seed: int) -> Tensor:
        """A scene's sound (131072,)."""
        with safe_open(self.data / f"{KIND}-{seed}.safetensors", "pt") as file:
            return file.get_tensor("samples").float() / 32767
