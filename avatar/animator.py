"""The public way in: a photo and a recording become a video.

animator = Animator.from_pretrained("mini")
animator.drive(ref="face.png", audio="talk.wav").save("talk.mp4")
animator.drive(ref="face.png", signals=[AudioSignal.from_file("talk.wav"), ExpressionSignal.of_mood("sad")])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avatar.adapters.adapter_file import add_adapters
from avatar.backbone.checkpoint import load
from avatar.backbone.decode import ReferenceDecoder
from avatar.backbone.vae import CausalVAE
from avatar.between import BetweenSession
from avatar.device import pick_device
from avatar.drivers.audio_signal import AudioSignal, Recording
from avatar.drivers.face import choose_face, find_faces
from avatar.drivers.mesh import FaceBasis
from avatar.drivers.mouth import MouthModel
from avatar.drivers.speech import SpeechDriver
from avatar.drivers.whisper import BUNDLED
from avatar.dubbing import DubSession
from avatar.errors import UserError
from avatar.inputs import Driver, Given, check_drivers, read_drivers
from avatar.media import is_video
from avatar.model import Generator
from avatar.options import DriveOptions
from avatar.presets import PRESETS
from avatar.render import Motion, Nets, Sampling, render_picture
from avatar.session import Clip, DriveSession, Session

SHIPPED = ("mini",)  # presets whose weights come with the package

Pixels = NDArray[np.uint8]
Drivers = Given | Iterable[Given] | None  # of one kind


class Animator:
    """Loaded nets; makes any number of videos."""

    def __init__(self, nets: Nets, speech: SpeechDriver) -> None:
        self.nets, self.speech = nets, speech

    @classmethod
    def from_pretrained(
        cls,
        preset: str = "mini",
        device: str = "auto",
        whisper: str | Path | None = None,
        adapters: Iterable[tuple[str | Path, float]] = (),
    ) -> Animator:
        """Load a preset.

        Args:
            preset: "mini", whose weights come with the package.
            device: "auto", "cpu", "cuda" or "mps".
            whisper: another Whisper model, see `avatar.drivers.whisper.WhisperFeatures.from_pretrained`.
            adapters: files or run folders of `avatar finetune`, each with its strength.

        Raises:
            UserError: no such preset or device, or a Whisper or an adapter that does not fit.
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
            adapters=(given := tuple(adapters)),
        )
        speech = SpeechDriver.from_pretrained(None, whisper or BUNDLED, str(where))
        every = {"generator": nets.generator, "decoder": nets.decoder, "speech": speech.net}
        add_adapters(given, every, folder, elsewhere=("prompt",))
        return cls(nets, speech)

    def session(
        self,
        ref: str | Path,
        audio: Drivers = None,
        options: DriveOptions | None = None,
        *,
        pose: Drivers = None,
        expression: Drivers = None,
        prompt: Drivers = None,
        last: str | Path | None = None,
        signals: Iterable[Driver] = (),
    ) -> Session:
        """Everything that can be wrong with the inputs is found here; iterating the session makes the frames.

        Every driver is a signal in one list; the keywords add to it what they read. Each takes one or several
        of what it says.

        Args:
            ref: photo; or a video, which speech alone dubs, and of which anything else moves the first frame,
                or that at the option `ref_time`.
            audio: the speech, a file or a signal; without it the video has no sound and is as long as the
                longest signal.
            pose: moves the head: a signal, a video or a signals file.
            expression: moves the face: a signal, a video, a signals file or a word of
                `avatar.drivers.expression.MOODS`.
            prompt: moves face and head by words, such as "she smiles and slowly turns to the left".
            last: a picture that the video ends with; it then begins with `ref` itself.
            signals: of any kinds; who moves what is said in `avatar.drivers.mix`.

        Raises:
            UserError: a file cannot be used, no face fits; the message names it.
        """
        given = read_drivers({"audio": audio, "pose": pose, "expression": expression, "prompt": prompt})
        every = [*given, *check_drivers(signals)]
        asked = options or DriveOptions()
        if last is not None:
            return BetweenSession(self.nets, self.speech, Path(ref), Path(last), every, asked)
        sounds = [signal for signal in every if isinstance(signal, AudioSignal | Recording)]
        if sounds and len(sounds) == len(every) and asked.ref_time is None and is_video(ref):
            return DubSession(self.nets, self.speech, Path(ref), sounds, asked)
        return DriveSession(self.nets, self.speech, Path(ref), every, asked)

    def stream(
        self,
        ref: str | Path,
        audio: Drivers = None,
        *,
        pose: Drivers = None,
        expression: Drivers = None,
        prompt: Drivers = None,
        last: str | Path | None = None,
        signals: Iterable[Driver] = (),
        **options: Any,
    ) -> Iterator[Pixels]:
        """Frames (H, W, 3) as they are made; drivers as in `session`, options as in `DriveOptions`."""
        asked = DriveOptions(**options)
        yield from self.session(
            ref, audio, asked, pose=pose, expression=expression, prompt=prompt, last=last, signals=signals
        )

    def drive(
        self,
        ref: str | Path,
        audio: Drivers = None,
        *,
        pose: Drivers = None,
        expression: Drivers = None,
        prompt: Drivers = None,
        last: str | Path | None = None,
        signals: Iterable[Driver] = (),
        **options: Any,
    ) -> Clip:
        """The video as a clip, made when it is saved or iterated; drivers as in `session`, options as in
        `DriveOptions`."""
        asked = DriveOptions(**options)
        session = self.session(
            ref, audio, asked, pose=pose, expression=expression, prompt=prompt, last=last, signals=signals
        )
        return Clip(session)

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
