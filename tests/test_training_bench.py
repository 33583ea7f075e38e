"""The bench of the training step: what it counts and that it changes nothing; times are never asserted."""

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from test_generator_adapter import made_up_latents

from avatar.model import Generator
from avatar.presets import PRESETS
from avatar.recipes.generator import GeneratorSettings, LatentReader, Task
from avatar.recipes.settings import read_settings
from avatar.recipes.shards import write
from avatar.recipes.training import Trainer
from avatar.recipes.training_bench import count, measure


def test_a_step_is_counted_and_its_shares_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", tiny.TINY)
    for seed in range(3):
        write(made_up_latents(seed), tmp_path / f"latents/latent-{seed}.safetensors")
    words = [f"data={tmp_path}/latents", f"out={tmp_path}/run", "preset=tiny", "batch=2", "held_out=1"]
    settings = read_settings(GeneratorSettings, "generator", [*words, "threads=1"])
    read = LatentReader(settings)
    trainer = Trainer(Generator(tiny.TINY.generator), Task(settings, read.read([0])), settings)
    one, two = (count(trainer, {k: v[:n] for k, v in read(0).items()}) for n in (1, 2))
    assert 1.7 < two / one < 2.3  # a signal that is withheld from the one clip is not computed
    assert all(p.grad is None for p in trainer.trained)

    found = measure(settings, steps=2)
    assert found["GFLOP"] == pytest.approx(two / 1e9)
    assert found["floor, s"] == pytest.approx(two / 1e9 / max(v for k, v in found.items() if "products" in k))
    for name in ("floor / step", "floor / step by CPU", "waiting / step", "loading / step by CPU"):
        assert 0 <= found[name] < 1.5, name
    assert found["parameters"] == sum(np.prod(p.shape) for p in trainer.trained)
    assert not (tmp_path / "run").exists() and torch.is_grad_enabled()
