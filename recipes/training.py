"""The training loop that every recipe shares, on one process or many: mixed precision, gradient accumulation,
EMA, log, alarms, atomic states and exact resume.

A step takes parts: `accumulate` on each process. A part is a function of its number alone, and so is its
noise. So a resumed run repeats an unbroken one bit for bit on a CPU, and two processes that take one part
each do what one process does that takes two, but for the order of a sum.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.backbone.checkpoint import save
from avatar.backbone.precision import autocast, fast_dtype
from avatar.device import pick_device
from avatar.errors import UserError
from avatar.recipes.optimizers import make_optimizer
from avatar.recipes.process_group import end_with_program
from avatar.recipes.run_folder import Figures, RunFolder
from avatar.recipes.settings import Settings
from avatar.recipes.trackers import begin_trackers, check_trackers
from avatar.recipes.validation import Show

PRECISIONS = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}

Result = TypeVar("Result")
Batch = dict[str, Tensor]
Losses = dict[str, Tensor]
Loss = Callable[[nn.Module, Batch, torch.Generator], Losses]
Measure = Callable[[nn.Module], dict[str, float]]


def rate(step: int, settings: Settings) -> float:
    """Learning rate of a step: warm-up, plateau, linear fall to zero."""
    fall = (settings.steps - step) / max(1, round(settings.decay * settings.steps))
    return settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup), max(fall, 0.0))


def step_generator(seed: int, part: int) -> torch.Generator:
    """CPU generator of the random numbers of a part of a step; with one part a step, of the step."""
    return torch.Generator().manual_seed(seed * 1_000_003 + part)


class Part(nn.Module):
    """The losses of a batch as a module, so that what accelerate puts around it sees all of the work."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, batch: Batch, generator: torch.Generator) -> Losses:
        return self.loss(self.model, batch, generator)


class Reader:
    """The batches of this process, each loaded in a thread while the one before is trained on.

    Attributes:
        waited: seconds spent waiting for data.
    """

    def __init__(self, load: Callable[[int], Batch], parts: Callable[[int], list[int]], step: int) -> None:
        self.load, self.parts = load, parts
        self.pool = ThreadPoolExecutor(1)
        self.ahead = self.pool.submit(self._read, step)
        self.waited = 0.0

    def _read(self, step: int) -> list[tuple[int, Batch]]:
        return [(part, self.load(part)) for part in self.parts(step)]

    def __call__(self, step: int) -> list[tuple[int, Batch]]:
        """Numbers and batches of the parts of a step; steps come one after the other."""
        began = time.monotonic()
        found = self.ahead.result()
        self.waited += time.monotonic() - began
        self.ahead = self.pool.submit(self._read, step + 1)
        return found

    def close(self) -> None:
        """Give up what is loaded ahead."""
        self.pool.shutdown(cancel_futures=True)


class Trainer:
    """A model, its optimiser and its average between steps, on this process."""

    def __init__(self, model: nn.Module, loss: Loss, settings: Settings) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        self.model, self.settings = model, settings
        device = pick_device("auto")
        self.accelerator = Accelerator(
            cpu=device.type == "cpu",
            mixed_precision=PRECISIONS[fast_dtype(device)],
            log_with=list(settings.trackers) or None,
            project_dir=settings.out,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        self.trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = make_optimizer(settings, self.trained)
        self.step = 0
        self.best, self.stale = math.inf, 0
        self._state_of = optimizer
        self.part, self.optimizer = self.accelerator.prepare(Part(model, loss), optimizer)
        self.ema = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @property
    def main(self) -> bool:
        """Whether this process writes the files."""
        return self.accelerator.is_main_process

    def parts(self, step: int) -> list[int]:
        """Numbers of the parts of a step that this process takes."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        each = self.settings.accumulate
        return [step * each * world + i * world + rank for i in range(each)]

    def state(self) -> dict[str, Any]:
        """All that a run needs to go on."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._state_of.state_dict(),
            "ema": self.ema,
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.model.load_state_dict(state["model"])
        self._state_of.load_state_dict(state["optimizer"])
        self.ema = {name: value.clone() for name, value in state["ema"].items()}
        self.step, self.best, self.stale = state["step"], state["best"], state["stale"]

    def take(self, batches: list[tuple[int, Batch]]) -> dict[str, float]:
        """One step; the mean losses of all parts on all processes.

        Raises:
            FloatingPointError: the loss or the gradient is not a number; nothing has changed then.
        """
        for group in self.optimizer.param_groups:
            now = rate(self.step, self.settings)
            if isinstance(group["lr"], Tensor):  # torchao's, compiled once for all rates
                group["lr"].fill_(now)
            else:
                group["lr"] = now
        found: list[Losses] = []
        for number, (part, batch) in enumerate(batches):
            last = number == len(batches) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.part):
                losses = self.part(batch, step_generator(self.settings.seed, part))
                self.accelerator.backward(losses["loss"] / len(batches))
            found.append({name: value.detach() for name, value in losses.items()})
        names = list(found[0])
        mean = torch.stack([torch.stack([one[name].float() for name in names]) for one in found]).mean(0)
        mean = self.accelerator.reduce(mean, "mean")
        values = dict(zip(names, mean.tolist(), strict=True))
        norm = self.accelerator.clip_grad_norm_(self.trained, self.settings.clip_norm)
        if not math.isfinite(values["loss"]) or not math.isfinite(float(norm)):
            self.optimizer.zero_grad()
            what = (
                f"loss is {values['loss']}" if not math.isfinite(values["loss"]) else "gradient is not finite"
            )
            raise FloatingPointError(f"{what} at step {self.step + 1}")
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        follow(self.ema, self.model, min(self.settings.ema, self.step / (self.step + 10)))
        return values

    def watch(self, figures: Figures, folder: RunFolder) -> None:
        """Keep the best weights, and sound the alarm when the watched figure no longer falls."""
        name = self.settings.watch
        if name not in figures:
            return
        if figures[name] < self.best:
            self.best, self.stale = figures[name], 0
            with_weights(self.model, self.ema, partial(save, path=folder.path / "best.safetensors"))
            return
        self.stale += 1
        if self.stale == self.settings.patience:
            folder.alarm(
                self.step, f"{name} was {self.best:g} {self.stale} looks ago and has not fallen since"
            )

    def show(self, show: Show, folder: RunFolder) -> dict[str, float]:
        """Write the validation videos of the EMA model; their figures."""

        def make(place: Path) -> dict[str, float]:
            return with_weights(self.model, self.ema, partial(_shown, show, place))

        return folder.show(self.step, make)

    def agreed(self, wish: bool) -> bool:
        """What the first process wishes, known to all."""
        if self.accelerator.num_processes == 1:
            return wish
        from accelerate.utils import broadcast

        flag = torch.tensor([float(wish)], device=self.accelerator.device)
        return bool(broadcast(flag).item())


def train(
    model: nn.Module,
    load: Callable[[int], Batch],
    loss: Loss,
    settings: Settings,
    probe: Measure | None = None,
    show: Show | None = None,
) -> list[float]:
    """Train `model` until `settings.steps` or `settings.minutes` and write the run folder.

    Args:
        model: with a `config` dataclass, as `avatar.backbone.checkpoint` wants it.
        load: the batch of a part, by its number; called in a thread, one step ahead.
        loss: named losses of a batch; "loss" is minimised, the others are logged.
        probe: measures the EMA model for the log, every `settings.probe_every` steps.
        show: writes videos of what the EMA model makes into a folder and measures them for the log, every
            `settings.show_every` steps.

    Returns:
        The losses of the steps taken now.

    Raises:
        FloatingPointError: the loss is no number; the newest state is from before.
    """
    check_trackers(settings)
    torch.set_num_threads(settings.threads)
    folder = RunFolder(settings)
    state = folder.resume()
    if settings.start and state is None:
        made = begin(model, settings.start)
    trainer = Trainer(model, loss, settings)
    if state is not None:
        trainer.load(state)
    if trainer.main:
        folder.begin()
        if settings.start and state is None:
            folder.log({"start": str(settings.start), "new": made})
    trainer.accelerator.wait_for_everyone()
    begin_trackers(trainer.accelerator, settings)
    try:
        losses = _run(trainer, folder, load, probe, show)
    finally:
        for tracker in trainer.accelerator.trackers:
            tracker.finish()
    end_with_program()
    return losses


def _run(
    trainer: Trainer,
    folder: RunFolder,
    load: Callable[[int], Batch],
    probe: Measure | None,
    show: Show | None,
) -> list[float]:
    """Take steps; see `train`."""
    settings = trainer.settings
    started = saved = noted = time.monotonic()
    taken: list[float] = []
    reader = Reader(load, trainer.parts, trainer.step)
    try:
        while trainer.step < settings.steps:
            try:
                values = trainer.take(reader(trainer.step))
            except FloatingPointError as error:
                if trainer.main:
                    folder.alarm(trainer.step + 1, str(error))
                newest = folder.states()[-1:] or [0]
                raise FloatingPointError(f"{error}; the newest state is of step {newest[0]}") from error
            taken.append(values["loss"])
            now = time.monotonic()
            record: Figures = {}
            if trainer.step % settings.log_every == 0:
                record |= {name: round(value, 6) for name, value in values.items()}
                record["waiting"] = round(reader.waited / max(now - noted, 1e-9), 4)
                reader.waited, noted = 0.0, now
            look = trainer.main and trainer.step % settings.probe_every == 0
            if probe and look:
                record |= with_weights(trainer.model, trainer.ema, probe)
            if show and trainer.main and settings.show_every and trainer.step % settings.show_every == 0:
                record |= trainer.show(show, folder)
            if record and trainer.main:
                folder.log({"step": trainer.step, "seconds": round(now - started, 1), **record})
                if settings.trackers:
                    trainer.accelerator.log(record, trainer.step)
                trainer.watch(record, folder)
            late = now - started > 60 * settings.minutes
            out_of_time = bool(settings.minutes) and trainer.agreed(late)
            due = settings.save_steps and trainer.step % settings.save_steps == 0
            due = due or now - saved > 60 * settings.save_minutes
            if trainer.main and (due or trainer.step == settings.steps or out_of_time):
                folder.save(trainer.state())
                average = partial(save, path=folder.path / "model.safetensors")
                with_weights(trainer.model, trainer.ema, average)
                saved = now
            if out_of_time:
                break
    finally:
        reader.close()
    if trainer.main and taken:
        folder.plot()
    trainer.accelerator.wait_for_everyone()
    return taken


def _shown(show: Show, place: Path, model: nn.Module) -> dict[str, float]:
    """What a recipe shows, in the precision in which its nets are used."""
    with torch.autocast(next(model.parameters()).device.type, enabled=False):
        return show(model, place)


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
    model: nn.Module, weights: dict[str, Tensor], measure: Callable[[nn.Module], Result]
) -> Result:
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
