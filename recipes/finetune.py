"""Run a recipe by its name: `python -m avatar.recipes.finetune NAME key=value ...`; in several processes,
`accelerate launch -m avatar.recipes.finetune NAME key=value ...`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from avatar.errors import UserError
from avatar.recipes.catalogue import find
from avatar.recipes.settings import run

NEEDED = ("accelerate", "peft", "yaml")


def main(words: list[str]) -> object:
    """Run the recipe that the first word names with the others as its settings.

    Raises:
        UserError: no such recipe, or what training needs is not installed.
    """
    if not words or "=" in words[0]:
        raise UserError("the first word names a recipe; `avatar recipes ls` lists them")
    recipe = find(words[0])
    if any(find_spec(name) is None for name in NEEDED):
        raise UserError("training needs more packages: pip install avatar-toolkit[train]")
    program = import_module(f"avatar.recipes.{recipe.program.stem}")
    if recipe.program.stem != recipe.name:
        return program.main(words[1:], recipe.name)
    return program.main(words[1:])


if __name__ == "__main__":
    run(main)
