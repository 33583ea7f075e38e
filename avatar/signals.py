"""`avatar signals` behind its options: check, take the signal, say what it is, show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from avatar.media import check_file, is_picture, read_image, read_video
from avatar.run import bar, notes
from avatar.writer import VideoWriter, check_output

if TYPE_CHECKING:
    from avatar.drivers.signal import Signal

Pixels = NDArray[np.uint8]
Track = Callable[[Iterable[Pixels], int], Iterable[Pixels]]  # shows progress: frames and how many there are
S = TypeVar("S", bound="Signal")


def pose(
    video: Path,
    out: Path,
    preview: Path | None,
    *,
    detector: str,
    dwpose: Path | None,
    person: str,
    force: bool,
    quiet: bool,
) -> None:
    """Write the pose of a person in a video, and a film that shows it.

    Raises:
        UserError: anything wrong with the inputs or the outputs.
    """
    console = _checked(video, out, preview, force, quiet)
    with notes(console):
        from avatar.drivers.pose import make_detector, overlays, read_pose
        from avatar.drivers.skeleton import SEEN

        looker = make_detector(detector, dwpose)
        signal = _taken(console, out, lambda track: read_pose(video, looker, person, track))
        seen = (signal.scores >= SEEN).sum(1).mean()
        _tell(console, video, out, signal, f"{seen:.0f} of {signal.scores.shape[1]} points seen")
        if preview is not None:
            film = overlays(read_video(video), signal)
            _show(console, film, signal, preview, signal.size, force)


def expression(video: Path, out: Path, preview: Path | None, *, face: str, force: bool, quiet: bool) -> None:
    """Write the expression of a face in a video or photo, and a film that shows it.

    Raises:
        UserError: anything wrong with the inputs or the outputs.
    """
    console = _checked(video, out, preview, force, quiet)
    with notes(console):
        from avatar.drivers.expression import read_expression
        from avatar.drivers.face import parse_choice
        from avatar.drivers.preview import expression_overlays, preview_size

        parse_choice(face)
        signal = _taken(console, out, lambda track: read_expression(video, face, track))
        moved = (np.ptp(signal.curves, axis=0) > 0).sum() if len(signal) > 1 else 0
        _tell(console, video, out, signal, f"{moved} of {signal.curves.shape[1]} curves move")
        if preview is not None:
            first = read_image(video)
            frames = iter([first]) if is_picture(video) else read_video(video)
            film = expression_overlays(frames, signal, face, str(video))
            _show(console, film, signal, preview, preview_size((first.shape[1], first.shape[0])), force)


def _checked(video: Path, out: Path, preview: Path | None, force: bool, quiet: bool) -> Console:
    """The names are asked before anything heavy is loaded; where progress and notes go."""
    check_output(out, force, ".safetensors")
    if preview is not None:
        check_output(preview, force)
    check_file(video, "video")
    return Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)


def _taken(console: Console, out: Path, take: Callable[[Track], S]) -> S:
    """The signal, taken with a progress bar and written."""
    with bar(console) as progress:
        signal = take(lambda frames, count: progress.track(frames, total=count))
    signal.save(out)
    return signal


def _tell(console: Console, video: Path, out: Path, signal: Signal, found: str) -> None:
    many = "s"[: len(signal) != 1]
    console.print(f"{video} -> {out}: {len(signal)} frame{many}, fps {float(signal.fps):g}, {found}")


def _show(
    console: Console,
    film: Iterator[Pixels],
    signal: Signal,
    preview: Path,
    size: tuple[int, int],
    force: bool,
) -> None:
    writer = VideoWriter(preview, size=size, fps=signal.fps, force=force)
    with writer, bar(console) as progress:
        for frame in progress.track(film, total=len(signal)):
            writer.write(frame)
