"""What a run costs: wall time, peak memory, time to the first frame, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from avatar.errors import UserError
from avatar.report import Cost

POLL = 0.05  # seconds between looks at the memory of child processes
AVATAR = (
    sys.executable,
    "-c",
    "from avatar.cli import main; main()",
)  # the command, wherever it is installed


class Usage(NamedTuple):
    """What one program took."""

    wall: float  # seconds
    memory: int  # bytes, peak resident set of the program itself
    children: int  # bytes, sum of the peak resident sets of its child processes


def _children(pid: int) -> set[int]:
    """Processes started by a process and by its children (Linux)."""
    found: set[int] = set()
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found |= {child} | _children(child)
    return found


def _peak(pid: int) -> int:
    """High-water mark of a living process's resident set in bytes (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _watch(pid: int, peaks: dict[int, int], stop: threading.Event) -> None:
    while not stop.wait(POLL):
        try:
            for child in _children(pid):
                peaks[child] = max(peaks.get(child, 0), _peak(child))
        except OSError:  # it ended between two looks
            continue


def usage(command: Sequence[str], output: IO[bytes] | None = None) -> Usage:
    """Run a command to its end and measure it.

    Args:
        command: argument list.
        output: where its standard output goes; nowhere by default.

    Raises:
        UserError: the command failed; its last line of standard error is in the message.
    """
    peaks: dict[int, int] = {}
    stop = threading.Event()
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output or subprocess.DEVNULL, stderr=errors)
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, stop))
        watcher.start()
        _, status, resources = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        stop.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen knows it was waited for
        if process.returncode != 0:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise UserError(f"`{' '.join(command)}` failed with code {process.returncode}: {lines[-1]}")
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB on Linux
    # wait4 gives the largest of the program and its children, of which the program is by far the largest.
    return Usage(wall, resources.ru_maxrss * unit, sum(peaks.values()))


def first_frame(reference: Path, audio: Path) -> tuple[float, float]:
    """Seconds from the start of Python until the nets are loaded, and until `stream` gives a frame."""
    command = [sys.executable, "-m", "avatar.measure", str(reference), str(audio)]
    with tempfile.TemporaryFile() as output:
        began = time.time()
        usage(command, output)
        output.seek(0)
        loaded, first = json.loads(output.read().splitlines()[-1])
    return loaded - began, first - began


def drive_cost(
    reference: Path, audio: Path, out: Path, video_seconds: float, options: Sequence[str] = ()
) -> Cost:
    """Run the installed `avatar drive` and measure it; the load time comes from a second short run.

    Args:
        reference: the photo.
        audio: the speech.
        out: video to write.
        video_seconds: its length.
        options: further options of `avatar drive`.
    """
    inputs = ["--ref", str(reference), "--audio", str(audio), "--out", str(out)]
    taken = usage([*AVATAR, "drive", *inputs, "--force", "--quiet", *options])
    load, first = first_frame(reference, audio)
    return Cost(
        video_seconds=video_seconds,
        wall=taken.wall,
        wall_ratio=max(0.0, taken.wall - load) / video_seconds,
        load=load,
        first_frame=first,
        memory=taken.memory,
        encoder_memory=taken.children,
    )


def main(reference: str, audio: str) -> None:
    """Print when the nets were loaded and when the first frame was there, in seconds since the epoch."""
    from avatar import Animator

    animator = Animator.from_pretrained("mini")
    loaded = time.time()
    next(iter(animator.stream(ref=reference, audio=audio)))
    print(json.dumps([loaded, time.time()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
