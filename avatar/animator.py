"""The public way in: a photo and a recording become a video.

animator = Animator.from_pretrained("mini")
animator.drive(ref="face.png", audio="talk.wav").save("talk.mp4")
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.adapters.audio import frame_windows
from avatar.backbone.checkpoint import load
from avatar.backbone.decode import ReferenceDecoder
from avatar.backbone.vae import CausalVAE
from avatar.composite import Compositor
from avatar.device import pick_device
from avatar.drivers.expression import ExpressionSignal, read_expression
from avatar.drivers.face import choose_face, extract, find_faces, head_crop
from avatar.drivers.mesh import FaceBasis
from avatar.drivers.motion import animate_stream
from avatar.drivers.mouth import MouthModel
from avatar.drivers.pose import PoseSignal, read_pose
from avatar.drivers.signal import Signal
from avatar.drivers.speech import SpeechDriver, resample_stream
from avatar.drivers.whisper import BUNDLED, FEATURE_RATE
from avatar.errors import UserError
from avatar.media import audio_seconds, frame_count, read_image, stream_audio
from avatar.mixing import Mixer
from avatar.model import Generator
from avatar.options import DriveOptions
from avatar.presets import PRESETS
from avatar.render import Motion, Nets, Renderer, Sampling, render_picture
from avatar.writer import VideoWriter

SHIPPED = ("mini",)  # presets whose weights come with the package
CROP = 256  # px, side of the picture the nets work on
ARTICULATION = 1.3  # the curves of plain reading, made a little clearer: what lips say must be seen
LISTEN = 10.0  # s of sound read at a time

Pixels = NDArray[np.uint8]


class Animator:
    """Loaded nets; makes any number of videos."""

    def __init__(self, nets: Nets, speech: SpeechDriver) -> None:
        self.nets, self.speech = nets, speech

    @classmethod
    def from_pretrained(
        cls, preset: str = "mini", device: str = "auto", whisper: str | Path | None = None
    ) -> Animator:
        """Load a preset.

        Args:
            preset: "mini", whose weights come with the package.
            device: "auto", "cpu", "cuda" or "mps".
            whisper: another Whisper model, see `avatar.drivers.whisper.WhisperFeatures.from_pretrained`.

        Raises:
            UserError: no such preset or device, or a Whisper that does not fit.
        """
        if preset not in SHIPPED:
            raise UserError(f"--preset {preset}: must be one of {', '.join(SHIPPED)}")
        where = pick_device(device)
        folder = Path(str(files("avatar") / "weights" / preset))
        nets = Nets(
            vae=load(CausalVAE, folder / "vae.safetensors", str(where)),
            generator=load(Generator, folder / "generator.safetensors", str(where)),
            decoder=load(ReferenceDecoder, folder / "decoder.safetensors", str(where)),
            basis=FaceBasis.load(),
            mouth=MouthModel.load(),
            window=PRESETS[preset].window,
            device=where,
        )
        speech = SpeechDriver.from_pretrained(None, whisper or BUNDLED, str(where))
        return cls(nets, speech)

    def session(
        self,
        ref: str | Path,
        audio: str | Path | None = None,
        options: DriveOptions | None = None,
        *,
        pose: PoseSignal | str | Path | None = None,
        expression: ExpressionSignal | str | Path | None = None,
    ) -> DriveSession:
        """Everything that can be wrong with the inputs is found here; iterating the session makes the frames.

        Args:
            ref: photo, or a video for its first frame.
            audio: the speech; without it the video has no sound and is as long as the longest signal.
            pose: moves the head: a signal, a video or a signals file.
            expression: moves the face: a signal, a video, a signals file or a word of
                `avatar.drivers.expression.MOODS`.

        Raises:
            UserError: a file cannot be used, no face fits; the message names it.
        """
        if pose is not None and not isinstance(pose, PoseSignal):
            pose = read_pose(pose)
        if expression is not None and not isinstance(expression, ExpressionSignal):
            expression = read_expression(expression)
        sound = None if audio is None else Path(audio)
        return DriveSession(self, Path(ref), sound, options or DriveOptions(), pose, expression)

    def stream(
        self,
        ref: str | Path,
        audio: str | Path | None = None,
        *,
        pose: PoseSignal | str | Path | None = None,
        expression: ExpressionSignal | str | Path | None = None,
        **options: Any,
    ) -> Iterator[Pixels]:
        """Frames (H, W, 3) as they are made; signals as in `session`, options as in `DriveOptions`."""
        yield from self.session(ref, audio, DriveOptions(**options), pose=pose, expression=expression)

    def drive(
        self,
        ref: str | Path,
        audio: str | Path | None = None,
        *,
        pose: PoseSignal | str | Path | None = None,
        expression: ExpressionSignal | str | Path | None = None,
        **options: Any,
    ) -> Clip:
        """The video as a clip, made when it is saved or iterated; signals as in `session`, options as in
        `DriveOptions`."""
        session = self.session(ref, audio, DriveOptions(**options), pose=pose, expression=expression)
        return Clip(session, None if audio is None else Path(audio))

    def render(
        self,
        picture: Pixels,
        curves: NDArray[np.float32],
        head: NDArray[np.float32],
        seed: int = 0,
        steps: int = 1,
    ) -> Pixels:
        """Frames (T, S, S, 3) of a square picture (S, S, 3) under ARKit curves (T, 52) and head motion (T,
        6).

        Raises:
            UserError: the picture is not square or has no face.
        """
        height, width = picture.shape[:2]
        if height != width:
            raise UserError(f"picture: {width} x {height} px, must be square; cut out the head first")
        face = choose_face(find_faces(picture), "largest", (width, height))
        sampling = Sampling(seed=seed, steps=steps)
        return render_picture(self.nets, picture, face.landmarks, Motion(curves, head), sampling)


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
