"""`avatar soundtrack`: sound for a video. Nothing heavy is imported before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from avatar.errors import UserError


def soundtrack(
    clip: Annotated[Path, typer.Argument(help="video: mp4, mov, mkv, webm ...", show_default=False)],
    prompt: Annotated[
        str | None, typer.Option(help="what is to be heard; else the picture alone says")
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="what is not to be heard")] = None,
    out: Annotated[
        Path | None, typer.Option(help="mp4 file to write, or wav for the sound alone [CLIP-sound.mp4]")
    ] = None,
    level: Annotated[float, typer.Option(help="loudness under speech, LU relative to it")] = -18.0,
    mix: Annotated[bool, typer.Option("--mix", help="lay it under the sound that the video has")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="drop the sound that the video has")] = False,
    keep_speech: Annotated[
        bool, typer.Option("--keep-speech", help="keep only speech of the sound that the video has")
    ] = False,
    seed: Annotated[int, typer.Option(help="of the noise that the sound begins as")] = 0,
    steps: Annotated[int, typer.Option(help="from noise to sound; more is finer and slower")] = 16,
    guidance: Annotated[float, typer.Option(help="how closely picture and prompt are followed")] = 3.0,
    preset: Annotated[str, typer.Option(help="set of nets")] = "mini",
    weights: Annotated[
        Path | None, typer.Option(help="folder with other soundtrack_*.safetensors of the preset's kind")
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"], typer.Option(help="where the nets run")
    ] = "auto",
    force: Annotated[bool, typer.Option("--force", help="replace an existing output file")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="print nothing but errors")] = False,
) -> None:
    """Give a video the sound of what it shows, under the speech that it may have."""
    chosen = [
        name for name, given in (("mix", mix), ("replace", replace), ("keep-speech", keep_speech)) if given
    ]
    if len(chosen) > 1:
        raise UserError(f"--{chosen[0]} and --{chosen[1]} exclude each other")
    if not -60 <= level <= 20:
        raise UserError(f"--level {level:g}: must be from -60 to 20 LU")
    from avatar import soundtrack_run

    soundtrack_run.run(
        clip,
        out or clip.with_name(f"{clip.stem}-sound.mp4"),
        old=chosen[0] if chosen else None,  # type: ignore[arg-type]
        prompt=prompt,
        negative_prompt=negative_prompt,
        level=level,
        seed=seed,
        steps=steps,
        guidance=guidance,
        preset=preset,
        weights=weights,
        device=device,
        force=force,
        quiet=quiet,
    )
