"""Speech and a picture to video by the released audio model, of any length.

The picture goes in by three ways: as a latent frame before the video, added to every frame, and shown to
the language model. Speech is Whisper's, inside the face. Long videos are sampled in windows that move from
step to step. Sections 5.2 to 5.7 of the reference; the parts are in `avatar.adapters`.

Shape legend: B = 1, C latent channels, T latent frames, F video frames, h w latent height and width, H W px.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import sqrt
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avatar.adapters.audio_dit import AudioDiT, AudioDiTConfig
from avatar.adapters.audio_sampling import (
    GROUP,
    fuse,
    guidance_at,
    shift_at,
    speech_frames,
    total_frames,
    window_frames,
)
from avatar.backbone import flow
from avatar.backbone.dit import TIME_SCALE
from avatar.drivers.face import choose_face, find_faces
from avatar.drivers.prompt_encoders import Encoded
from avatar.drivers.speech_states import FPS, SpeechStates, speech_states
from avatar.errors import UserError
from avatar.framing import Pixels, as_clip
from avatar.generate import Nets, decode, one_clip
from avatar.generate_options import SpeakOptions
from avatar.media import frame_count
from avatar.prompts import Wanted

EXPRESSION, POSE = 30.0, 25.0  # what the release always says of the amount of motion
FACE = 3.0  # sides of the box around the face in which speech acts
REST = 5  # silent video frames after a recording that does not fit one window
ROUND = 64  # px, sides are multiples of it
LONG_SIDES = {704: 1216, 512: 768, 384: 576, 256: 384}  # px, of the largest picture for a short side


@dataclass(frozen=True)
class Speaker:
    """What a video is made from, encoded.

    Attributes:
        text: the prompt and the picture.
        negative: what guidance leads away from, with the same picture; None without guidance.
        reference: (1, C, T, h, w), latents of the picture shown for a window's time.
        face: (1, 1, 1, h, w), 1 where speech acts.
        speech: what is heard.
        size: of the frames, (H, W).
    """

    text: Encoded
    negative: Encoded | None
    reference: Tensor
    face: Tensor
    speech: SpeechStates
    size: tuple[int, int]

    @property
    def frames(self) -> int:
        """Of the video."""
        return self.speech.frames


class SpeakerPipeline:
    """Makes the person in a picture speak."""

    def __init__(self, nets: Nets) -> None:
        if nets.whisper is None:
            raise UserError("--preset: only hunyuan-avatar hears speech")
        self.nets = nets

    @torch.no_grad()
    def prepare(
        self,
        picture: Pixels,
        sound: NDArray[np.float32],
        seconds: Fraction,
        prompt: str,
        options: SpeakOptions,
    ) -> Speaker:
        """Encode everything.

        Args:
            picture: RGB (H, W, 3) of a person.
            sound: (samples,), mono at 16 kHz.
            seconds: its length.
            prompt: what is to be seen.

        Raises:
            UserError: no face is found, the prompt does not fit, or steps of a long video are to be skipped.
        """
        nets, release = self.nets, self.nets.release
        assert nets.whisper is not None
        frames = frame_count(seconds, Fraction(FPS))
        if nets.cache is not None and frames > release.sampling.frames:
            raise UserError(
                "--step-cache: windows of a long video move from step to step, so no two steps are alike; "
                f"leave it out or make at most {release.sampling.frames / FPS:.2f} s, by --seconds"
            )
        height, width = picture.shape[:2]
        face = choose_face(find_faces(picture), options.face, (width, height))
        size = speaker_size((height, width), options.image_size)
        shown = _resized(picture, size)
        wanted = [Wanted(release.prompt_prefix + prompt.strip(), shown)]
        if options.cfg_scale > 1:
            negative = release.negative_prompt if options.neg_prompt is None else options.neg_prompt
            wanted.append(Wanted(negative, shown))
        encoded = nets.prompts(wanted)
        with nets.vae() as vae:
            clip = as_clip(shown).to(next(vae.parameters()))
            reference = vae.encode_tiled(clip.expand(-1, -1, release.sampling.frames, -1, -1)).float()
        latent = cast(tuple[int, int], tuple(reference.shape[-2:]))
        return Speaker(
            text=encoded[0],
            negative=encoded[1] if len(encoded) > 1 else None,
            reference=reference,
            face=face_mask(face.box, (height, width), size, latent).to(nets.device),
            speech=speech_states(sound, nets.whisper, frames),
            size=size,
        )

    @torch.no_grad()
    def sample(
        self, speaker: Speaker, options: SpeakOptions, step: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Latents (1, C, T, h, w) of the video, in float32."""
        release, device = self.nets.release, self.nets.device
        assert isinstance(release.dit, AudioDiTConfig)
        window, total = speaker.reference.shape[2], self._latents(speaker)[0]
        _, channels, _, height, width = speaker.reference.shape
        start = flow.noise((1, channels, total, height, width), options.seed).to(device)
        times = flow.schedule(options.infer_steps, options.flow_shift or release.sampling.shift, reverse=True)
        numbers = {time: i for i, time in enumerate(times.tolist())}
        count = release.dit.motion_values
        with self.nets.dit() as found, one_clip(self.nets.cache):
            net = cast(AudioDiT, found)
            dtype = next(net.parameters()).dtype

            def row(value: float, length: int) -> Tensor:
                return torch.full((1, length), value, device=device)

            given = {
                "reference": speaker.reference.to(device, dtype),
                "expression": row(EXPRESSION * options.expressiveness, count),
                "pose": row(POSE * options.head_motion, count),
                "fps": row(FPS, 1)[0],
            }

            def predict(
                x: Tensor, time: float, text: Encoded, speech: Tensor, face: float, branch: str
            ) -> Tensor:
                if net.cache is not None:
                    net.cache.branch = branch
                return net.animate(
                    x.to(dtype),
                    row(TIME_SCALE * time, 1)[0],
                    speech=speech.to(device, dtype),
                    face=face * speaker.face,
                    text=text.states.to(device, dtype),
                    text_mask=text.mask.to(device),
                    pooled=text.pooled.to(device, dtype),
                    **given,
                ).float()

            def velocity(x: Tensor, time: float) -> Tensor:
                number = numbers[time]
                guidance = guidance_at(number, options.infer_steps, options.cfg_scale)
                windows = window_frames(total, window, shift_at(number, total, window))

                def part(x: Tensor, frames: Tensor) -> Tensor:
                    speech = speaker.speech.around(speech_frames(frames, GROUP * total))[None]
                    if speaker.negative is None:
                        return predict(x, time, speaker.text, speech, 1.0, "heard")
                    heard = predict(x, time, speaker.text, speech, guidance.face, "heard")
                    text = speaker.negative if guidance.negative_text else speaker.text
                    silent = predict(x, time, text, torch.zeros_like(speech), guidance.face, "silent")
                    return flow.guide(heard, silent, guidance.scale)

                fused = fuse(part, x, windows)
                step()
                return fused

            return flow.euler(velocity, start, times)

    def frames(self, speaker: Speaker, latents: Tensor) -> Iterator[Pixels]:
        """Frames (H, W, 3) of latents, as they are decoded; none after the end of the recording."""
        yield from islice(decode(self.nets, latents[:, :, : self._latents(speaker)[1]]), speaker.frames)

    def _latents(self, speaker: Speaker) -> tuple[int, int]:
        """Latent frames that are sampled, and how many of them are shown."""
        one = self.nets.release.sampling.frames
        heard = one if speaker.frames <= one else speaker.frames + REST
        return total_frames(heard, speaker.reference.shape[2]), heard // GROUP + 1


def speaker_size(size: tuple[int, int], short: int) -> tuple[int, int]:
    """The size (H, W) that the release gives to a picture: multiples of 64 px, not too much in all.

    Args:
        size: of the picture, (H, W).
        short: the short side, px.
    """
    height, width = size
    long = LONG_SIDES.get(short, 1.5 * short)

    def scaled(factor: float) -> tuple[int, int]:
        return max(1, round(height * factor / ROUND)) * ROUND, max(1, round(width * factor / ROUND)) * ROUND

    found = scaled(short / min(size))
    return found if found[0] * found[1] <= short * long else scaled(sqrt(short * long / height / width))


def face_mask(
    box: tuple[float, float, float, float],
    picture: tuple[int, int],
    size: tuple[int, int],
    latent: tuple[int, int],
) -> Tensor:
    """Where speech acts, (1, 1, 1, h, w): three boxes wide and high around the face.

    Args:
        box: left, top, width, height of the face in the picture, px.
        picture: its size, (H, W).
        size: of the frames, (H, W).
        latent: (h, w).
    """
    scales = (size[1] / picture[1], size[0] / picture[0])
    mask = torch.zeros(1, 1, *size)
    spans = []
    for start, length, scale, side in zip(box[:2], box[2:], scales, size[::-1], strict=True):
        middle, half = (start + length / 2) * scale, FACE * length * scale / 2
        spans.append(slice(int(max(0, middle - half)), int(min(side, middle + half))))
    mask[..., spans[1], spans[0]] = 1
    return F.interpolate(mask, latent, mode="bilinear")[:, :, None]


def _resized(picture: Pixels, size: tuple[int, int]) -> Pixels:
    from PIL import Image

    return np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.LANCZOS))
