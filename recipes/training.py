"""The training loop that every recipe shares: mixed precision, EMA, log, atomic states and exact resume.

A batch is a function of the step number alone, and so is the noise, so a resumed run repeats an unbroken
one bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.backbone.checkpoint import save
from avatar.backbone.precision import autocast, fast_dtype
from avatar.device import pick_device
from avatar.errors import UserError
from avatar.recipes.settings import Settings

PRECISIONS = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}

Batch = dict[str, Tensor]
Losses = dict[str, Tensor]


def rate(step: int, settings: Settings) -> float:
    """Learning rate of a step: warm-up, plateau, linear fall to zero."""
    fall = (settings.steps - step) / max(1, round(settings.decay * settings.steps))
    return settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup), max(fall, 0.0))


def step_generator(seed: int, step: int) -> torch.Generator:
    """CPU generator of a step's random numbers."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def train(
    model: nn.Module,
    load: Callable[[int], Batch],
    loss: Callable[[nn.Module, Batch, torch.Generator], Losses],
    settings: Settings,
    probe: Callable[[nn.Module], dict[str, float]] | None = None,
) -> list[float]:
    """Train `model` until `settings.steps` or `settings.minutes` and write `model.safetensors` (EMA weights).

    Args:
        model: with a `config` dataclass, as `avatar.backbone.checkpoint` wants it.
        load: the batch of a step; called in a thread, one step ahead.
        loss: named losses of a batch; "loss" is minimised, the others are logged.
        probe: measures the EMA model for the log, every `settings.probe_every` steps.

    Returns:
        The losses of the steps taken now.
    """
    from accelerate import Accelerator

    torch.set_num_threads(settings.threads)
    settings.out.mkdir(parents=True, exist_ok=True)
    state_file, log_file = settings.out / "state.pt", settings.out / "log.jsonl"
    if settings.start and not state_file.exists():
        made = begin(model, settings.start)
        log_file.write_text(json.dumps({"start": str(settings.start), "new": made}) + "\n")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
    )
    ema = {name: value.detach().clone() for name, value in model.state_dict().items()}
    step = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema, step = state["ema"], state["step"]
    accelerator = Accelerator(mixed_precision=PRECISIONS[fast_dtype(pick_device("auto"))])
    model, optimizer = accelerator.prepare(model, optimizer)
    started = saved = time.monotonic()
    taken: list[float] = []

    with ThreadPoolExecutor(1) as pool, log_file.open("a") as log:
        ahead = pool.submit(load, step)
        while step < settings.steps:
            batch = ahead.result()
            ahead = pool.submit(load, step + 1)
            for group in optimizer.param_groups:
                group["lr"] = rate(step, settings)
            with accelerator.autocast():
                losses = loss(model, batch, step_generator(settings.seed, step))
            accelerator.backward(losses["loss"])
            accelerator.clip_grad_norm_(trained, settings.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            follow(ema, accelerator.unwrap_model(model), min(settings.ema, step / (step + 10)))
            taken.append(losses["loss"].item())
            if not math.isfinite(taken[-1]):
                raise FloatingPointError(f"loss is {taken[-1]} at step {step}; resume from {state_file}")
            now = time.monotonic()
            record: dict[str, Any] = {}
            if step % settings.log_every == 0:
                record |= {name: round(value.item(), 6) for name, value in losses.items()}
            if probe and step % settings.probe_every == 0:
                record |= with_weights(accelerator.unwrap_model(model), ema, probe)
            if record:
                record = {"step": step, "seconds": round(now - started, 1), **record}
                log.write(json.dumps(record) + "\n")
                log.flush()
            out_of_time = settings.minutes and now - started > 60 * settings.minutes
            if step == settings.steps or out_of_time or now - saved > 60 * settings.save_minutes:
                save_state(accelerator.unwrap_model(model), optimizer, ema, step, state_file)
                saved = now
            if out_of_time:
                break
    return taken


def begin(model: nn.Module, start: Path) -> list[str]:
    """Give a model the weights of a file; returns the names of those that the file lacks or has in part.

    A layer that has more inputs than in the file does not hear the new ones, which are the last, yet.

    Raises:
        UserError: the file has weights that the model does not have.
    """
    own, given = model.state_dict(), load_file(start)
    grown = [name for name, value in given.items() if name in own and _grew(value, own[name])]
    for name in grown:
        more = torch.zeros_like(own[name])
        more[:, : given[name].shape[1]] = given[name]
        given[name] = more
    unknown = sorted(n for n, v in given.items() if n not in own or v.shape != own[n].shape)
    if unknown:
        raise UserError(f"start={start}: its {unknown[0]} does not fit the {type(model).__name__}")
    model.load_state_dict({name: value.float() for name, value in given.items()}, strict=False)
    return sorted([*own.keys() - given.keys(), *grown])


def _grew(before: Tensor, now: Tensor) -> bool:
    """Whether two weights differ in that there are more inputs now, which lie on axis 1."""
    one, two = list(before.shape), list(now.shape)
    return len(one) == len(two) > 1 and one[:1] + one[2:] == two[:1] + two[2:] and one[1] < two[1]


@torch.no_grad()
def follow(ema: dict[str, Tensor], model: nn.Module, keep: float) -> None:
    """Move the running average of the weights towards the model."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            ema[name].lerp_(value, 1 - keep)
        else:
            ema[name].copy_(value)


def with_weights(
    model: nn.Module, weights: dict[str, Tensor], measure: Callable[[nn.Module], dict[str, float]]
) -> dict[str, float]:
    """Measure a model with other weights and give it its own back."""
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    model.eval()
    try:
        with torch.no_grad(), autocast(next(model.parameters()).device):
            return measure(model)
    finally:
        model.load_state_dict(own)
        model.train()


def save_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, ema: dict[str, Tensor], step: int, path: Path
) -> None:
    """Write the state to resume from and, as `model.safetensors`, the averaged weights; both atomically."""
    part = path.with_suffix(".part")
    torch.save(
        {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema, "step": step}, part
    )
    os.replace(part, path)
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(ema)
    save(model, path.parent / "model.safetensors")
    model.load_state_dict(own)
