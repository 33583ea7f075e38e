"""One face of a picture: what moves it, how it is rendered, and where it is put into the frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from avatar.composite import Compositor
from avatar.drivers.audio_signal import AudioSignal, Recording
from avatar.drivers.expression import ExpressionSignal
from avatar.drivers.face import Face, extract, head_crop
from avatar.drivers.pose import PoseSignal
from avatar.drivers.prompt import Prompt, PromptSignal
from avatar.drivers.retarget import retarget
from avatar.drivers.speech import SpeechDriver
from avatar.inputs import Driver
from avatar.mixing import Mixer, fitted
from avatar.options import DriveOptions
from avatar.render import Frame, Nets, Renderer, Sampling
from avatar.voice import Voice, idle, speak
from avatar.whole import MOVED, WholeBody, reference_pose
from avatar.windows import Motion

Pixels = NDArray[np.uint8]

CROP = 256  # px, side of the picture the nets work on


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
    ) -> None:
        self.speech, self.options, self.frames = speech, options, frames
        crop = head_crop(face, (photo.shape[1], photo.shape[0]))
        self.compositor = Compositor(photo, crop, options.size, face.place, [other.place for other in others])
        self.renderer = Renderer(nets, extract(photo, crop, CROP), crop.to_crop(face.landmarks, CROP))
        sounds = [signal for signal in signals if isinstance(signal, AudioSignal | Recording)]
        sounds = [sound for sound in sounds if sound.strength.any()]  # at strength 0 it is as if not there
        self.voice = Voice(sounds, options.fps, frames) if sounds else None
        landmarks = face.landmarks * (self.compositor.crop.side / crop.side)
        moving = [signal for signal in signals if isinstance(signal, PoseSignal) and signal.mask & MOVED]
        moving = [signal for signal in moving if signal.strength.any()]
        prompts = [signal for signal in map(self._spoken, signals) if isinstance(signal, PromptSignal)]
        turning = [signal for signal in prompts if "head" in signal.mask and signal.strength.any()]
        if moving or turning:
            reference = reference_pose(self.compositor.photo, landmarks)
            moving = [retarget(signal, reference) for signal in moving]
        self.mixer = Mixer(
            self.renderer.driven.mesh,
            [*(signal for signal in signals if isinstance(signal, ExpressionSignal)), *moving, *prompts],
            fps=options.fps,
            frames=frames,
            when_short=options.when_short,
            whole=True,
        )
        self.body: WholeBody | None = None
        if moving or turning:
            poses = [fitted(signal, options.fps, frames, options.when_short) for signal in moving]
            heads = [
                *self.mixer.heads,
                *(signal.pose for signal in self.mixer.prompts if "head" in signal.mask),
            ]
            mesh = self.renderer.driven.mesh
            self.body = WholeBody(self.compositor, landmarks, mesh, CROP, reference, poses, heads)

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
        rest, done = self.renderer.driven.mesh.rest, 0
        if self.voice is None:
            own = idle(rest, self.options, self.frames)
        else:
            own = speak(self.speech, self.voice, rest, self.options, self.frames)
        for motion in own:
            spoken = np.zeros(len(motion.curves), np.float32)
            if motion.audio_strength is not None:
                spoken = motion.audio_strength.clamp(max=1).numpy()
            yield self.mixer(motion, done, spoken)
            done += len(motion.curves)
