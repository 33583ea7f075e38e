"""`avatar weights`: look at public weights and convert them. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from avatar.errors import UserError

app = typer.Typer(help="Look at public weights and convert them.")

Source = Annotated[Path, typer.Argument(help="file or folder", show_default=False)]
Preset = Annotated[
    str | None,
    typer.Option(help="public preset, where the file does not tell", show_default=False),
]
Key = Annotated[
    Literal["module", "ema", "state_dict"] | None,
    typer.Option(help="which tensors of a .pt file that has several", show_default=False),
]


@app.command()
def inspect(path: Source, preset: Preset = None, key: Key = None) -> None:
    """Say what a file or a folder holds, and all that is missing from it or unexpected."""
    from avatar import weights

    lines, wrong = weights.describe(path, preset, key)
    for line in lines:
        typer.echo(line)
    if wrong:
        raise UserError(f"{path} does not fit: {wrong}")
    typer.echo("nothing is missing or unexpected")


@app.command()
def convert(
    path: Source,
    out: Annotated[Path, typer.Argument(help="file or folder to write", show_default=False)],
    to: Annotated[Literal["avatar", "diffusers"], typer.Option(help="layout to write")] = "avatar",
    lora: Annotated[
        list[str] | None,
        typer.Option(help="LoRA to merge, FILE, FILE=STRENGTH or FILE:STRENGTH; may be repeated"),
    ] = None,
    preset: Preset = None,
    key: Key = None,
) -> None:
    """Write the same weights in another layout, LoRA files merged into them where asked for."""
    from avatar import weights

    loras = [lora_strength(given) for given in lora or ()]
    found = weights.merge_loras(weights.load(path, preset, key), loras)
    weights.write(found, out, to)
    typer.echo(f"{path} -> {out}: {found.net.__name__}, layout {to}, sizes from {found.told_by}")
    for file, strength in loras:
        typer.echo(f"merged {file} by {strength:g}")


def lora_strength(given: str, option: str = "--lora") -> tuple[Path, float]:
    """The file and strength of a LoRA or an adapter, written FILE, FILE=STRENGTH or FILE:STRENGTH.

    Raises:
        UserError: something behind the sign that is no number.
    """
    match = re.fullmatch(r"(.+)[=:]([^=:/\\]*)", given)
    if match is None or Path(given).exists():
        return Path(given), 1.0
    try:
        return Path(match[1]), float(match[2])
    except ValueError as error:
        raise UserError(
            f"{option} {given}: the strength after {given[len(match[1])]} must be a number"
        ) from error
