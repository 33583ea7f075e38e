"""A video read once: reduced frames, in which faces are followed, and now and then one in full size.

ffmpeg decodes the video once and prints both. Which full frames are wanted is known only when a clip has
ended, so that those of the last seconds are held.
"""

from __future__ import annotations

import os
import subprocess
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import IO

import cv2
import numpy as np
from numpy.typing import NDArray

from avatar import ffmpeg
from avatar.errors import UserError
from avatar.recipes.clip_file import ONE_THREAD, SQUARE_PIXELS, Footage, from_frame

Pixels = NDArray[np.uint8]

PIPE = 1 << 20  # bytes that a pipe holds: fewer turns of the two programs
# OpenCV turns this kind of YUV into RGB, in half the time that ffmpeg takes.
YUV = "out_color_matrix=smpte170m:out_range=tv"
RAW = ("-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo")


class Film:
    """Reduced frames of a video as an iterator, RGB (H, W, 3), and its `still`s; a context.

    Args:
        path: of the video.
        footage: what its head says.
        first: number of the first frame.
        count: of frames, None for all.
        every: of so many frames one is there in full size, from the first on.
    """

    def __init__(self, path: Path, footage: Footage, first: int, count: int | None, every: int) -> None:
        self._path, self._every = path, every
        self._sizes = footage.small, (footage.width, footage.height)
        self._frames: deque[Pixels] = deque()  # read, but not yet given
        self._stills: dict[int, bytes] = {}
        large, end = os.pipe()
        self._large = os.fdopen(large, "rb")
        try:
            self._process = subprocess.Popen(
                self._command(first, count, end),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(end,),
                pipesize=PIPE,
            )
        finally:
            os.close(end)
        self._reader = Thread(target=self._read_stills, daemon=True)
        self._reader.start()

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._reader.join()
        self._large.close()

    def __iter__(self) -> Iterator[Pixels]:
        while self._frames or self._read_frame():
            yield self._frames.popleft()

    def stills(self, first: int, count: int) -> list[int]:
        """Numbers of the frames in full size among `count` frames."""
        return list(range(-(-first // self._every) * self._every, first + count, self._every))

    def still(self, number: int) -> Pixels:
        """One of the frames in full size.

        Raises:
            UserError: the video ended before it could be read.
        """
        # Reading on lets ffmpeg go on; to wait for it here could be for ever.
        while number not in self._stills and self._read_frame():
            pass
        if number not in self._stills:
            self._reader.join()
        if number not in self._stills:
            raise UserError(f"{self._path}: ffmpeg ended while it was read, run the same command again")
        return _picture(self._stills[number], self._sizes[1])

    def forget(self, before: int) -> None:
        """Let go of the full frames before a number."""
        for number in [number for number in list(self._stills) if number < before]:
            del self._stills[number]

    def _command(self, first: int, count: int | None, large: int) -> list[str]:
        width, height = self._sizes[0]
        seek, pictures, _ = from_frame(first)
        end = "" if count is None else f",trim=end_frame={count}"
        graph = (
            f"[0:v:0]{pictures}{end},{SQUARE_PIXELS},split[all][some];"
            f"[all]scale={width}:{height}:{YUV}:flags=area+accurate_rnd[small];"
            f"[some]select=not(mod(n\\,{self._every})),scale={YUV}:{ffmpeg.EXACT}[large]"
        )
        small = ("-map", "[small]", *RAW, "pipe:1")
        return ffmpeg.command(
            *ONE_THREAD, *seek, *ffmpeg.source(self._path), "-filter_complex_threads", "1",
            "-filter_complex", graph, *small, "-map", "[large]", *RAW, f"pipe:{large}",
        )  # fmt: skip

    def _read_frame(self) -> bool:
        assert self._process.stdout is not None
        data = _read(self._process.stdout, self._sizes[0])
        if data is not None:
            self._frames.append(_picture(data, self._sizes[0]))
        return data is not None

    def _read_stills(self) -> None:
        number = 0
        while (data := _read(self._large, self._sizes[1])) is not None:
            self._stills[number] = data
            number += self._every


def _read(stream: IO[bytes], size: tuple[int, int]) -> bytes | None:
    """A picture of a stream; None at its end, or where it ends within one."""
    length = size[0] * size[1] * 3 // 2
    data = stream.read(length)
    return data if len(data) == length else None


def _picture(data: bytes, size: tuple[int, int]) -> Pixels:
    yuv = np.frombuffer(data, np.uint8).reshape(size[1] * 3 // 2, size[0])
    return np.asarray(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB_I420), np.uint8)
