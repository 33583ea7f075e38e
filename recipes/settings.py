"""Settings of a recipe: defaults in a YAML file beside it, changed by `key=value` words; unknown keys
are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from avatar.errors import UserError


class RecipeSettings(BaseModel):
    """What a recipe is told: the keys of the YAML beside it, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(RecipeSettings):
    """What every training recipe needs.

    Attributes:
        data: folder of training samples.
        out: run folder; holds the newest state, the weights and the log.
        start: weights to begin with; what they lack begins as it is made, and the log names it.
        steps: optimiser steps of the whole run; the learning rate falls to zero over the last `decay` share
            of them.
        batch: samples of one part of a step.
        accumulate: parts that each process takes before it changes the weights.
        optimizer: "adamw", or "adamw8bit", whose state needs a quarter of the memory.
        minutes: stop after this much time and leave a state to resume from; 0 = run to the end.
        save_minutes: between two states; `save_steps` does the same by steps, 0 = by the clock alone.
        keep: states that are kept.
        show_every: steps between validation videos and their figures, of recipes that make some; 0 for none.
        watch: figure of the log that should fall; the weights where it is lowest are kept beside.
        patience: looks at it without a fall before the log has an alarm.
        trackers: what else is told of the figures: tensorboard, wandb, trackio, whichever is installed.
    """

    data: Path
    out: Path
    start: Path | None = None
    steps: PositiveInt
    batch: PositiveInt
    accumulate: PositiveInt = 1
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    learning_rate: float
    warmup: int = 100
    decay: float = 0.25
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema: float = 0.998
    seed: int = 0
    minutes: float = 0
    save_minutes: float = 5
    save_steps: NonNegativeInt = 0
    keep: PositiveInt = 2
    log_every: PositiveInt = 20
    probe_every: PositiveInt = 500
    show_every: NonNegativeInt = 0
    watch: str = ""
    patience: PositiveInt = 5
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    threads: PositiveInt = 2


SettingsType = TypeVar("SettingsType", bound=RecipeSettings)


def recipe_of(words: list[str], program: str) -> tuple[str, list[str]]:
    """Recipe and settings in the words of a program that has several; the first may name the recipe, else it
    is the program's own."""
    return (words[0], words[1:]) if words and "=" not in words[0] else (program, words)


def read_settings(kind: type[SettingsType], recipe: str, words: Sequence[str]) -> SettingsType:
    """Settings of a recipe, changed by words such as `batch=4`.

    Args:
        recipe: the program's `__file__`, whose YAML lies beside it, or the name of a recipe of this package.

    Raises:
        UserError: a word is not key=value, a key is unknown (the nearest valid one is named) or a value
        does not fit.
    """
    import yaml

    own = Path(recipe).suffix == ".py"
    source = (
        Path(recipe).with_suffix(".yaml") if own else Path(str(files("avatar.recipes"))) / f"{recipe}.yaml"
    )
    recipe = source.stem
    try:
        values = yaml.safe_load(source.read_text("utf8"))
    except OSError as error:
        raise UserError(f"{source}: not there; a recipe's settings lie beside its program") from error
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: a setting is written key=value")
        if key not in kind.model_fields:
            near = get_close_matches(key, kind.model_fields, 1) or sorted(kind.model_fields)
            raise UserError(f"{key}: recipe {recipe} has no such setting; did you mean {near[0]}?")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{word}: the value is not valid YAML, put it in quotes") from error
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{'.'.join(map(str, first['loc']))}: recipe {recipe}: {first['msg'].lower()}"
        ) from error


def run(main: Callable[[list[str]], object]) -> None:
    """A recipe as a program: its `main` gets the words of the command line; a user's mistake is one line."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"avatar: {error}")
