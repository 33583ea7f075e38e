"""A soundtrack into a video file: speech in front, one loudness, no clipping, pictures as they were.

Loudness is that of EBU R128 (ITU-R BS.1770), as ffmpeg measures it. Everything is a stream: memory does not
grow with the length.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avatar import ffmpeg
from avatar.drivers.ducking import RATE as SPEECH_RATE
from avatar.drivers.ducking import Ducking, speaking, speech_probability
from avatar.errors import UserError
from avatar.media import stream_audio
from avatar.version import __version__
from avatar.writer import X264, _new_part, check_output

Old = Literal["replace", "mix", "keep-speech"]
"""What becomes of the sound that a video has already."""

Pieces = Iterable[NDArray[np.float32]]
LOUDNESS = -16.0  # LUFS of the finished file
SILENT = -70.0  # LUFS, what the meter says of silence
PEAK = 0.84  # -1.5 dB: AAC's own ripples stay below full scale
RATE = 48_000  # Hz of the finished file
DUCK = 9.0  # dB that the soundtrack steps back while somebody speaks
GATE = 80.0  # dB that old sound falls by where nobody speaks
GATE_OPENS, GATE_SHUTS = 0.02, 0.2  # s, time constants
LEAST = 3  # s; shorter sounds are repeated to be measured, the meter needs 0.4 s
COPIED = ("h264", "hevc", "av1", "vp9", "mpeg4")  # what an mp4 file can hold as it is
STEREO = f"aresample={RATE},aformat=sample_fmts=fltp:channel_layouts=stereo"


def mux(
    video: Path,
    score: Pieces,
    rate: int,
    seconds: Fraction,
    out: Path,
    *,
    old: Old | None,
    level: float,
    force: bool = False,
) -> None:
    """Write `video` with a soundtrack, at -16 LUFS.

    Args:
        score: pieces of mono sound at `rate`, together as long as the video.
        seconds: length of the video.
        old: what becomes of its sound; None where it has none.
        level: loudness of the soundtrack under speech, relative to the speech, LU; in pauses it comes up.

    Raises:
        UserError: the output can not be written.
    """
    check_output(out, force)
    track, ducked, voice = (out.with_name(f".{out.stem}.{name}.wav") for name in ("score", "ducked", "voice"))
    part = _new_part(out)
    try:
        inputs, graph = [video, track], f"[1:a]{STEREO}[mix]"
        write_wav(track, score, rate)
        if old in ("mix", "keep-speech"):
            active = speaking(speech_probability(stream_audio(video, 30.0, SPEECH_RATE)))
            duck = Ducking(active, DUCK)
            write_wav(ducked, duck.apply(stream_audio(track, 30.0, rate), rate), rate)
            inputs, source = [video, ducked], "0:a:0"
            if old == "keep-speech":
                gate = Ducking(1 - active, GATE, GATE_SHUTS, GATE_OPENS)
                write_wav(voice, gate.apply(stream_audio(video, 30.0, RATE), RATE), RATE)
                inputs, source = [video, ducked, voice], "2:a:0"
            speech = loudness(inputs, f"[{source}]{STEREO}")
            below = 0.0
            if speech > SILENT:
                below = speech + level + DUCK - loudness([track], f"[0:a]{STEREO}")
            graph = (
                f"[{source}]asetpts=N/SR/TB,{STEREO}[old];[1:a]{STEREO},volume={below:.2f}dB[new];"
                "[old][new]amix=inputs=2:normalize=0:duration=longest[mix]"
            )
        samples = round(seconds * RATE)
        graph += f";[mix]apad=whole_len={samples},atrim=end_sample={samples}"
        measured = loudness(inputs, graph)
        lift = LOUDNESS - measured if measured > SILENT else 0.0
        limit = f"alimiter=limit={PEAK}:attack=2:release=60:level=disabled:latency=1"
        sound = [
            "-filter_complex",
            f"{graph},volume={lift:.2f}dB,{limit}[out]",
            "-map",
            "0:v:0",
            "-map",
            "[out]",
        ]
        coded = [*_pictures(video), "-c:a", "aac", "-b:a", "192k", "-ar", str(RATE)]
        said = ["-metadata", f"comment=synthetic sound, by avatar-toolkit {__version__}"]
        _run([*sound, *coded, *said, "-movflags", "+faststart", "-f", "mp4", "-y", f"file:{part}"], inputs)
        os.replace(part, out)
    finally:
        for path in (track, ducked, voice, part):
            path.unlink(missing_ok=True)


def loudness(inputs: list[Path], graph: str) -> float:
    """Loudness of what a filter graph makes of files, LUFS; too short sounds are measured repeated."""
    for repeat in ("", f",aloop=loop=-1:size={RATE * LEAST},atrim=end={LEAST}"):
        whole = f"{graph}{repeat},ebur128=framelog=quiet[out]"
        log = _run(["-filter_complex", whole, "-map", "[out]", "-f", "null", "-"], inputs)
        found = re.findall(r"I:\s+(-?[\d.]+) LUFS", log)
        if found and float(found[-1]) > SILENT:
            return float(found[-1])
    return SILENT


def write_wav(path: Path, pieces: Pieces, rate: int) -> None:
    """Write mono sound in pieces as 16-bit PCM; the file appears whole or not at all."""
    part = _new_part(path)
    into = [
        "-f",
        "f32le",
        "-ar",
        str(rate),
        "-ac",
        "1",
        "-i",
        "pipe:0",
        "-c:a",
        "pcm_s16le",
        "-f",
        "wav",
        "-y",
    ]
    process = subprocess.Popen(
        ffmpeg.command(*into, f"file:{part}"), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin is not None
    try:
        for piece in pieces:
            process.stdin.write(np.clip(piece, -1, 1).astype("<f4").tobytes())
        process.stdin.close()
        if process.wait() != 0:
            raise UserError(f"{path}: can not be written, is the disk full?")
        os.replace(part, path)
    except BrokenPipeError as error:
        raise UserError(f"{path}: can not be written, is the disk full?") from error
    finally:
        process.kill()
        process.wait()
        part.unlink(missing_ok=True)


def _run(arguments: list[str], inputs: list[Path]) -> str:
    sources = [word for path in inputs for word in ffmpeg.source(path)]
    run = ffmpeg.command(*sources, *arguments)
    done = subprocess.run(run, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    log = ffmpeg.SOURCE_TAG.sub("", done.stderr.decode(errors="replace"))
    if done.returncode != 0:
        raise UserError(f"{inputs[0]}: the sound could not be mixed in ({ffmpeg.cause(log)})")
    return log


def _pictures(video: Path) -> list[str]:
    """The pictures as they are where an mp4 file can hold them, else as H.264."""
    with ffmpeg.reading(video, "-map", "0:v:0", "-frames:v", "1", "-f", "null") as reader:
        reader.stdout.read()
        found = re.search(r" Video: (\w+)", reader.finish())
    if found and found[1] in COPIED:
        return ["-c:v", "copy"]
    return ["-c:v", "libx264", *X264, "-crf", "12", "-pix_fmt", "yuv420p"]
