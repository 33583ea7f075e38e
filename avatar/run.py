"""`avatar drive` behind its options: check, say what is done, write frame by frame with a progress bar."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from avatar.errors import UserError
from avatar.media import check_file
from avatar.options import DriveOptions, SoundtrackOptions
from avatar.writer import check_output

FILES = {"audio": "sound", "pose": "pose"}  # kinds of drivers that are files, and what a message calls them


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


def bar(console: Console, what: str = "frames") -> Progress:
    """A progress bar that counts frames or something else; a quiet console shows none."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{what},"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    return Progress(*columns, console=console, disable=console.quiet)


def _plain(value: object) -> str:
    return f"{float(value):g}" if isinstance(value, Fraction) else str(value)


def addressed(text: str) -> tuple[int | None, str]:
    """The number of the face that a driver is for, and the driver: 1:b.wav is b.wav for face 1.

    A file whose own name begins like that is that file, unless what follows the colon is a file too.
    """
    number, colon, rest = text.partition(":")
    if colon and rest and number.isdecimal() and (Path(rest).exists() or not Path(text).exists()):
        return int(number), rest
    return None, text


def drive(
    ref: Path,
    drivers: Mapping[str, Sequence[str]],
    out: Path,
    options: DriveOptions,
    *,
    last: Path | None,
    pose_detector: str,
    dwpose_files: Path | None,
    preset: str,
    device: str,
    whisper: str | None,
    adapters: Sequence[tuple[Path, float]],
    soundtrack: str | None,
    force: bool,
    quiet: bool,
) -> None:
    """Write the video. What can be wrong with the files' names is asked before the nets are loaded.

    Args:
        drivers: by kind of signal, each a file or a word, with the number of a face before it or without.
        soundtrack: what else is to be heard, "" to leave that to the picture.

    Raises:
        UserError: anything wrong with the inputs or the output.
    """
    check_output(out, force)
    check_file(ref, "picture")
    if last is not None:
        check_file(last, "picture")
    given = [(kind, *addressed(text)) for kind, texts in drivers.items() for text in texts]
    for kind, _, text in given:
        if kind in FILES:
            check_file(Path(text), FILES[kind])
    if not drivers["pose"] and (pose_detector != "mediapipe" or dwpose_files is not None):
        raise UserError("--pose-detector and --dwpose-files have no effect without --pose")
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    with notes(console), console.status("loading"):
        from avatar.animator import Animator
        from avatar.drivers.pose import make_detector
        from avatar.inputs import read_driver

        how = {"pose": {"detector": make_detector(pose_detector, dwpose_files)}} if drivers["pose"] else {}
        animator = Animator.from_pretrained(preset, device=device, whisper=whisper, adapters=adapters)
        signals = []
        for kind, face, text in given:
            signal = read_driver(kind, text, **how.get(kind, {}))
            signals.append(signal if face is None else signal.on_face(face))
        session = animator.session(ref, options=options, signals=signals, last=last)
        track = None
        if soundtrack is not None:
            from avatar.drivers.ducking import load_detector
            from avatar.soundtrack import Soundtrack

            track = Soundtrack.from_pretrained(device=device)
            track.read(soundtrack)  # what is missing is told before the video is made
            if session.sounds:
                load_detector()
    width, height = session.size
    named = [
        str(ref),
        *([str(last)] if last else []),
        *(text for texts in drivers.values() for text in texts),
    ]
    console.print(f"{' + '.join(named)} -> {out}")
    settings = dict(options) | {
        "size": f"{width}x{height}",
        "fps": session.fps,
        "frames": session.frames,
        "preset": preset,
    }
    named_adapters = " + ".join(f"{path}:{strength:g}" for path, strength in adapters)
    settings |= {"adapter": named_adapters or None, "soundtrack": soundtrack}
    console.print(
        ", ".join(f"{name} {_plain(value)}" for name, value in settings.items() if value is not None)
    )
    with TemporaryDirectory(prefix="avatar-") as folder:
        video = out if track is None else Path(folder, "drive.mp4")
        with bar(console) as progress:
            session.save(video, force, lambda frames: progress.track(frames, total=session.frames))
        if track is not None:
            from avatar.soundtrack_run import make

            asked = SoundtrackOptions(prompt=soundtrack, seed=options.seed)
            score = make(track, video, session.frames / session.fps, console, asked)
            score.save(out, old="mix" if session.sounds else None, force=force)
