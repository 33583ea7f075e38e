"""One video in the making: the inputs checked, then frame after frame, then a file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.adapters.audio import frame_windows
from avatar.composite import Compositor
from avatar.drivers.expression import ExpressionSignal
from avatar.drivers.face import choose_face, extract, find_faces, head_crop
from avatar.drivers.motion import animate_stream
from avatar.drivers.pose import PoseSignal
from avatar.drivers.signal import Signal
from avatar.drivers.speech import resample_stream
from avatar.drivers.whisper import FEATURE_RATE
from avatar.errors import UserError
from avatar.media import audio_seconds, frame_count, read_image, stream_audio
from avatar.mixing import Mixer
from avatar.options import DriveOptions
from avatar.render import Motion, Renderer, Sampling
from avatar.writer import VideoWriter

if TYPE_CHECKING:
    from avatar.animator import Animator

CROP = 256  # px, side of the picture the nets work on
ARTICULATION = 1.3  # the curves of plain reading, made a little clearer: what lips say must be seen
LISTEN = 10.0  # s of sound read at a time

Pixels = NDArray[np.uint8]


class DriveSession:
    """One video in the making.

    Attributes:
        frames: how many it will have, ceil(seconds of the sound * fps).
        size: (width, height) of the frames.
        fps: frames a second.
        notices: what the user should know about the inputs.
    """

    def __init__(
        self,
        animator: Animator,
        ref: Path,
        audio: Path | None,
        options: DriveOptions,
        pose: PoseSignal | None,
        expression: ExpressionSignal | None,
    ) -> None:
        self.animator, self.audio, self.options, self.fps = animator, audio, options, options.fps
        self.notices: list[str] = []
        photo = read_image(ref)
        length = self._length(pose, expression)
        if options.seconds is not None:
            length = min(length, options.seconds)
        self.frames = frame_count(length, self.fps)
        size = (photo.shape[1], photo.shape[0])
        face = choose_face(find_faces(photo), options.face, size, str(ref))
        crop = head_crop(face, size)
        self.compositor = Compositor(photo, crop, options.size)
        self.size = self.compositor.size
        self.renderer = Renderer(
            animator.nets, extract(photo, crop, CROP), crop.to_crop(face.landmarks, CROP)
        )
        self.mixer = Mixer(
            self.renderer.driven.mesh,
            None if expression is None else expression.scaled(options.expression_scale),
            None if pose is None else pose.scaled(options.pose_scale),
            fps=self.fps,
            frames=self.frames,
            when_short=options.when_short,
            speaks=audio is not None,
        )

    def _length(self, pose: PoseSignal | None, expression: ExpressionSignal | None) -> Fraction:
        """Seconds of the video."""
        if self.audio is not None:
            return audio_seconds(self.audio)
        given: list[Signal] = [signal for signal in (pose, expression) if signal is not None]
        if not given:
            raise UserError("nothing drives the face: give --audio, --pose or --expression")
        lengths = [signal.seconds for signal in given if len(signal) > 1]
        if lengths:
            return max(lengths)
        if self.options.seconds is None:
            raise UserError("the drivers stand still and have no length: say how long with --seconds")
        return self.options.seconds

    def __iter__(self) -> Iterator[Pixels]:
        options = self.options
        sampling = Sampling(
            seed=options.seed,
            steps=options.steps,
            guidance=options.guidance,
            audio_scale=options.audio_scale,
            head_motion=options.head_motion,
            expressiveness=options.expressiveness,
        )
        for frame in self.renderer(self._motion(), sampling):
            yield self.compositor(*frame)

    def _motion(self) -> Iterator[Motion]:
        """Motion of all frames: that of the speech or of an idle face, with the signals added."""
        done = 0
        for motion in self._idle() if self.audio is None else self._spoken(self.audio):
            curves, head = self.mixer(motion.curves, motion.head, done)
            done += len(curves)
            yield Motion(curves, head, motion.audio)

    def _idle(self) -> Iterator[Motion]:
        """A face that says nothing and keeps the mouth of the photo."""
        options, rest = self.options, self.renderer.driven.mesh.rest
        rows = math.ceil(self.frames / self.fps * FEATURE_RATE) + 1
        chunk = round(LISTEN * FEATURE_RATE)

        def both() -> Iterator[NDArray[np.float32]]:
            silent = (
                np.tile(rest, (min(chunk, rows - start), 1)).astype(np.float32)
                for start in range(0, rows, chunk)
            )
            for head, face in animate_stream(silent, options.seed, options.head_motion, 1.0):
                yield np.concatenate([face, head], 1)

        for found in resample_stream(both(), self.fps, self.frames):
            yield Motion(found[:, :52], found[:, 52:])

    def _spoken(self, sound: Path) -> Iterator[Motion]:
        """Motion heard from the sound piece by piece."""
        options = self.options
        heard: list[torch.Tensor] = []  # features not yet turned into windows
        first_row = done = 0

        def curves() -> Iterator[NDArray[np.float32]]:
            for features, mouth in self.animator.speech.stream(stream_audio(sound, LISTEN)):
                heard.append(features[:, -1])
                yield (ARTICULATION * options.audio_scale * mouth.cpu().numpy()).clip(0, 1)

        def both() -> Iterator[NDArray[np.float32]]:
            for head, face in animate_stream(
                curves(), options.seed, options.head_motion, options.expressiveness
            ):
                yield np.concatenate([face, head], 1)

        for rows in resample_stream(both(), self.fps, self.frames):
            features = torch.cat(heard)
            windows = frame_windows(range(done, done + len(rows)), float(self.fps))
            audio = features[(windows - first_row).clamp(0, len(features) - 1)]
            done += len(rows)
            keep = max(first_row, int(windows[-1, 0]) - 50)
            heard[:], first_row = [features[keep - first_row :]], keep
            yield Motion(rows[:, :52], rows[:, 52:], audio)
            if done == self.frames:
                return  # the sound may go on


class Clip:
    """A video that is made while it is saved or iterated."""

    def __init__(self, session: DriveSession, audio: Path | None) -> None:
        self.session, self.audio = session, audio

    def __len__(self) -> int:
        return self.session.frames

    def __iter__(self) -> Iterator[Pixels]:
        return iter(self.session)

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Write an mp4 with the sound.

        Raises:
            UserError: the file exists and `force` is not set, or it cannot be written.
        """
        session = self.session
        length = Fraction(session.frames) / session.fps
        writer = VideoWriter(
            Path(path), size=session.size, fps=session.fps, audio=self.audio, seconds=length, force=force
        )
        with writer:
            for frame in session:
                writer.write(frame)
        return Path(path)
