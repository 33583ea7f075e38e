"""`avatar prepare`: videos become a training set. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    footage: Annotated[Path, typer.Argument(help="folder of videos, or one video", show_default=False)],
    out: Annotated[Path, typer.Option(help="folder for clips, lists and report", show_default=False)],
    size: Annotated[int, typer.Option(help="side of a clip, px")] = 512,
    crop: Annotated[float, typer.Option(min=1.2, max=20, help="side of a clip, face heights")] = 2.6,
    shortest: Annotated[float, typer.Option(help="shortest clip, s")] = 2.0,
    longest: Annotated[float, typer.Option(help="longest clip, s; more becomes several")] = 10.0,
    stage: Annotated[
        int, typer.Option(min=1, max=5, help="set of limits of the filters; 5 is strictest")
    ] = 1,
    skip: Annotated[list[str] | None, typer.Option(help="leave a filter out; may be repeated")] = None,
    balance: Annotated[
        float, typer.Option(min=0, help="most clips of one kind, in medians of all kinds; 0 for any number")
    ] = 3.0,
    clusters: Annotated[int | None, typer.Option(min=1, help="kinds that k-means tells apart")] = None,
    validation: Annotated[float, typer.Option(help="share of the seconds for validation")] = 0.1,
    transnet: Annotated[
        Path | None, typer.Option(help="weights of TransNetV2 (.onnx or .pth): cuts are looked for by it too")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="processes")] = 1,
    ray: Annotated[
        str | None, typer.Option(help="address of a Ray cluster that sees the same files, or local")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="replace what another run made in --out")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Make a training set of footage: clips of one person each, filtered, captioned and split by person.

    The same command goes on where it was ended.
    """
    from avatar.recipes.prepare import Options, prepare
    from avatar.recipes.records import Reading
    from avatar.recipes.selection import Rules

    weights = None if transnet is None else str(transnet)
    reading = Reading(shortest=shortest, longest=longest, crop=crop, size=size, transnet=weights)
    rules = Rules(
        stage=stage, skip=tuple(skip or ()), balance=balance, clusters=clusters, validation=validation
    )
    options = Options(reading=reading, rules=rules, jobs=jobs, ray=ray)
    prepare(footage, out, options, force=force, quiet=quiet)
