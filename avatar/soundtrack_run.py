"""`avatar soundtrack` behind its options: check, say what is done, make the sound with a progress bar."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from avatar.media import check_file
from avatar.options import SoundtrackOptions
from avatar.run import notes
from avatar.sound_mix import Old
from avatar.soundtrack import Score, Soundtrack, check_old, evaluations, video_length
from avatar.writer import check_output


def run(
    clip: Path,
    out: Path,
    *,
    old: Old | None,
    options: SoundtrackOptions,
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
    check_file(clip, "video")
    seconds = video_length(clip)
    if ending == ".mp4":
        old = check_old(clip, old)
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    with notes(console), console.status("loading"):
        net = Soundtrack.from_pretrained(preset, folder=weights, device=device)
    console.print(f"{clip} -> {out}")
    settings = dict(options) | {
        "level": f"{options.level:g} LU",
        "old sound": old,
        "preset": preset,
        "seconds": f"{float(seconds):g}",
    }
    shown = {name: value for name, value in settings.items() if value is not None}
    console.print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in shown.items()))
    score = make(net, clip, seconds, console, options)
    score.save(out, old=old, level=options.level, force=force)


def make(
    net: Soundtrack, clip: Path, seconds: Fraction, console: Console, options: SoundtrackOptions
) -> Score:
    """The sound of a video, with a progress bar."""
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=console, disable=console.quiet) as progress:
        task = progress.add_task("", total=evaluations(seconds, options.steps))
        return net.score(clip, tick=lambda: progress.advance(task), **dict(options))
