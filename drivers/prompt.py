"""A prompt as a signal: what a face and a head do when they are told to in words.

Tracks are sampled window by window by the net of `avatar.drivers.prompt_net`. Guidance is the classifier-free
one (Ho and Salimans 2022) on the mean motion: what it says of the prompt beyond what it says of the negative
prompt or, without one, of no text at all, is added once more in part. Speech keeps the
mouth: beside it a prompt moves what an expression may (`avatar.drivers.mix`). The head's motion is added to
the idle sway, and the prompt may also say how much of that there is.

Shapes: T frames, C tracks, 52 curves, 6 head values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.adapters.adapter_file import add_adapters
from avatar.backbone import flow
from avatar.backbone.checkpoint import load
from avatar.drivers.added_motion import AddedMotion
from avatar.drivers.curves import curve_indices
from avatar.drivers.expression import NO_SMILE, ExpressionSignal
from avatar.drivers.mix import on_reference
from avatar.drivers.motion import smoothstep
from avatar.drivers.prompt_net import (
    CONTEXT,
    RATE,
    TRACK,
    TRACKS,
    WINDOW,
    PromptNet,
    curves_of,
    head_of,
    without_text,
)
from avatar.drivers.signal import PARTS, parts_of
from avatar.drivers.text import SentenceEncoder, Sentences
from avatar.errors import UserError
from avatar.options import DriveOptions

Array = NDArray[np.float32]

SHIPPED = Path(str(files("avatar").joinpath("weights/mini/prompt.safetensors")))
OTHERS = ("generator", "decoder", "speech")  # nets that an adapter may change beside this one
STEPS = 8  # of the sampler
SHIFT = 4.0  # of its times towards the noise, where it is decided what is done and to which side
GUIDANCE: float = DriveOptions().prompt_guidance
MOST_GUIDANCE = 5.0  # beyond it motion is no longer one that was ever seen
SETTLE = 0.3  # s: motion begins in the pose of the reference
LEAST, MOST = -0.5, 1.0  # of a curve that is added
FROWN, SMILE = list(curve_indices("mouthFrown", "mouthStretch")), list(curve_indices(*NO_SMILE))
FROWNS, SMILES = 0.2, 0.2  # corners drawn down so far are a frown; what is asked for with it so far stays


@dataclass(frozen=True, kw_only=True)
class PromptSignal(AddedMotion):
    """What words add to the motion of a face and a head.

    Attributes:
        prompt, negative: the words.
    """

    KIND: ClassVar[str] = "prompt"
    FACTS: ClassVar[tuple[str, ...]] = ("prompt", "negative")

    prompt: str = ""
    negative: str = ""

    def expression(self, shown: Array) -> ExpressionSignal:
        """As words of an expression count, see `avatar.drivers.mix.towards`: a frown takes a smile off."""
        curves = self.curves.copy()
        down = curves[:, FROWN].max(1, keepdims=True)
        smile = curves[:, SMILE]
        curves[:, SMILE] = smile - np.clip(down / FROWNS, 0, 1) * np.clip(1 - smile / SMILES, 0, 1)
        return on_reference(replace(super().expression(shown), curves=curves), shown)

    @classmethod
    def _read_facts(cls, facts: Mapping[str, Any]) -> dict[str, Any]:
        return {name: str(facts[name]) for name in cls.FACTS}


@dataclass(frozen=True)
class Prompt:
    """Words that become a signal as long as the video they move.

    Attributes:
        words: in English.
        level, mask, face: strength, parts and whom it moves, as in `avatar.drivers.signal.Signal`.
    """

    words: str
    level: float = 1.0
    mask: frozenset[str] = PARTS
    face: int | None = None

    KIND: ClassVar[str] = "prompt"

    def __post_init__(self) -> None:
        if not self.words.strip():
            raise UserError("--prompt: is empty, say what is to be seen")

    @property
    def strength(self) -> Array:
        """The one strength, (1,)."""
        return np.full(1, self.level, np.float32)

    def scaled(self, strength: float) -> Prompt:
        """The prompt with its strength multiplied by a number."""
        return replace(self, level=self.level * strength)

    def masked(self, *regions: str) -> Prompt:
        """The prompt with no more than these of its parts, see `Signal.masked`."""
        return replace(self, mask=self.mask & parts_of(*regions))

    def on_face(self, number: int) -> Prompt:
        """The prompt for a face of the picture, counted from 0 by size."""
        return replace(self, face=number)

    def signal(
        self,
        frames: int,
        fps: Fraction,
        *,
        negative: str,
        guidance: float,
        seed: int,
        adapters: tuple[tuple[str | Path, float], ...] = (),
    ) -> PromptSignal:
        """Its motion by the shipped net with adapters, arguments as in `PromptDriver`.

        Raises:
            UserError: the packages of `avatar-toolkit[text]` are missing, or as `PromptDriver`.
        """
        made = _shipped(adapters)(
            self.words, frames=frames, fps=fps, negative=negative, guidance=guidance, seed=seed
        )
        return replace(made, mask=self.mask, face=self.face).scaled(self.level)


class PromptDriver:
    """Makes signals of prompts.

    Args:
        net: see `PromptNet`.
        encoder: of the prompts.
    """

    def __init__(self, net: PromptNet, encoder: SentenceEncoder) -> None:
        self.net, self.encoder = net, encoder

    @classmethod
    def from_pretrained(cls, weights: Path | None = None) -> PromptDriver:
        """The driver of the preset `mini`, or of other weights.

        Raises:
            UserError: the packages of `avatar-toolkit[text]` are missing.
        """
        return cls(load(PromptNet, weights or SHIPPED), SentenceEncoder())

    def __call__(
        self,
        prompt: str,
        *,
        frames: int,
        fps: Fraction,
        negative: str = "",
        guidance: float = GUIDANCE,
        seed: int = 0,
        steps: int = STEPS,
    ) -> PromptSignal:
        """The motion that a prompt describes.

        Args:
            prompt: in English; "" is a face at rest.
            frames: T, at `fps`.
            negative: what is not to be; needs a guidance above 1.
            guidance: how far motion is pushed from what it is without the prompt, or from the negative
                prompt; 1 is as the net says.
            seed: another seed is another motion for the same words.
            steps: of the sampler.

        Raises:
            UserError: the guidance is out of range, or a prompt too long.
        """
        if not 1 <= guidance <= MOST_GUIDANCE:
            raise UserError(f"--prompt-guidance {guidance:g}: must be 1 to {MOST_GUIDANCE:g}")
        if negative.strip() and guidance == 1:
            raise UserError("--negative-prompt: has no effect at a --prompt-guidance of 1; use 1.5 or more")
        text = self.encoder([prompt.strip(), negative.strip()])
        if not negative.strip():
            text = without_text(text, torch.tensor([False, True]))
        seconds = frames / fps
        tracks = sample(self.net, text, float(seconds), guidance=guidance, seed=seed, steps=steps)
        tracks = at_rate(tracks, fps, frames)
        tracks *= smoothstep(np.arange(frames) / float(fps) / SETTLE)[:, None].astype(np.float32)
        return PromptSignal(
            fps=fps,
            curves=curves_of(tracks).clip(LEAST, MOST),
            head=head_of(tracks),
            sway=tracks[:, [TRACK["sway"]]].clip(-1, 1),
            prompt=prompt,
            negative=negative,
        )


def at_rate(tracks: Array, fps: Fraction, frames: int) -> Array:
    """Tracks (n, C) at 12.5 Hz as (frames, C) at another rate, by a curve without corners through them."""
    from scipy.interpolate import PchipInterpolator

    time = np.arange(frames) * float(RATE / fps)
    curve = PchipInterpolator(np.arange(len(tracks)), tracks, axis=0)
    return curve(np.minimum(time, len(tracks) - 1)).astype(np.float32)


@torch.no_grad()
def sample(
    net: PromptNet, text: Sentences, seconds: float, *, guidance: float, seed: int, steps: int
) -> Array:
    """Tracks (n, C) at 12.5 Hz that fill `seconds` and two frames more.

    Args:
        text: two prompts, the wanted one and the one that guidance leads away from.
    """
    count = int(np.ceil(seconds * float(RATE))) + 2
    made = lead = np.zeros((0, len(TRACKS)), np.float32)
    while len(made) < count:
        first = max(0, len(made) - CONTEXT)
        when = torch.tensor([[first / float(RATE), seconds]])
        window = _window(net, text.first(1), made[first:], first, when, seed, steps)
        told, untold = net.mean_motion(text, when.expand(2, -1)).mT.numpy()
        made, lead = _joined(made, window, first), _joined(lead, told - untold, first)
    return (made + (guidance - 1) * lead)[:count] * net.deviation.numpy()


def _joined(made: Array, window: Array, first: int) -> Array:
    """Frames with those of a window from frame `first` on, faded over what they share."""
    shared = len(made) - first
    fade = np.linspace(0, 1, CONTEXT + 2, dtype=np.float32)[1:-1, None]
    blend = made[first:] + fade[:shared] * (window[:shared] - made[first:])
    return np.concatenate([made[:first], blend, window[shared:]])


def _window(
    net: PromptNet, text: Sentences, context: Array, first: int, when: Tensor, seed: int, steps: int
) -> Array:
    """WINDOW frames (T, C) from frame `first` on, in units of the net; the first ones are to be `context`."""
    shape = (1, len(TRACKS), WINDOW, 1, 1)
    known, given = torch.zeros(shape), torch.zeros(1, 1, WINDOW, 1, 1)
    known[0, :, : len(context), 0, 0] = torch.from_numpy(context).T
    given[:, :, : len(context)] = 1

    def velocity(x: Tensor, time: float) -> Tensor:
        clean = net(x, torch.full((1,), time), text, known, given, when).float()
        return flow.velocity_from_clean(x, clean, time)

    noise = flow.noise(shape, seed, first)
    return flow.euler(velocity, noise, flow.schedule(steps, SHIFT))[0, :, :, 0, 0].T.numpy()


@cache
def _shipped(adapters: tuple[tuple[str | Path, float], ...]) -> PromptDriver:
    driver = PromptDriver.from_pretrained()
    add_adapters(adapters, {"prompt": driver.net}, SHIPPED.parent, elsewhere=OTHERS)
    return driver


def read_prompt(given: str | Path) -> Prompt | PromptSignal:
    """A prompt of words, or what a signals file holds.

    Raises:
        UserError: no words, or a file that is missing, damaged or of another kind.
    """
    if Path(given).suffix == ".safetensors":
        return PromptSignal.load(given)
    return Prompt(str(given))
