"""From one picture to another: a video that begins with the first and ends with the last.

Both pictures are driven, the first towards the last and the last from the first, by what the face and the
head do between them; the two videos then show the same pose at the same time, and the one fades into the
other. Both ends are known to the generator (section 2.6 of the design), so at the ends it keeps to them.
Speech and the other signals act between the ends. Shapes: T frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from avatar.drivers.added_motion import AddedMotion
from avatar.drivers.curves import INDEX
from avatar.drivers.expression import ExpressionReader
from avatar.drivers.face import choose_face, find_faces
from avatar.drivers.head import HeadSignal, meshes_pose
from avatar.drivers.mesh import FaceBasis, ReferenceMesh
from avatar.drivers.motion import smoothstep
from avatar.drivers.speech import SpeechDriver
from avatar.errors import UserError
from avatar.inputs import Driver
from avatar.media import frame_count, read_image
from avatar.options import DriveOptions
from avatar.render import Known, Nets
from avatar.session import DriveSession, Session, video_length

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

JAW = INDEX["jawOpen"]
NEAR = 3  # frames at each end over which the picture itself goes over into the video that is made of it
FADE = (0.3, 0.7)  # shares of the video between which the one picture goes over into the other


class Transition(AddedMotion):
    """What a face and a head do on the way from one picture to another."""

    KIND: ClassVar[str] = "transition"


def difference(basis: FaceBasis, one: Array, other: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """Curves (52,) and head pose (6,) of a face mesh (478, 3), px, relative to another of the same person.

    Args:
        one: where it begins.
        size: (width, height) of the picture, px.
    """
    both = np.stack([one, other])
    curves = ExpressionReader()(both)
    change = curves[1] - curves[0]
    jaws = [ReferenceMesh(basis, mesh).rest[JAW] for mesh in both]
    change[JAW] = jaws[1] - jaws[0]  # as far as the mesh of the renderer counts a mouth as open
    return change, HeadSignal.of_pose(meshes_pose(both, size), basis).head[1]


class BetweenSession(Session):
    """A video from one picture to another of the same size and person.

    Args:
        nets, speech: of the animator.
        first, last: the pictures.
        signals: what moves the face beside, or none.
        options: of the video.

    Raises:
        UserError: everything that can be wrong with the inputs.
    """

    def __init__(
        self,
        nets: Nets,
        speech: SpeechDriver,
        first: Path,
        last: Path,
        signals: Sequence[Driver],
        options: DriveOptions,
    ) -> None:
        if not signals and options.seconds is None:
            raise UserError("--last: say with --seconds how long the way from one picture to the other is")
        length = video_length(signals, options) if signals else Fraction(options.seconds or 0)
        self.frames, self.fps = frame_count(length, options.fps), options.fps
        pictures = read_image(first, options.ref_time), read_image(last)
        shapes = [picture.shape[:2] for picture in pictures]
        if shapes[0] != shapes[1]:
            (h, w), (height, width) = shapes
            raise UserError(f"{last}: is {width} x {height} px, must be {w} x {h} px as {first} is")
        size = (shapes[0][1], shapes[0][0])
        meshes = [
            choose_face(find_faces(picture), options.face, size, str(path)).landmarks
            for picture, path in zip(pictures, (first, last), strict=True)
        ]
        self.way = smoothstep(np.linspace(0, 1, self.frames)).astype(np.float32)
        self.sessions = []
        for at, path in enumerate((first, last)):
            curves, head = difference(nets.basis, meshes[at], meshes[1 - at], size)
            share = self.way if at == 0 else 1 - self.way
            moved = Transition(
                fps=self.fps,
                curves=share[:, None] * curves,
                head=share[:, None] * head,
                sway=np.zeros(1, np.float32),
            )
            known = Known(first=pictures[0], last=pictures[1])
            moment = options.ref_time if at == 0 else None  # of the first picture alone
            asked = options.model_copy(update={"seconds": length, "ref_time": moment})
            self.sessions.append(DriveSession(nets, speech, path, [*signals, moved], asked, known))
        self.size, self.sounds = self.sessions[0].size, self.sessions[0].sounds

    def __iter__(self) -> Iterator[Pixels]:
        """Each frame from what is nearest: a picture itself, its own video, or in the middle both videos."""
        shares = ramp(np.linspace(0, 1, self.frames), *FADE)
        beside = ramp(np.arange(self.frames), 0, NEAR)  # of the videos, not of the pictures at the ends
        photos = [session.photo for session in self.sessions]
        for number, (one, other) in enumerate(zip(*self.sessions, strict=True)):
            frame = mixed(one, other, shares[number])
            frame = mixed(photos[0], frame, beside[number])
            yield mixed(photos[1], frame, beside[self.frames - 1 - number])


def ramp(values: NDArray, start: float, stop: float) -> NDArray:
    """0 until `start`, 1 from `stop` on, and a slope without corners between."""
    return smoothstep((values - start) / (stop - start))


def mixed(one: Pixels, other: Pixels, share: float) -> Pixels:
    """One frame, or another of which there is a share."""
    if share in (0, 1):
        return other if share else one
    return (one + share * (other.astype(np.float32) - one) + 0.5).astype(np.uint8)
