"""The recipes of the package: each is a program and a YAML of settings. Nothing heavy is imported.

A recipe is a YAML whose header has a line `# Run:  python -m avatar.recipes.PROGRAM ...`; its first line is
its purpose. A program may have several YAMLs, one for each thing that it trains.
"""

from __future__ import annotations

import re
import shutil
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from avatar.errors import UserError

COMMAND = re.compile(r"^# Run: +(?:python|accelerate launch) -m avatar\.recipes\.(\w+)", re.MULTILINE)


class Recipe(NamedTuple):
    """One recipe: its name, what it is for, and its two files."""

    name: str
    purpose: str
    settings: Path
    program: Path


def recipes() -> list[Recipe]:
    """All recipes of the package, by name."""
    folder = Path(str(files("avatar.recipes")))
    found = []
    for settings in sorted(folder.glob("*.yaml")):
        text = settings.read_text("utf8")
        if command := COMMAND.search(text):
            purpose = text.partition("\n")[0].removeprefix("# ")
            found.append(Recipe(settings.stem, purpose, settings, folder / f"{command[1]}.py"))
    return found


def find(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        UserError: there is none; the nearest name is in the message.
    """
    known = {recipe.name: recipe for recipe in recipes()}
    if name not in known:
        near = get_close_matches(name, known, 1, 0.0)[0]
        raise UserError(f"{name}: no such recipe; did you mean {near}? `avatar recipes ls` lists them")
    return known[name]


def copy(recipe: Recipe, target: Path) -> tuple[Path, Path]:
    """Copy a recipe's program and settings, so that the program reads the settings beside it.

    Args:
        target: a folder, or the copy's own name in one.

    Raises:
        UserError: a file is there already, or the folder is not.
    """
    stem = target / recipe.name if target.is_dir() else target
    if not stem.parent.is_dir():
        raise UserError(f"{stem.parent}: no such folder; make it first")
    if not stem.stem.isidentifier():
        raise UserError(f"{stem}: name the copy as a Python file is named, without dots, dashes and spaces")
    copies = stem.with_suffix(".py"), stem.with_suffix(".yaml")
    for path in copies:
        if path.exists():
            raise UserError(f"{path}: there already; give another name or remove it")
    shutil.copyfile(recipe.program, copies[0])
    shutil.copyfile(recipe.settings, copies[1])
    return copies
