"""`avatar soundtrack` behind its options: check, say what is done, make the sound with a progress bar."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from avatar.media import check_file
from avatar.run import notes
from avatar.sound_mix import Old
from avatar.soundtrack import STEPS, Score, Soundtrack, check_old, check_steps, evaluations, video_length
from avatar.writer import check_output


def run(
    clip: Path,
    out: Path,
    *,
    old: Old | None,
    prompt: str | None,
    negative_prompt: str | None,
    level: float,
    seed: int,
    steps: int,
    guidance: float,
    preset: str,
    weights: Path | None,
    device: str,
    force: bool,
    quiet: bool,
) -> None:
    """Write the video with its sound, or the sound alone; inputs are checked before nets are loaded.

    Raises:
        UserError: anything wrong with the inputs or the output.
    """
    ending = ".wav" if out.suffix.lower() == ".wav" else ".mp4"
    check_output(out, force, ending)
    check_steps(steps)
    check_file(clip, "video")
    seconds = video_length(clip)
    if ending == ".mp4":
        old = check_old(clip, old)
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    with notes(console), console.status("loading"):
        net = Soundtrack.from_pretrained(preset, folder=weights, device=device)
    console.print(f"{clip} -> {out}")
    settings = {
        "prompt": prompt,
        "negative prompt": negative_prompt,
        "old sound": old,
        "level": f"{level:g} LU",
    }
    settings |= {"seed": str(seed), "steps": str(steps), "guidance": f"{guidance:g}", "preset": preset}
    settings["seconds"] = f"{float(seconds):g}"
    console.print(", ".join(f"{name} {value}" for name, value in settings.items() if value is not None))
    score = make(
        net,
        clip,
        seconds,
        console,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        steps=steps,
        guidance=guidance,
    )
    score.save(out, old=old, level=level, force=force)


def make(net: Soundtrack, clip: Path, seconds: Fraction, console: Console, **how: Any) -> Score:
    """The sound of a video, with a progress bar; `how` as in `Soundtrack.score`."""
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=console, disable=console.quiet) as progress:
        task = progress.add_task("", total=evaluations(seconds, how.get("steps", STEPS)))
        return net.score(clip, tick=lambda: progress.advance(task), **how)
