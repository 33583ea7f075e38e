"""A long film made of the factory's clips, for `avatar.recipes.prepare_bench`: no two of its shots are alike.

A shot shows one, two or three people, or nobody, for 2 to 14 seconds, before a background that drifts. A
clip of the factory is short: it is played forth and back between places drawn anew for every shot, at a
speed, mirrored or not, and in colours of the shot's own, so that a clip shown twice is no near-duplicate.
Grain makes the film hard to decode, as a camera's is. The sound is noise that comes and goes; nobody speaks.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from avatar import ffmpeg
from avatar.errors import UserError

Pixels = NDArray[np.uint8]

RATE = 30  # frames a second
SIZE = (1280, 720)
DRAWN = (640, 360)  # px, as the frames are put together: more than the clips hold
SHOT = (2.0, 14.0)  # s
SHARES = {0: 0.08, 1: 0.62, 2: 0.2, 3: 0.1}  # of the shots, by how many people they show
SIDES = {1: (200, 360), 2: (180, 310), 3: (140, 206)}  # px of DRAWN, of a person's square
GRAIN = 7  # levels
SOUND = "anoisesrc=color=pink:amplitude=0.3,tremolo=f=4:d=0.9"


def make_footage(clips: Path, out: Path, minutes: float, seed: int = 0) -> float:
    """Write the film; its seconds.

    Raises:
        UserError: there are no clips.
    """
    found = sorted(clips.glob("clip-*.safetensors"))
    if not found:
        raise UserError(f"{clips}: holds no clips, make some with `python -m avatar.recipes.factory`")
    width, height = DRAWN
    drawn = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-framerate", str(RATE)]
    shape = f"scale={SIZE[0]}:{SIZE[1]}:flags=bicubic,noise=c0s={GRAIN}:c0f=t"
    coded = ["-vf", shape, "-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p"]
    sound = ["-f", "lavfi", "-i", SOUND]
    beside = out.with_name(f".{out.stem}.part{out.suffix}")
    command = ffmpeg.command(
        *drawn, "-i", "pipe:0", *sound, *coded, "-c:a", "aac", "-shortest", "-y", str(beside)
    )
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    count = round(60 * minutes * RATE)
    for frame in _film(found, count, np.random.default_rng(seed)):
        process.stdin.write(frame.tobytes())
    process.stdin.close()
    if process.wait() != 0:
        raise UserError(f"{out}: the footage could not be written")
    os.replace(beside, out)
    return count / RATE


def _film(clips: Sequence[Path], count: int, rng: np.random.Generator) -> Iterator[Pixels]:
    """Frames (H, W, 3), shot after shot."""
    while count > 0:
        length = min(count, int(rng.uniform(*SHOT) * RATE))
        people = int(rng.choice(list(SHARES), p=list(SHARES.values())))
        chosen = [clips[i] for i in rng.choice(len(clips), people, replace=len(clips) < people)]
        yield from _shot(chosen, length, rng)
        count -= length


def _shot(clips: Sequence[Path], length: int, rng: np.random.Generator) -> Iterator[Pixels]:
    width, height = DRAWN
    behind = _background(rng)
    room = np.array([behind.shape[1] - width, behind.shape[0] - height])
    start, end = rng.uniform(0, room), rng.uniform(0, room)
    walks = [_walk(_frames(clip, len(clips), rng), length, rng) for clip in clips]
    cell = width // max(len(clips), 1)
    for number in range(length):
        x, y = (start + (end - start) * number / length).astype(int)
        frame = behind[y : y + height, x : x + width].copy()
        for place, walk in enumerate(walks):
            person = next(walk)
            left, top = place * cell + (cell - person.shape[1]) // 2, height - person.shape[0]
            frame[top : top + person.shape[0], left : left + person.shape[1]] = person
        yield frame


def _frames(clip: Path, people: int, rng: np.random.Generator) -> list[Pixels]:
    """The frames of a clip in a size, a direction and colours of their own."""
    with safe_open(clip, "numpy") as file:
        frames = file.get_tensor("frames")
    side, gain = int(rng.integers(*SIDES[people], endpoint=True)), rng.uniform(0.75, 1.2, 3)
    levels = (np.arange(256)[:, None] * gain).clip(0, 255).astype(np.uint8)
    mirrored = slice(None, None, -1 if rng.random() < 0.5 else 1)
    return [
        np.ascontiguousarray(cv2.LUT(cv2.resize(frame, (side, side)), levels[None])[:, mirrored], np.uint8)
        for frame in frames
    ]


def _walk(frames: Sequence[Pixels], length: int, rng: np.random.Generator) -> Iterator[Pixels]:
    """Frames played forth and back between places that are drawn."""
    speed, at = rng.uniform(0.4, 0.85), 0.0
    goal = rng.uniform(0, len(frames) - 1)
    for _ in range(length):
        yield frames[round(at)]
        step = np.clip(goal - at, -speed, speed)
        at += step
        if abs(step) < speed:
            goal = rng.uniform(0, len(frames) - 1)


def _background(rng: np.random.Generator) -> Pixels:
    """Soft patches of colour with some texture, a fifth larger than a frame."""
    width, height = (round(1.2 * side) for side in DRAWN)
    patches = rng.uniform(30, 220, (5, 9, 3)).astype(np.float32)
    large = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    texture = cv2.resize(rng.normal(0, 12, (height // 3, width // 3)).astype(np.float32), (width, height))
    return (large + texture[..., None]).clip(0, 255).astype(np.uint8)
