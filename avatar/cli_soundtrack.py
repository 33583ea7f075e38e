"""`avatar soundtrack`: sound for a video. Nothing heavy is imported before it runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from avatar.cli_option import described
from avatar.errors import UserError
from avatar.options import SoundtrackOptions

DEFAULT = SoundtrackOptions()
_option = partial(described, SoundtrackOptions)


def soundtrack(
    clip: Annotated[Path, typer.Argument(help="video: mp4, mov, mkv, webm ...", show_default=False)],
    prompt: Annotated[str | None, _option("prompt")] = DEFAULT.prompt,
    negative_prompt: Annotated[str | None, _option("negative_prompt")] = DEFAULT.negative_prompt,
    out: Annotated[
        Path | None, typer.Option(help="mp4 file to write, or wav for the sound alone [CLIP-sound.mp4]")
    ] = None,
    level: Annotated[float, _option("level")] = DEFAULT.level,
    mix: Annotated[bool, typer.Option("--mix", help="lay it under the sound that the video has")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="drop the sound that the video has")] = False,
    keep_speech: Annotated[
        bool, typer.Option("--keep-speech", help="keep only speech of the sound that the video has")
    ] = False,
    seed: Annotated[int, _option("seed")] = DEFAULT.seed,
    steps: Annotated[int, _option("steps")] = DEFAULT.steps,
    guidance: Annotated[float, _option("guidance")] = DEFAULT.guidance,
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
    options = SoundtrackOptions(
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        steps=steps,
        guidance=guidance,
        level=level,
    )
    from avatar import soundtrack_run

    soundtrack_run.run(
        clip,
        out or clip.with_name(f"{clip.stem}-sound.mp4"),
        old=chosen[0] if chosen else None,  # type: ignore[arg-type]
        options=options,
        preset=preset,
        weights=weights,
        device=device,
        force=force,
        quiet=quiet,
    )
