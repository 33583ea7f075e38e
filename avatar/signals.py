"""`avatar signals` behind its options: check, take the signal, say what it is, show it."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from avatar.media import check_file, read_video
from avatar.run import bar, notes
from avatar.writer import VideoWriter, check_output


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
    check_output(out, force, ".safetensors")
    if preview is not None:
        check_output(preview, force)
    check_file(video, "video")
    console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, markup=False)
    with notes(console):
        from avatar.drivers.pose import make_detector, overlays, read_pose
        from avatar.drivers.skeleton import SEEN

        looker = make_detector(detector, dwpose)
        with bar(console) as progress:
            signal = read_pose(
                video, looker, person, lambda frames, count: progress.track(frames, total=count)
            )
        signal.save(out)
        seen = (signal.scores >= SEEN).sum(1).mean()
        console.print(
            f"{video} -> {out}: {len(signal)} frames, fps {float(signal.fps):g},"
            f" {seen:.0f} of {signal.scores.shape[1]} points seen"
        )
        if preview is None:
            return
        writer = VideoWriter(preview, size=signal.size, fps=signal.fps, force=force)
        with writer, bar(console) as progress:
            for frame in progress.track(overlays(read_video(video), signal), total=len(signal)):
                writer.write(frame)
