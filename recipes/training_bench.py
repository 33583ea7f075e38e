"""How near the training step of the generator is to its floor, and how long it waits for data.

    python -m avatar.recipes.training_bench --data data/latents [--steps 10] [--threads 1] [--json out.json]

The floor is the counted operations of forward and backward / the best rate of matrix products, measured in
the same process between the steps (avatar.bench). A step is all that the loop does: the loss, its gradient,
its norm, the optimiser, the running average; batches come from files of latents, as in a run. Times are given
by the clock and by the processor: on a shared machine only the latter is the step's own.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer

from avatar.bench import DTYPES, matrix_rate, operations
from avatar.model import Generator
from avatar.presets import PRESETS
from avatar.recipes.generator import GeneratorSettings, LatentReader, Task
from avatar.recipes.settings import read_settings
from avatar.recipes.training import Reader, Trainer, step_generator

WARM = 2  # steps that do not count


@contextmanager
def clocks(wall: list[float], processor: list[float]) -> Iterator[None]:
    """Add to two lists what a block takes by the clock and of the processor, seconds."""
    began, used = time.perf_counter(), time.process_time()
    yield
    wall.append(time.perf_counter() - began)
    processor.append(time.process_time() - used)


def count(trainer: Trainer, batch: dict[str, torch.Tensor]) -> int:
    """Operations of the loss of a batch and of its gradient."""

    def both() -> None:
        trainer.accelerator.backward(trainer.part(batch, step_generator(0, 0))["loss"])

    counted = operations(both)
    trainer.optimizer.zero_grad()
    return counted


def measure(settings: GeneratorSettings, steps: int) -> dict[str, float]:
    """Figures of some steps of the generator's recipe."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    read = LatentReader(settings)
    task = Task(settings, read.read(read.held_out[:1]))
    trainer = Trainer(Generator(PRESETS[settings.preset].generator), task, settings)
    counted = count(trainer, read(0))
    rates = {name: matrix_rate(dtype) for name, dtype in DTYPES.items()}
    reader = Reader(read, trainer.parts, 0)
    wall: list[float] = []
    processor: list[float] = []
    waited = 0.0
    try:
        for step in range(WARM + steps):
            if step == WARM:
                wall, processor, reader.waited = [], [], 0.0
            with clocks(wall, processor):
                trainer.take(reader(step))
            for name, dtype in DTYPES.items():
                rates[name] = max(rates[name], matrix_rate(dtype))
        waited = reader.waited
    finally:
        reader.close()
    alone: list[float] = []
    loading: list[float] = []
    for step in range(steps):
        with clocks(alone, loading):
            read(step)
    floor = counted / max(rates.values())
    return {
        "parameters": sum(p.numel() for p in trainer.trained),
        "GFLOP": counted / 1e9,
        **{f"matrix products {name}, GFLOP/s": rate / 1e9 for name, rate in rates.items()},
        "floor, s": floor,
        "step, s": median(wall),
        "step, s of CPU": median(processor),
        "floor / step": floor / median(wall),
        "floor / step by CPU": settings.threads * floor / median(processor),
        "waiting / step": waited / sum(wall),
        "loading / step by CPU": median(loading) / median(processor),
    }


def main(
    data: Annotated[Path, typer.Option(help="folder of latents")],
    steps: Annotated[int, typer.Option(help="steps that are timed")] = 10,
    batch: Annotated[int, typer.Option(help="clips of a step")] = 8,
    threads: Annotated[int, typer.Option(help="of a step")] = 1,
    preset: Annotated[str, typer.Option(help="set of nets")] = "mini",
    json_out: Annotated[Path | None, typer.Option("--json", help="file for the figures")] = None,
) -> None:
    """Print the figures of some training steps of the generator."""
    with tempfile.TemporaryDirectory() as folder:
        words = [f"data={data}", f"out={folder}", f"batch={batch}", f"threads={threads}", f"preset={preset}"]
        settings = read_settings(GeneratorSettings, "generator", [*words, "held_out=1"])
        figures = measure(settings, steps)
    for name, value in figures.items():
        print(f"{name:32} {value:.4g}")
    if json_out:
        json_out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
