"""Frames and sound into an mp4 file, as they are made."""

from __future__ import annotations

import os
import secrets
import subprocess
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from avatar import ffmpeg
from avatar.errors import UserError
from avatar.version import __version__

# BT.601: written into the file for players that read the tag, and what OpenCV assumes without reading it.
MATRIX = "smpte170m"
TAGS = f"setparams=colorspace={MATRIX}:color_primaries=bt709:color_trc=bt709:range=tv"
# Background PSNR and CPU time of a 512 px portrait that speaks, crf 12: veryfast 39.3 dB, 6 ms a frame;
# medium 40.2 dB, 12 ms; veryfast with finer colour and an even quantiser 40.1 dB, 6 ms. 4:2:0 allows 41.4 dB.
X264 = ["-preset", "veryfast", "-x264-params", "chroma-qp-offset=-6:aq-mode=0"]


def check_output(path: str | Path, force: bool = False, ending: str = ".mp4") -> Path:
    """The path of a file to be written, or UserError where it can not be: asked before models are loaded."""
    path = Path(path)
    if path.suffix.lower() != ending:
        raise UserError(f"{path}: can not be the output, give it a name that ends in {ending}")
    if not path.parent.is_dir():
        raise UserError(f"{path.parent}: no such folder, make it first")
    if path.is_dir():
        raise UserError(f"{path}: is a folder, give the name of a file")
    if path.exists() and not force:
        raise UserError(f"{path}: exists already, use --force to replace it")
    _new_part(path).unlink()
    return path


def _new_part(path: Path) -> Path:
    """Make an empty file of a temporary name beside `path`."""
    part = path.with_name(f".avatar-{secrets.token_hex(6)}.part")
    try:
        part.open("xb").close()
    except OSError as error:
        raise UserError(f"{path.parent}: can not write into this folder ({error.strerror})") from error
    return part


class VideoWriter:
    """H.264 (yuv420p, limited range) and AAC in an mp4 file, encoded frame by frame as `write` is called.

    The file appears under its name only when the last frame is in. Until then there is a hidden temporary
    file beside it, which an error or Ctrl-C removes. H.264 in yuv420p needs even sides, so the last row or
    column of an odd size is left off.

    Args:
        path: target, ends in .mp4; its folder must exist.
        size: (width, height) of the frames in px.
        fps: frames a second.
        audio: file whose sound is put in, from its first decoded sample on; the sounds of several files are
            added up, and none makes a silent film.
        seconds: length of the video; the sound is cut or filled with silence to it. None: sound stays whole.
        crf: constant rate factor of x264, 0 (lossless) to 51.
        force: replace an existing file.

    Raises:
        UserError: a target that can not be written, a full disk.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        size: tuple[int, int],
        fps: Fraction,
        audio: str | Path | Sequence[str | Path] = (),
        seconds: Fraction | None = None,
        crf: int = 12,
        force: bool = False,
    ) -> None:
        self.path = check_output(path, force)
        self._size = (size[0] // 2 * 2, size[1] // 2 * 2)
        self._part = _new_part(self.path)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed in __exit__
        files = [audio] if isinstance(audio, str | Path) else audio
        arguments = self._arguments(fps, [Path(file) for file in files], seconds, crf)
        # A session of its own: Ctrl-C in the terminal reaches this process, which then ends ffmpeg itself.
        self._process = subprocess.Popen(
            ffmpeg.command(*arguments), stdin=subprocess.PIPE, stderr=self._log, start_new_session=True
        )

    def _arguments(self, fps: Fraction, audio: list[Path], seconds: Fraction | None, crf: int) -> list[str]:
        size = "x".join(map(str, self._size))
        frames = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-framerate", str(fps), "-i", "pipe:0"]
        convert = f"scale=out_color_matrix={MATRIX}:out_range=tv:{ffmpeg.EXACT},format=yuv420p,{TAGS}"
        video = ["-map", "0:v:0", "-vf", convert, "-c:v", "libx264", *X264, "-crf", str(crf)]
        made_by = f"comment=synthetic, by avatar-toolkit {__version__}"
        target = ["-map_metadata", "-1", "-metadata", made_by, "-movflags", "+faststart", "-f", "mp4"]
        target += ["-y", f"file:{self._part}"]
        if not audio:
            return [*frames, *video, *target]
        length = "" if seconds is None else f",apad,atrim=end={float(seconds):.6f}"
        # Timestamps from sample counts: a late first packet must not shift the sound against the frames.
        coded = ["-c:a", "aac", "-b:a", "192k"]
        sources = [part for path in audio for part in ffmpeg.source(path)]
        if len(audio) == 1:
            sound = ["-map", "1:a:0", "-af", f"asetpts=N/SR/TB{length}"]
        else:
            each = "".join(f"[{at + 1}:a:0]asetpts=N/SR/TB[a{at}];" for at in range(len(audio)))
            names = "".join(f"[a{at}]" for at in range(len(audio)))
            added = f"{names}amix=inputs={len(audio)}:duration=longest:normalize=0{length}[sound]"
            sound = ["-filter_complex", each + added, "-map", "[sound]"]
        return [*frames, *sources, *video, *sound, *coded, *target]

    def write(self, frame: np.ndarray) -> None:
        """Add one uint8 RGB frame (H, W, 3)."""
        width, height = self._size
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(np.ascontiguousarray(frame[:height, :width]).data)
        except BrokenPipeError as error:
            raise self._failure() from error

    def _failure(self) -> UserError:
        self._process.wait()
        log = ffmpeg.read_log(self._log)
        if "No space left on device" in log or "File too large" in log:
            return UserError(f"{self.path}: the disk is full, free some space or choose another --out")
        return UserError(f"{self.path}: the video could not be written ({ffmpeg.cause(log)})")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._close()
        finally:
            self._process.kill()
            self._process.wait()
            self._log.close()
            self._part.unlink(missing_ok=True)

    def _close(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except BrokenPipeError as error:
            raise self._failure() from error
        if self._process.wait() != 0:
            raise self._failure()
        os.replace(self._part, self.path)
