"""One video in the making: the inputs checked, then frame after frame, then a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avatar.actor import Actor
from avatar.ahead import beside
from avatar.drivers.audio_signal import AudioSignal, Recording, Sound
from avatar.drivers.face import Face, choose_face, find_faces
from avatar.drivers.signal import Signal
from avatar.drivers.speech import SpeechDriver
from avatar.errors import UserError
from avatar.inputs import Driver
from avatar.media import frame_count, read_image
from avatar.options import DriveOptions
from avatar.render import NOTHING, Frame, Known, Nets
from avatar.writer import VideoWriter

Pixels = NDArray[np.uint8]

WAITING = 16  # frames of the nets that may wait for the photo: those of a window


class Session:
    """One video in the making.

    Attributes:
        frames: how many it will have, ceil(seconds * fps).
        size: (width, height) of the frames.
        fps: frames a second.
        sounds: what is heard in it, as they were given.
    """

    frames: int
    size: tuple[int, int]
    fps: Fraction
    sounds: list[Sound]

    def __iter__(self) -> Iterator[Pixels]:
        raise NotImplementedError

    def save(
        self,
        path: str | Path,
        force: bool = False,
        show: Callable[[Iterable[Pixels]], Iterable[Pixels]] = lambda frames: frames,
    ) -> Path:
        """Write an mp4 with the sound.

        Args:
            path: target.
            force: replace an existing file.
            show: is given the frames, to show how far it is.

        Raises:
            UserError: the file exists and `force` is not set, or it cannot be written.
        """
        length = Fraction(self.frames) / self.fps
        with tempfile.TemporaryDirectory(prefix="avatar-") as folder:
            audio = [sound.sound_file(Path(folder, f"{at}.wav")) for at, sound in enumerate(self.sounds)]
            writer = VideoWriter(path, size=self.size, fps=self.fps, audio=audio, seconds=length, force=force)
            with writer:
                for frame in show(self):
                    writer.write(frame)
        return Path(path)


def video_length(signals: Sequence[Driver], options: DriveOptions) -> Fraction:
    """Seconds of a video: of the longest sound, or else of the longest signal, and no more than is asked for.

    Raises:
        UserError: nothing says how long.
    """
    if not signals:
        raise UserError("nothing drives the face: give --audio, --pose, --expression or --prompt")
    sounds = [signal.seconds for signal in signals if isinstance(signal, AudioSignal | Recording)]
    lengths = sounds or [
        signal.seconds for signal in signals if isinstance(signal, Signal) and len(signal.strength) > 1
    ]
    if options.seconds is not None:
        return min(max(lengths, default=options.seconds), options.seconds)
    if not lengths:
        raise UserError("the drivers have no length of their own: say how long with --seconds")
    return max(lengths)


class DriveSession(Session):
    """One video of one picture, which may be known to begin and end with certain frames.

    A signal moves the face whose number it carries, or the one that the options choose. Faces without a
    signal stay as they are in the photo. Every sound is heard in the video.

    Attributes:
        actors: the faces that move, in order of their numbers.

    Raises:
        UserError: everything that can be wrong with the inputs.
    """

    def __init__(
        self,
        nets: Nets,
        speech: SpeechDriver,
        ref: Path,
        signals: Sequence[Driver],
        options: DriveOptions,
        known: Known = NOTHING,
    ) -> None:
        self.options, self.fps = options, options.fps
        self.sounds = [s for s in signals if isinstance(s, AudioSignal | Recording)]
        photo = read_image(ref, options.ref_time)
        self.frames = frame_count(video_length(signals, options), self.fps)
        faces = find_faces(photo)
        self.actors: list[Actor] = []
        for number, given in sorted(self._by_face(faces, photo, signals, str(ref)).items()):
            others = [face for other, face in enumerate(faces) if other != number]
            # Faces that sway alike would look like puppets on one string.
            own = options.model_copy(update={"seed": options.seed + len(self.actors)})
            self.actors.append(
                Actor(nets, speech, photo, faces[number], others, given, own, self.frames, known)
            )
        self.photo = self.actors[0].compositor.photo
        self.size = self.actors[0].compositor.size

    def _by_face(
        self, faces: list[Face], photo: Pixels, signals: Sequence[Driver], name: str
    ) -> dict[int, list[Driver]]:
        """The signals of each face, at the strength that the options give them."""
        size = (photo.shape[1], photo.shape[0])
        found: dict[int, list[Driver]] = {}
        for spec in dict.fromkeys(signal.face for signal in signals):
            face = choose_face(faces, self.options.face if spec is None else str(spec), size, name)
            number = next(number for number, other in enumerate(faces) if other is face)
            found.setdefault(number, []).extend(
                signal.scaled(getattr(self.options, f"{signal.KIND}_scale", 1.0))
                for signal in signals
                if signal.face == spec
            )
        return found

    def __iter__(self) -> Iterator[Pixels]:
        bodies = [actor.body for actor in self.actors if actor.body is not None]
        return beside(
            self._shown,
            enumerate(zip(*self.actors, strict=True)),
            WAITING,
            prepare=(lambda: [body.stage for body in bodies]) if bodies else None,
        )

    def _shown(self, made: tuple[int, tuple[Frame, ...]]) -> Pixels:
        """The photo with every face put into it."""
        number, parts = made
        frame = self.photo
        for actor, part in zip(self.actors, parts, strict=True):
            frame = actor.show(number, part, frame)
        return frame


class Clip:
    """A video that is made while it is saved or iterated."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def __len__(self) -> int:
        return self.session.frames

    def __iter__(self) -> Iterator[Pixels]:
        return iter(self.session)

    def save(self, path: str | Path, force: bool = False) -> Path:
        """Write an mp4 with the sound.

        Raises:
            UserError: the file exists and `force` is not set, or it cannot be written.
        """
        return self.session.save(path, force)
