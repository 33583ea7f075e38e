"""`avatar recipes` and `avatar finetune`. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List, copy and show the training recipes.")

Name = Annotated[str, typer.Argument(help="name of a recipe", show_default=False)]


@app.command()
def ls() -> None:
    """List all recipes, each with its purpose."""
    from avatar.recipes.catalogue import recipes

    found = recipes()
    width = max(len(recipe.name) for recipe in found)
    for recipe in found:
        typer.echo(f"{recipe.name:{width}}  {recipe.purpose}")


@app.command()
def cp(
    name: Name,
    dest: Annotated[Path, typer.Argument(help="folder, or name of the copy")] = Path("."),
) -> None:
    """Copy a recipe's program and settings, to change and run them: `python NAME.py key=value`."""
    from avatar.recipes.catalogue import copy, find

    program, settings = copy(find(name), dest)
    typer.echo(f"{program} and {settings}; run it by: python {program} key=value ...")


@app.command()
def show(name: Name) -> None:
    """Print a recipe's settings with their comments."""
    from avatar.recipes.catalogue import find

    typer.echo(find(name).settings.read_text("utf8"), nl=False)


def finetune(
    name: Name,
    words: Annotated[
        list[str] | None, typer.Argument(help="settings as key=value", show_default=False)
    ] = None,
    data: Annotated[Path | None, typer.Option(help="folder that `avatar prepare` wrote")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder to write")] = None,
) -> None:
    """Run a recipe; on many devices: accelerate launch -m avatar.recipes.finetune NAME key=value ..."""
    from avatar.recipes import finetune as program

    given = {"data": data, "out": out}
    own = [f"{key}={value}" for key, value in given.items() if value is not None]
    program.main([name, *own, *(words or [])])
