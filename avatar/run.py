"""`avatar drive` behind its options: check, say what is done, write frame by frame with a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from avatar.media import check_file
from avatar.options import DriveOptions
from avatar.writer import VideoWriter, check_output


@contextmanager
def notes(console: Console) -> Iterator[None]:
    """Show warnings of the library to the user of the command line."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(f"note: {record.getMessage()}")

    logger, handler = logging.getLogger("avatar"), Notes(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def bar(console: Console) -> Progress:
    """A progress bar that counts frames; a quiet console shows none."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    return Progress(*columns, console=console, disable=console.quiet)


def _plain(value: object) -> str:
    return f"{float(value):g}" if isinstance(value, Fraction) else str(value)


def drive(
    ref: Path,
    audio: Path | None,
    out: Path,
    options: DriveOptions,
    *,
    pose: Path | None,
    expression: str | None,
    preset: str,
    device: str,
    whisper: str | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write the video. What can be wrong with the files' names is asked before the nets are loaded.

    Raises:
        UserError: anything wrong with the inputs or the output.
    """
    check_output(out, force)
    check_file(ref, "picture")
    if audio is not None:
        check_file(audio, "sound")
    if pose is not None:
        check_file(pose, "pose")
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    with notes(console), console.status("loading"):
        from avatar.animator import Animator

        animator = Animator.from_pretrained(preset, device=device, whisper=whisper)
        session = animator.session(ref, audio, options, pose=pose, expression=expression)
    width, height = session.size
    given = (str(driver) for driver in (ref, audio, pose, expression) if driver is not None)
    console.print(f"{' + '.join(given)} -> {out}")
    settings = dict(options) | {"size": f"{width}x{height}", "frames": session.frames, "preset": preset}
    console.print(
        ", ".join(f"{name} {_plain(value)}" for name, value in settings.items() if value is not None)
    )
    for notice in session.notices:
        console.print(f"note: {notice}")
    length = Fraction(session.frames) / session.fps
    writer = VideoWriter(out, size=session.size, fps=session.fps, audio=audio, seconds=length, force=force)
    with writer, bar(console) as progress:
        for frame in progress.track(session, total=session.frames):
            writer.write(frame)
