"""What a run costs: wall time, peak memory (Linux only), time to the first frame; each in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, NamedTuple

from avatar import media
from avatar.errors import UserError
from avatar.report import Cost

POLL = 0.05  # seconds between looks at the memory of child processes
AVATAR = (sys.executable, "-m", "avatar")  # the command, wherever it is installed


class Usage(NamedTuple):
    """What one program took."""

    wall: float  # seconds
    memory: int  # bytes, peak resident set of the program itself
    children: int  # bytes, the same of its child processes together
    quarters: tuple[int, int, int, int]  # bytes, peak of all together in each quarter of the time


def _children(pid: int) -> set[int]:
    """Processes started by a process and by its children (Linux)."""
    found: set[int] = set()
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found |= {child} | _children(child)
    return found


def _resident(pid: int, which: str = "VmHWM") -> int:
    """Resident set of a living process in bytes (Linux): its high-water mark, or what it is now (VmRSS)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{which}:"):
            return int(line.split()[1]) * 1024
    return 0


def peak_memory(call: Callable[[], object]) -> int:
    """Bytes that a call adds to the peak of this process's resident set (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from now
    before = _resident(os.getpid())
    call()
    return _resident(os.getpid()) - before


class Watcher(threading.Thread):
    """Looks at the memory of a process and its children until told to stop (Linux)."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.memory = 0  # bytes, peak of the process
        self.children = 0  # bytes, largest sum of the peaks of children that lived at the same time
        self.course: list[int] = []  # bytes, of all together at every look
        self.stop = threading.Event()

    def run(self) -> None:
        before: set[int] = set()
        while not self.stop.wait(POLL):
            try:
                now = _children(self.pid)
                self.memory = max(self.memory, _resident(self.pid))
                # Until it calls exec, a child shows its parent's memory: it counts from the second look on.
                self.children = max(self.children, sum(_resident(child) for child in now & before))
                alive = (self.pid, *(now & before))
                self.course.append(sum(_resident(process, "VmRSS") for process in alive))
                before = now
            except OSError:  # a process ended between two looks
                continue


def usage(command: Sequence[str], output: IO[bytes] | None = None) -> Usage:
    """Run a command to its end and measure it.

    Args:
        command: argument list.
        output: where its standard output goes; nowhere by default.

    Raises:
        UserError: the command failed; its last line of standard error is in the message.
    """
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output or subprocess.DEVNULL, stderr=errors)
        watcher = Watcher(process.pid)
        watcher.start()
        process.wait()
        wall = time.perf_counter() - began
        watcher.stop.set()
        watcher.join()
        if process.returncode != 0:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise UserError(f"`{' '.join(command)}` failed with code {process.returncode}: {lines[-1]}")
    # Not getrusage: its peak begins with the memory of the process that started the program.
    return Usage(wall, watcher.memory, watcher.children, quarters(watcher.course))


def quarters(course: Sequence[int]) -> tuple[int, int, int, int]:
    """The highest of each quarter of some values; 0 of one that holds none."""
    borders = [len(course) * number // 4 for number in range(5)]
    first, second, third, last = (max(course[a:b], default=0) for a, b in pairwise(borders))
    return first, second, third, last


class Startup(NamedTuple):
    """Seconds from the start of the program until the nets are loaded, and until the first frame is there."""

    load: float
    first_frame: float


def startup(reference: Path, audio: Path) -> Startup:
    """Measure the start of `Animator.stream` in a process of its own."""
    with tempfile.TemporaryFile() as output:
        began = time.time()
        usage([sys.executable, "-m", "avatar.measure", str(reference), str(audio)], output)
        output.seek(0)
        loaded, first = json.loads(output.read().splitlines()[-1])
    return Startup(loaded - began, first - began)


def drive_cost(reference: Path, audio: Path, out: Path, start: Startup, options: Sequence[str] = ()) -> Cost:
    """Run the installed `avatar drive` and measure it.

    Args:
        reference: the photo.
        audio: the speech.
        out: video to write; one that is there is replaced.
        start: from `startup`, whose load time is taken off the wall time.
        options: further options of `avatar drive`.
    """
    inputs = ["--ref", str(reference), "--audio", str(audio), "--out", str(out)]
    taken = usage([*AVATAR, "drive", *inputs, "--force", "--quiet", *options])
    seconds = float(media.audio_seconds(audio))
    return Cost(
        video_seconds=seconds,
        wall=taken.wall,
        wall_ratio=max(0.0, taken.wall - start.load) / seconds,
        load=start.load,
        first_frame=start.first_frame,
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
