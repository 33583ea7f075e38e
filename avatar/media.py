"""Pictures, sound and video read from files of any usual kind.

Pictures and frames are uint8 RGB, (H, W, 3); sound is float32 mono, (samples,).
"""

from __future__ import annotations

import io
import logging
import math
import os
import re
import struct
import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from avatar import ffmpeg
from avatar.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

RATE = 16_000  # Hz, what the speech nets hear
MIN_SIDE = 64  # px
MAX_SIDE = 4096  # px, larger pictures are reduced while they are read
SILENCE = 1e-4  # peak amplitude (of 1) under which a recording counts as silent, -80 dB
CUT_SHORT = re.compile("partial file|ended prematurely")
MONO = "aresample=ochl=mono:rematrix_maxval=1"  # mean of the channels, which plain -ac 1 is not


def check_file(path: Path, what: str) -> None:
    """Raise UserError unless `path` is a file with something in it; `what` is its role, as in "picture"."""
    if not path.exists():
        raise UserError(f"{path}: no such {what}")
    if not path.is_file():
        raise UserError(f"{path}: is not a file, a {what} file is needed")
    if path.stat().st_size == 0:
        raise UserError(f"{path}: the {what} file is empty")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: may not be read, check its permissions")


# ---- pictures ----------------------------------------------------------------------------------


def read_image(path: str | Path, seconds: float | None = None) -> np.ndarray:
    """A picture file, or the first frame of a video, or that at `seconds`, as uint8 RGB (H, W, 3).

    EXIF orientation is applied, an embedded colour profile is converted to sRGB, transparency is laid on
    white, 16-bit values are scaled to 8. Over 4096 px on the long side are reduced, with a warning logged.

    Raises:
        UserError: missing, empty, damaged or unknown file, a side under 64 px, or no frame at `seconds`.
    """
    from PIL import Image, UnidentifiedImageError

    path = Path(path)
    check_file(path, "picture")
    if seconds is not None and is_picture(path):
        raise UserError(f"{path}: is a still picture, --ref-time is for videos")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # up to 179 megapixels are welcome
            if seconds is not None:
                raise UnidentifiedImageError
            with Image.open(path) as image:
                pixels = _decode_picture(image, path)
    except UnidentifiedImageError:
        pixels = _frame_at(path, seconds or 0)
    except Image.DecompressionBombError as error:
        raise UserError(f"{path}: over 179 megapixels, reduce the picture first") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise UserError(f"{path}: the picture is damaged or cut short ({error})") from error
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise UserError(f"{path}: {width} x {height} px is too small, each side needs at least {MIN_SIDE} px")
    return pixels


def is_picture(path: str | Path) -> bool:
    """Whether a file is a still picture; a film, also one in a picture format, is none."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return getattr(image, "n_frames", 1) == 1
    except (OSError, Image.DecompressionBombError):  # what it is not is said by whoever reads it
        return False


def is_video(path: str | Path) -> bool:
    """Whether a file is a film of more than one frame; False for one that can not be read."""
    if is_picture(path):
        return False
    try:
        return video_info(path).frames > 1
    except UserError:  # what is wrong with it is said by whoever reads it
        return False


def _decode_picture(image: Image, path: Path) -> np.ndarray:
    from PIL import ImageOps
    from PIL.Image import Resampling, alpha_composite, fromarray, new

    size, profile = image.size, image.info.get("icc_profile")
    image.draft("RGB", (MAX_SIDE, MAX_SIDE))  # JPEG decodes straight to a smaller size
    if image.mode.startswith("I"):  # 16-bit grey
        image = fromarray((np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "CMYK"):
        image = image.convert("RGB")
    if max(size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Resampling.LANCZOS, reducing_gap=2.0)
        logger.warning("%s: %d x %d px, reduced to %d x %d", path, *size, *image.size)
    if image.mode == "RGBA":
        image = alpha_composite(new("RGBA", image.size, "white"), image)
    if profile and image.mode in ("RGB", "CMYK"):
        image = _to_srgb(image, profile)
    return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def _to_srgb(image: Image, profile: bytes) -> Image:
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except ImageCms.PyCMSError:  # a broken profile: the numbers are most likely sRGB already
        return image
    return converted if converted is not None else image


def _frame_at(path: Path, seconds: float) -> np.ndarray:
    with ffmpeg.reading(path, "-ss", f"{seconds:.6f}", *ffmpeg.PPM, "-frames:v", "1") as reader:
        frame = _read_ppm(reader.stdout)
        if frame is None:
            log = reader.finish()
            if seconds and not ffmpeg.ERROR.search(log):
                raise UserError(f"{path}: has no frame at {seconds:g} s, it ends before")
            why = ffmpeg.cause(log)
            raise UserError(
                f"{path}: not a picture or video that can be read ({why}); png, jpeg, webp and mp4 work"
            )
    return frame


# ---- sound -------------------------------------------------------------------------------------


def _decode_audio(path: Path, rate: int | None, chunk: int) -> Generator[np.ndarray, None, Fraction]:
    """Mono samples in pieces of `chunk` (the last may be shorter); returns the length in seconds.

    All lengths in the project are what this counts at the native rate (rate None): containers are wrong about
    their duration, and decoded mp3 or AAC has its padding already removed. Damage raises UserError after the
    last piece.
    """
    resample = () if rate is None else ("-ar", str(rate))
    samples = 0
    with ffmpeg.reading(path, "-map", "0:a:0", "-af", MONO, *resample, "-f", "f32le") as reader:
        while data := reader.stdout.read(4 * chunk):
            samples += len(data) // 4
            yield np.frombuffer(data, "<f4")
        log = reader.finish()
    opened, _, output = log.partition("Output #0")
    if "Input #0" in opened and " Audio: " not in opened:
        raise UserError(f"{path}: has no sound track, give a recording of speech")
    if reader.process.returncode != 0 or "Input #0" not in opened:
        raise UserError(f"{path}: the sound is damaged or of an unknown kind ({ffmpeg.cause(log)})")
    rates = re.findall(r"Audio: pcm_f32le.*?, (\d+) Hz", output)
    if samples == 0 or not rates:
        raise UserError(f"{path}: the sound has zero length")
    seconds = Fraction(samples, int(rates[0]))
    _check_whole(path, log, float(seconds))
    return seconds


def _check_whole(path: Path, log: str, seconds: float) -> None:
    """Raise if the end of a recording is missing; damage that ffmpeg could step over is only logged."""
    missing = _missing_wav_bytes(path) or CUT_SHORT.search(log) is not None
    declared = re.search(r"Duration: (\d+):(\d+):(\d+\.\d+)", log)
    alone = " Video: " not in log or "(attached pic)" in log  # a film may well go on longer than its sound
    if declared and alone:
        hours, minutes, rest = declared.groups()
        missing |= seconds < 0.98 * (3600 * int(hours) + 60 * int(minutes) + float(rest)) - 0.1
    if missing:
        raise UserError(
            f"{path}: the sound is cut short, only {seconds:.2f} s of it are there; copy the file again"
        )
    if ffmpeg.ERROR.search(log):
        logger.warning("%s: damaged places in the sound were skipped (%s)", path, ffmpeg.cause(log))


def _missing_wav_bytes(path: Path) -> bool:
    """Whether a RIFF file is shorter than its data chunk says (ffmpeg believes the file size)."""
    with path.open("rb") as file:
        if file.read(12)[:4] != b"RIFF":
            return False
        while len(header := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", header)
            if name == b"data":  # recorders that write to a pipe leave 0 or all ones
                return 0 < size < 0xFFFF_FF00 and file.tell() + size > path.stat().st_size
            file.seek(size + size % 2, os.SEEK_CUR)
    return False


def stream_audio(path: str | Path, chunk_seconds: float, rate: int = RATE) -> Iterator[np.ndarray]:
    """Sound of any file in float32 mono pieces of `chunk_seconds` (the last may be shorter), loudness kept.

    Raises:
        UserError: missing, empty, damaged or cut file, no sound track, zero length.
    """
    path = Path(path)
    check_file(path, "sound")
    return _decode_audio(path, rate, max(1, round(chunk_seconds * rate)))


def read_audio(path: str | Path, rate: int = RATE) -> np.ndarray:
    """Sound of any file as float32 mono (samples,).

    Raises:
        UserError: as `stream_audio`.
    """
    return np.concatenate(list(stream_audio(path, 60.0, rate)))


def audio_seconds(path: str | Path) -> Fraction:
    """Exact length of the sound: decoded samples / native rate. Silence is allowed, with a warning logged.

    Raises:
        UserError: as `stream_audio`.
    """
    path = Path(path)
    check_file(path, "sound")
    pieces = _decode_audio(path, None, 1 << 20)
    loudest = 0.0
    while True:
        try:
            loudest = max(loudest, float(np.abs(next(pieces)).max()))
        except StopIteration as end:
            if loudest < SILENCE:
                logger.warning("%s: is silent, the mouth will stay closed", path)
            return end.value


# ---- video -------------------------------------------------------------------------------------

NTSC = Fraction(1000, 1001)


def parse_fps(text: str) -> Fraction:
    """Frame rate from "25", "30000/1001" or a rounded decimal: 29.97 is 30000/1001, 23.976 is 24000/1001.

    Raises:
        UserError: not a number from 1 to 120.
    """
    try:
        rate = Fraction(text.strip())
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"fps {text!r} is not a frame rate, give a number such as 25 or 29.97") from error
    if not 1 <= rate <= 120:
        raise UserError(f"fps {text} is out of range, 1 to 120 frames a second can be made")
    ntsc = math.ceil(rate) * NTSC
    return ntsc if abs(rate - ntsc) < Fraction(1, 150) else rate


def frame_count(seconds: Fraction, fps: Fraction) -> int:
    """ceil(seconds x fps), exactly."""
    return math.ceil(seconds * fps)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video file holds, as a player shows it (rotation applied)."""

    width: int  # px
    height: int  # px
    fps: Fraction
    frames: int
    has_audio: bool


def video_info(path: str | Path) -> VideoInfo:
    """Size, rate and counted (not declared) frames of a video.

    Raises:
        UserError: missing, empty or damaged file, no picture track.
    """
    path = Path(path)
    check_file(path, "video")
    # A yuv4mpeg header gives size and rate after rotation, the rate as a fraction.
    with ffmpeg.reading(
        path, "-map", "0:v:0", "-frames:v", "1", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe"
    ) as reader:
        header = re.match(rb"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)", reader.stdout.readline())
        reader.stdout.read()
        log = reader.finish()
    if header is None:
        raise UserError(f"{path}: not a video that can be read ({ffmpeg.cause(log)})")
    width, height, numerator, denominator = map(int, header.groups())
    with ffmpeg.reading(path, "-map", "0:v:0", "-fps_mode", "passthrough", "-f", "framecrc") as reader:
        frames = sum(not line.startswith(b"#") for line in reader.stdout)
    rate = Fraction(numerator, denominator)
    return VideoInfo(width=width, height=height, fps=rate, frames=frames, has_audio=" Audio: " in log)


def read_video(path: str | Path) -> Iterator[np.ndarray]:
    """All frames of a video in order, uint8 RGB (H, W, 3), one in memory at a time.

    Raises:
        UserError: missing, empty or damaged file, no picture track.
    """
    path = Path(path)
    check_file(path, "video")
    return _frames(path)


def _frames(path: Path) -> Iterator[np.ndarray]:
    count = 0
    with ffmpeg.reading(path, *ffmpeg.PPM) as reader:
        while (frame := _read_ppm(reader.stdout)) is not None:
            count += 1
            yield frame
        log = reader.finish()
    if count == 0:
        raise UserError(f"{path}: not a video that can be read ({ffmpeg.cause(log)})")


def _read_ppm(stream: IO[bytes]) -> np.ndarray | None:
    if not stream.readline():  # "P6"
        return None
    width, height = map(int, stream.readline().split())
    stream.readline()  # 255
    return np.frombuffer(stream.read(3 * width * height), np.uint8).reshape(height, width, 3)
