"""One face of a picture: what moves it, how it is rendered, and where it is put into the frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from avatar.composite import Compositor
from avatar.drivers.added_motion import AddedMotion
from avatar.drivers.audio_signal import AudioSignal, Recording
from avatar.drivers.expression import ExpressionSignal
from avatar.drivers.face import Face, extract, head_crop
from avatar.drivers.motion import smoothstep
from avatar.drivers.photo_pose import photo_pose
from avatar.drivers.pose import PoseSignal
from avatar.drivers.prompt import Prompt
from avatar.drivers.retarget import retarget
from avatar.drivers.speech import SpeechDriver
from avatar.inputs import Driver
from avatar.mixing import Mixer, fitted
from avatar.options import DriveOptions
from avatar.render import NOTHING, Frame, Known, Nets, Renderer, Sampling
from avatar.voice import Voice, idle, speak
from avatar.whole import MOVED, WholeBody
from avatar.windows import Motion

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]

CROP = 256  # px, side of the picture the nets work on
EASE = 0.6  # s, over which motion grows out of a frame that is known


class Actor:
    """A face and its signals.

    Args:
        nets, speech: of the animator.
        photo: (H, W, 3).
        face: the one that is moved.
        others: the other faces of the photo.
        signals: of this face, their strengths as they are to be used.
        options: of the video.
        frames: of the video.
        known: pictures of the photo's size that the video begins or ends with.

    Raises:
        UserError: signals that do not fit together or the video.
    """

    def __init__(
        self,
        nets: Nets,
        speech: SpeechDriver,
        photo: Pixels,
        face: Face,
        others: Sequence[Face],
        signals: Sequence[Driver],
        options: DriveOptions,
        frames: int,
        known: Known = NOTHING,
    ) -> None:
        self.speech, self.options, self.frames, self.known = speech, options, frames, known
        crop = head_crop(face, (photo.shape[1], photo.shape[0]))
        self.compositor = Compositor(photo, crop, options.size, face.place, [other.place for other in others])
        self.shares = freedom(frames, options.fps, known)
        inside = Known(*(None if picture is None else extract(picture, crop, CROP) for picture in known))
        self.renderer = Renderer(
            nets,
            extract(photo, crop, CROP),
            crop.to_crop(face.landmarks, CROP),
            known=inside,
        )
        sounds = [signal for signal in signals if isinstance(signal, AudioSignal | Recording)]
        sounds = [sound for sound in sounds if sound.strength.any()]  # at strength 0 it is as if not there
        self.voice = Voice(sounds, options.fps, frames) if sounds else None
        self.renderer.driven.mesh.parted = 1 - self._articulates(signals)
        landmarks = face.landmarks * (self.compositor.crop.side / crop.side)
        moving = [signal for signal in signals if isinstance(signal, PoseSignal) and signal.mask & MOVED]
        moving = [signal for signal in moving if signal.strength.any()]
        added = [signal for signal in map(self._spoken, signals) if isinstance(signal, AddedMotion)]
        turning = [signal for signal in added if "head" in signal.mask and signal.strength.any()]
        if moving or turning:
            reference = photo_pose(self.compositor.photo, landmarks)
            moving = [retarget(signal, reference) for signal in moving]
        self.mixer = Mixer(
            self.renderer.driven.mesh,
            [*(signal for signal in signals if isinstance(signal, ExpressionSignal)), *moving, *added],
            fps=options.fps,
            frames=frames,
            when_short=options.when_short,
        )
        self.body: WholeBody | None = None
        if moving or turning:
            poses = [fitted(signal, options.fps, frames, options.when_short) for signal in moving]
            heads = [*self.mixer.heads, *self.mixer.turns]
            mesh = self.renderer.driven.mesh
            self.body = WholeBody(self.compositor, landmarks, mesh, CROP, reference, poses, heads)

    def _articulates(self, signals: Sequence[Driver]) -> float:
        """How far the lips are a voice's or a film's, and not the photo's, in [0, 1]."""
        films = [signal for signal in signals if isinstance(signal, ExpressionSignal) and signal.absolute]
        shares = [float(film.strength.max()) for film in films if "mouth" in film.mask]
        shares += [self.voice.articulates] if self.voice else []
        return min(max(shares, default=0.0), 1.0)

    def _spoken(self, signal: Driver) -> Driver:
        """The signal; a prompt's words made one."""
        if not isinstance(signal, Prompt) or signal.level == 0:
            return signal
        options = self.options
        return signal.signal(
            self.frames,
            options.fps,
            negative=options.negative_prompt,
            guidance=options.prompt_guidance,
            seed=options.seed,
            adapters=self.renderer.nets.adapters,
        )

    def __iter__(self) -> Iterator[Frame]:
        options = self.options
        schedules = self.mixer.schedules | ({"audio": self.voice.schedule} if self.voice else {})
        sampling = Sampling(
            seed=options.seed,
            steps=options.steps,
            guidance=options.guidance,
            head_motion=options.head_motion,
            expressiveness=options.expressiveness,
            schedules=schedules,
        )
        return self.renderer(self.motion(), sampling)

    def show(self, number: int, part: Frame, frame: Pixels) -> Pixels:
        """Put the face, and the body if a pose moves it, into frame number `number` (H, W, 3)."""
        if self.body is None:
            return self.compositor(part.flow, part.mask, part.rgb, part.shade, frame)
        return self.body(number, part, frame)

    def motion(self) -> Iterator[Motion]:
        """Motion of all frames: that of the speech or of an idle face, with the signals added."""
        rest, done, options = self.renderer.driven.mesh.rest, 0, self.options
        if self.voice is None:
            own = idle(rest, options, self.frames)
        else:
            own = speak(self.speech, self.voice, rest, options, self.frames)
        for free in own:
            motion = eased(free, self.shares[done : done + len(free.curves)], rest)
            spoken = np.zeros(len(motion.curves), np.float32)
            if motion.audio_strength is not None:
                spoken = motion.audio_strength.clamp(max=1).numpy()
            yield self.mixer(motion, done, spoken)
            done += len(motion.curves)


def freedom(frames: int, fps: Fraction, known: Known) -> Array:
    """Share of the motion (T,) that there may be: none where a frame is known, all of it from EASE s on."""
    time = np.arange(frames) / float(fps)
    ease = min(EASE, time[-1] / 3) or 1.0
    share = np.ones(frames)
    if known.first is not None:
        share *= smoothstep(time / ease)
    if known.last is not None:
        share *= smoothstep((time[-1] - time) / ease)
    return share.astype(np.float32)


def eased(motion: Motion, share: Array, rest: Array) -> Motion:
    """So much of a motion as the share (T,) says; the rest is the reference at rest."""
    strength = motion.audio_strength
    return motion._replace(
        curves=rest + share[:, None] * (motion.curves - rest),
        head=share[:, None] * motion.head,
        audio_strength=strength if strength is None else strength * torch.from_numpy(share),
    )
