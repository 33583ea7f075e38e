"""Footage opened and clips written by ffmpeg: every video on one grid of 25 frames a second, sound at 16 kHz.

Time 0 is the start of the file: frame i is what a player shows at i / 25 s, whatever rate, rotation or shape
of pixels the file has, and sound that starts late has silence in front.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar import ffmpeg
from avatar.drivers.face import Crop
from avatar.errors import UserError
from avatar.media import MONO, RATE, check_file
from avatar.recipes.shots import FPS
from avatar.writer import MATRIX, TAGS

SMALL = 640  # px, longer side of the frames in which faces are looked for
# Of the clips: finer than what nets see of them. The fast preset codes as well as "veryfast" in less than two
# thirds of its time once it looks ahead, for a quarter more bytes.
X264 = "chroma-qp-offset=-6:aq-mode=0:mbtree=1:rc-lookahead=10"
CODED = ["-c:v", "libx264", "-preset", "superfast", "-threads", "1", "-x264-params", X264, "-crf", "16"]
# What runs side by side is processes; threads of one would only make it dearer.
ONE_THREAD = ["-threads", "1"]
LEAD = (
    5  # frames that are read before the first one: after a jump ffmpeg leaves out a frame that is still shown
)
SQUARE_PIXELS = "scale=trunc(iw*sar/2)*2:trunc(ih/2)*2,setsar=1"
CHUNK = 1 << 16  # samples


class OutputError(UserError):
    """What stops a run: a file that can not be written, whatever the footage is."""


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What the head of a video file says; `seconds` is only declared, and 0 where it is not."""

    width: int  # px, as shown: rotated, with square pixels
    height: int
    seconds: float
    has_sound: bool

    @property
    def small(self) -> tuple[int, int]:
        """Width and height of the frames in which faces are looked for."""
        scale = min(1.0, SMALL / max(self.width, self.height))
        return max(2, round(self.width * scale / 2) * 2), max(2, round(self.height * scale / 2) * 2)


def probe(path: Path) -> Footage:
    """Open a video and decode one frame of it.

    Raises:
        UserError: missing, empty or damaged file, no picture track.
    """
    check_file(path, "video")
    head = (
        "-map",
        "0:v:0",
        "-frames:v",
        "1",
        "-vf",
        SQUARE_PIXELS,
        "-pix_fmt",
        "yuv420p",
        "-f",
        "yuv4mpegpipe",
    )
    with ffmpeg.reading(path, *head) as reader:
        line = re.match(rb"YUV4MPEG2 W(\d+) H(\d+)", reader.stdout.readline())
        reader.stdout.read()
        log = reader.finish()
    if line is None or "(attached pic)" in log:
        raise UserError(f"{path}: not a video that can be read ({ffmpeg.cause(log)})")
    length = re.search(r"Duration: (\d+):(\d+):(\d+\.\d+)", log)
    hours, minutes, seconds = map(float, length.groups()) if length else (0.0, 0.0, 0.0)
    return Footage(
        width=int(line[1]),
        height=int(line[2]),
        seconds=3600 * hours + 60 * minutes + seconds,
        has_sound=" Audio: " in log.partition("Output #0")[0],
    )


def from_frame(first: int) -> tuple[list[str], str, str]:
    """Options that jump to a frame, and the filters of pictures and of sound that then begin with it."""
    lead = min(first, LEAD)
    pictures = f"fps={FPS}:start_time=0,trim=start_frame={lead},setpts=PTS-STARTPTS"
    sound = f"aresample=async=1:first_pts=0,atrim=start={lead / FPS:.3f},asetpts=PTS-STARTPTS"
    return ["-ss", f"{(first - lead) / FPS:.3f}"], pictures, sound


def read_sound(path: Path, first: int, count: int | None) -> Iterator[NDArray[np.float32]]:
    """Mono sound at 16 kHz of `count` frames from number `first` on, or all, (samples,) in pieces."""
    seek, _, sound = from_frame(first)
    end = () if count is None else ("-t", f"{count / FPS:.3f}")
    shape = ("-map", "0:a:0", "-af", f"{MONO},{sound}", "-ar", str(RATE), *end, "-f", "f32le")
    process = subprocess.Popen(
        ffmpeg.command(*seek, *ffmpeg.source(path), *shape, "pipe:1"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        while piece := process.stdout.read(4 * CHUNK):
            yield np.frombuffer(piece[: len(piece) // 4 * 4], "<f4")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def write_clip(path: Path, out: Path, *, first: int, count: int, crop: Crop, size: int, sound: bool) -> None:
    """Write `out`.mp4, and `out`.wav where there is sound: the square `crop` of `count` frames, at `size` px.

    Raises:
        UserError: it can not be written.
    """
    seconds = f"{count / FPS:.6f}"
    shape = f"crop={crop.side}:{crop.side}:{crop.x}:{crop.y},scale={size}:{size}"
    shape += f":out_color_matrix={MATRIX}:out_range=tv:{ffmpeg.EXACT},format=yuv420p,{TAGS}"
    seek, pictures, heard = from_frame(first)
    video = ["-vf", f"{pictures},{SQUARE_PIXELS},{shape}", "-frames:v", str(count)]
    video += CODED
    clip, wav = (out.with_name(f".{out.name}.part{end}") for end in (".mp4", ".wav"))
    arguments = [*ONE_THREAD, *seek, *ffmpeg.source(path), "-map", "0:v:0", *video]
    if sound:
        cut = f"{heard},apad,atrim=end={seconds}"
        arguments += ["-map", "0:a:0", "-af", cut, "-c:a", "aac", "-b:a", "128k"]
    arguments += ["-map_metadata", "-1", "-movflags", "+faststart", "-y", f"file:{clip}"]
    if sound:
        arguments += [
            "-map",
            "0:a:0",
            "-af",
            f"{MONO},{cut}",
            "-ar",
            str(RATE),
            "-c:a",
            "pcm_s16le",
            "-y",
            f"file:{wav}",
        ]
    try:
        _checked(ffmpeg.command(*arguments), out)
        if sound:
            os.replace(wav, out.with_suffix(".wav"))
        os.replace(clip, out.with_suffix(".mp4"))  # last: where it is, the clip is whole
    finally:
        clip.unlink(missing_ok=True)
        wav.unlink(missing_ok=True)


def _checked(command: Sequence[str], out: Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    if done.returncode == 0:
        return
    log = ffmpeg.SOURCE_TAG.sub("", done.stderr.decode(errors="replace"))
    if "No space left on device" in log or "File too large" in log:
        raise OutputError(f"{out.parent}: the disk is full, free some space and run the same command again")
    raise UserError(f"{out}: the clip could not be written ({ffmpeg.cause(log)})")
