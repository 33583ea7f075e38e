"""The ffmpeg program that comes with imageio-ffmpeg, run by an argument list, never through a shell."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

# Containers of real recordings. Playlists (hls, concat) could make ffmpeg open other files and are left out.
FORMATS = (
    "wav,w64,aiff,caf,au,mp3,aac,flac,ogg,mov,matroska,avi,mpegts,mpeg,asf,flv,gif,webp_anim,amr,wv,h264,hevc"
)
# Without these swscale rounds down between yuv and rgb: pictures come out a level darker, which costs 3 dB.
EXACT = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
# Frames as PPM pictures carry their own size, whatever rotation the file asks for.
PPM = (
    "-map",
    "0:v:0",
    "-fps_mode",
    "passthrough",
    "-vf",
    f"scale={EXACT}",
    "-f",
    "image2pipe",
    "-c:v",
    "ppm",
)
ERROR = re.compile(r"\[(?:error|fatal|panic)\] (.*)")
SOURCE_TAG = re.compile(r"\[[^\]]* @ 0x[0-9a-f]+\] ")  # which part of ffmpeg speaks


def command(*arguments: str) -> list[str]:
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    return [program, "-hide_banner", "-nostdin", "-nostats", "-loglevel", "level+info", *arguments]


def source(path: Path) -> list[str]:
    """Arguments that name an input file."""
    # "file:" keeps names with a colon or a leading dash from being read as a protocol or an option.
    return ["-format_whitelist", FORMATS, "-i", f"file:{path}"]


def read_log(log: IO[bytes]) -> str:
    log.seek(0)
    return SOURCE_TAG.sub("", log.read().decode(errors="replace"))


def cause(log: str) -> str:
    """First error line of a log; the later ones mostly repeat that something failed."""
    found = ERROR.search(log)
    return found[1].strip().rstrip(".") if found else "ffmpeg gave no reason"


class Reader:
    """One run of ffmpeg that decodes a file to `stdout`."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        assert process.stdout is not None
        self.process = process
        self.stdout = process.stdout
        self._log = log

    def finish(self) -> str:
        """Wait for the end, once all output has been read, and give the log."""
        self.process.wait()
        return read_log(self._log)


@contextmanager
def reading(path: Path, *arguments: str) -> Iterator[Reader]:
    """Decode `path` by the output options in `arguments`; ffmpeg is ended on the way out."""
    with tempfile.TemporaryFile() as log:
        run = command(*source(path), *arguments, "pipe:1")
        process = subprocess.Popen(run, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        reader = Reader(process, log)
        try:
            yield reader
        finally:
            process.kill()
            process.wait()
            reader.stdout.close()
