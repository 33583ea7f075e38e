"""The folder of a training run: what went in, what came out, and what to resume from.

    config.yaml          the settings
    run.json             versions, device, digest of the data; one entry for each start
    log.jsonl            figures by step; lines with "alarm" or "changed" say what to look at
    states/state-N.pt    all that is needed to go on from step N; the newest few are kept
    model.safetensors    averaged weights of the newest state
    best.safetensors     averaged weights with the lowest watched figure, where one is watched
    losses.png           the figures of the log
    validation/          videos of what the averaged weights make, step-N-NAME.mp4, of recipes that show some
    sheet.png            frames of the newest of them

Every file appears whole or not at all, so a run may be killed at any moment.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from avatar.recipes.settings import Settings
from avatar.version import __version__

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "numpy", "accelerate", "peft", "safetensors")
HEAD = 65_536  # bytes of each file of the data that count in its digest, beside its name and size
# Settings that may change without being told of.
FREE = {"minutes", "save_minutes", "save_steps", "log_every", "keep", "show_every", "threads", "trackers"}

Figures = dict[str, Any]


class RunFolder:
    """Reads and writes the files of a run."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.path = settings, settings.out
        self.log_file = self.path / "log.jsonl"

    def begin(self) -> None:
        """Write down settings, versions and data; tell of what has changed since the last start."""
        import yaml

        (self.path / "states").mkdir(parents=True, exist_ok=True)
        config = self.settings.model_dump(mode="json")
        told = self.path / "config.yaml"
        changed: Figures = {}
        if told.exists():
            before = yaml.safe_load(told.read_text("utf8"))
            names = sorted((before.keys() | config.keys()) - FREE)
            changed = {n: [before.get(n), config.get(n)] for n in names if before.get(n) != config.get(n)}
        _write(told, yaml.safe_dump(config, sort_keys=False))
        facts = {"avatar": __version__, "python": platform.python_version(), **_versions()}
        start = {**facts, "machine": platform.machine(), "data": data_digest(self.settings.data)}
        runs = self.path / "run.json"
        starts = json.loads(runs.read_text("utf8")) if runs.exists() else []
        if starts and starts[-1]["data"] != start["data"]:
            changed["data"] = [starts[-1]["data"], start["data"]]
        _write(runs, json.dumps([*starts, start], indent=1) + "\n")
        if changed:
            logger.warning("%s: goes on with other settings: %s", self.path, ", ".join(changed))
            self.log({"changed": changed})

    def log(self, figures: Figures) -> None:
        """Add a line to the log."""
        with self.log_file.open("a") as file:
            file.write(json.dumps(figures) + "\n")

    def lines(self) -> list[Figures]:
        """The log; a last line that is cut short is left out."""
        if not self.log_file.exists():
            return []
        return list(_whole(self.log_file.read_text("utf8")))

    def alarm(self, step: int, what: str) -> None:
        """Tell of something that a person should look at."""
        logger.warning("%s: step %d: %s", self.path, step, what)
        self.log({"step": step, "alarm": what})

    def resume(self) -> dict[str, Any] | None:
        """The newest state, None for a new run. What the log says of later steps is taken off."""
        numbers = self.states()
        if not numbers:
            return None
        state = torch.load(self.state_path(numbers[-1]), weights_only=True)
        kept = [line for line in self.lines() if line.get("step", 0) <= state["step"]]
        _write(self.log_file, "".join(json.dumps(line) + "\n" for line in kept))
        return state

    def average(self) -> dict[str, torch.Tensor]:
        """The averaged weights of the newest state, in full precision."""
        state = torch.load(self.state_path(self.states()[-1]), weights_only=True)
        return dict(state["ema"])

    def states(self) -> list[int]:
        """Steps of the states that are there, in order."""
        return sorted(int(path.stem.partition("-")[2]) for path in (self.path / "states").glob("state-*.pt"))

    def state_path(self, step: int) -> Path:
        """Where the state of a step is."""
        return self.path / "states" / f"state-{step}.pt"

    def save(self, state: Mapping[str, Any]) -> None:
        """Write a state, then remove those that are too old."""
        target = self.state_path(state["step"])
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
        for step in self.states()[: -self.settings.keep]:
            self.state_path(step).unlink()

    def show(self, step: int, make: Callable[[Path], dict[str, float]]) -> dict[str, float]:
        """Let a recipe write videos into a folder, keep them under the name of the step, draw their sheet;
        returns the recipe's figures."""
        from avatar.recipes.validation import contact_sheet

        place, target = self.path / "validation.part", self.path / "validation"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        target.mkdir(exist_ok=True)
        figures = make(place)
        if videos := sorted(place.glob("*.mp4")):
            contact_sheet(videos, f"step {step}").save(place / "sheet.png")
            os.replace(place / "sheet.png", self.path / "sheet.png")
        for video in videos:
            os.replace(video, target / f"step-{step}-{video.name}")
        shutil.rmtree(place)
        return figures

    def plot(self) -> None:
        """Draw every figure of the log over the steps."""
        from matplotlib.figure import Figure

        lines = [line for line in self.lines() if "step" in line and "alarm" not in line]
        names = sorted(
            {n for line in lines for n, v in line.items() if isinstance(v, float) and n != "seconds"}
        )
        if not names:
            return
        figure = Figure(figsize=(9, 2 * len(names)), layout="constrained")
        for axes, name in zip(figure.subplots(len(names), squeeze=False)[:, 0], names, strict=True):
            points = [(line["step"], line[name]) for line in lines if name in line]
            axes.plot(*zip(*points, strict=True), marker=".", linewidth=1)
            axes.set_ylabel(name)
        axes.set_xlabel("step")
        part = self.path / "losses.part.png"
        figure.savefig(part, dpi=90)
        os.replace(part, self.path / "losses.png")


def data_digest(folder: Path) -> str:
    """What a folder of training data, or one file, is known by: names, sizes and beginnings of its files."""
    digest = hashlib.sha256()
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        digest.update(f"{path.relative_to(folder.parent)} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(HEAD))
    return digest.hexdigest()[:16]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _whole(text: str) -> Iterator[Figures]:
    for line in text.splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            return


def _write(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(text, "utf8")
    os.replace(part, path)
