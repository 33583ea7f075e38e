"""Sound for a silent video, or beside its speech: `Soundtrack.from_pretrained("mini").score("clip.mp4")`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avatar.backbone.checkpoint import load
from avatar.backbone.hifigan import HiFiGAN
from avatar.backbone.mel import MelConfig
from avatar.backbone.mel_vae import MelVAE
from avatar.backbone.v2a import V2A, Text
from avatar.backbone.v2a_sampling import decode, sample, windows
from avatar.backbone.vae import CausalVAE
from avatar.device import pick_device
from avatar.drivers.clip_sight import CLIPEyes
from avatar.drivers.sight import Eyes, VAEEyes, frame_total, look, video_seconds, watch
from avatar.drivers.text import SentenceEncoder, T5Reader
from avatar.errors import UserError
from avatar.media import video_info
from avatar.options import SoundtrackOptions
from avatar.sound_mix import Old, mux, write_wav
from avatar.soundtrack_presets import LATENT_SECONDS, PRESETS
from avatar.writer import check_output

RATE = MelConfig().rate  # Hz of the sound that the nets make
WINDOW, OVERLAP = 112, 28  # sound latents: 5.2 s and 1.3 s
PIECE = 128  # sound latents decoded at a time
POLISH = 32  # corrections of the vocoder's sound to its spectrogram
LEVEL: float = SoundtrackOptions().level
LONGEST = 4 * 3600  # s
WEIGHTS = Path(__file__).parent / "weights"

Reader = SentenceEncoder | T5Reader


class Soundtrack:
    """Nets that look at a video and make its sound.

    Args:
        eyes: say how things look.
        net: from picture and prompt to sound latents.
        vae: sound latents to spectrograms.
        vocoder: spectrograms to waveforms.
        make_reader: what reads prompts; made when there is one.
    """

    def __init__(
        self,
        eyes: Eyes,
        net: V2A,
        vae: MelVAE,
        vocoder: HiFiGAN,
        make_reader: Callable[[], Reader] = SentenceEncoder,
    ) -> None:
        self.eyes, self.net, self.vae, self.vocoder = eyes, net, vae, vocoder
        self._reader = cache(make_reader)

    @classmethod
    def from_pretrained(
        cls, preset: str = "mini", *, folder: Path | None = None, device: str = "auto"
    ) -> Soundtrack:
        """Load the nets of a preset.

        Args:
            folder: with `soundtrack_v2a`, `soundtrack_vae` and `soundtrack_vocoder` (.safetensors), if not
                those of the package, which has those of mini; for full also the folders `clip` and `t5`, as
                transformers writes them.

        Raises:
            UserError: unknown preset, files are missing or damaged.
        """
        if preset not in PRESETS:
            raise UserError(
                f"--preset {preset}: no such set of soundtrack nets, there is {', '.join(PRESETS)}"
            )
        parts, shipped, where = PRESETS[preset], WEIGHTS / preset, pick_device(device)
        nets = folder or shipped
        if not nets.is_dir():
            raise UserError(f"--preset {preset}: its weights are not shipped, name their folder by --weights")
        try:
            loaded = (
                load(V2A, nets / "soundtrack_v2a.safetensors", str(where)),
                load(MelVAE, nets / "soundtrack_vae.safetensors", str(where)),
                load(HiFiGAN, nets / "soundtrack_vocoder.safetensors", str(where)),
            )
        except FileNotFoundError as error:
            raise UserError(f"{nets}: the weights of the soundtrack are not there ({error})") from error
        clip, vae = nets / "clip", shipped / "vae.safetensors"
        return cls(
            CLIPEyes(clip, where) if parts.eyes == "clip" else make_eyes(vae, where),
            *loaded,
            partial(make_reader, nets / "t5" if parts.reader == "t5" else None, where),
        )

    def score(self, clip: str | Path, *, tick: Callable[[], None] = lambda: None, **options: Any) -> Score:
        """Make the sound of a video; options as in `SoundtrackOptions`.

        Args:
            tick: called `evaluations` times.

        Raises:
            UserError: the video can not be read, or an option is out of range.
        """
        asked = SoundtrackOptions(**options)
        path = Path(clip)
        seconds = video_length(path)
        frames = watch(path, seconds, self.eyes.side)
        seen = look(self.eyes, frames)
        assert len(seen.motion) == frame_total(seconds)
        span = self.net.config.span
        latents = sample(
            self.net,
            lambda first, count: seen.window(first, count, LATENT_SECONDS, span),
            self.read(asked.prompt),
            self.read(asked.negative_prompt),
            latent_total(seconds),
            seed=asked.seed,
            steps=asked.steps,
            guidance=asked.guidance,
            size=WINDOW,
            overlap=OVERLAP,
            tick=tick,
        )
        return Score(path, seconds, latents, self.vae, self.vocoder)

    def read(self, prompt: str | None) -> Text | None:
        """What the net is told of a prompt; None for none.

        Raises:
            UserError: a package is missing, or the prompt is too long.
        """
        if not prompt:
            return None
        found = self._reader()([prompt])
        return Text(found.tokens, found.mask)


def make_eyes(path: Path, device: torch.device) -> Eyes:
    """What tells how frames look: a file of the backbone's VAE, or a folder of CLIP.

    Raises:
        UserError: the folder can not be read.
    """
    return CLIPEyes(path, device) if path.is_dir() else VAEEyes(load(CausalVAE, path, str(device)))


def make_reader(folder: Path | None, device: torch.device) -> Reader:
    """What reads prompts: T5 in a folder, or the sentence encoder of the package.

    Raises:
        UserError: the folder can not be read, or packages are missing.
    """
    return SentenceEncoder() if folder is None else T5Reader(folder, device)


def video_length(path: Path) -> Fraction:
    """Length of a video in seconds, by its timestamps.

    Raises:
        UserError: it can not be read, has no frames or is longer than four hours.
    """
    seconds = video_seconds(path)
    if seconds > LONGEST:
        raise UserError(f"{path}: {float(seconds) / 3600:.1f} hours are too long, cut it to four at most")
    return seconds


def latent_total(seconds: Fraction) -> int:
    """Sound latents that cover a length."""
    return math.ceil(seconds / Fraction(LATENT_SECONDS).limit_denominator(RATE))


def evaluations(seconds: Fraction, steps: int) -> int:
    """How often the net is asked for a video of a length."""
    return steps * len(windows(latent_total(seconds), WINDOW, OVERLAP))


@dataclass(frozen=True)
class Score:
    """The sound of one video, made as it is read: iterate over float32 mono pieces at 22.05 kHz."""

    clip: Path
    seconds: Fraction
    latents: Tensor
    vae: MelVAE
    vocoder: HiFiGAN

    @property
    def length(self) -> int:
        """Samples: the video's length times the rate, rounded."""
        return round(self.seconds * RATE)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        rest = self.length
        for piece in decode(self.vae, self.vocoder, self.latents, PIECE, MelConfig(), POLISH):
            yield piece[:rest].cpu().numpy().astype(np.float32)
            rest -= min(rest, len(piece))

    @property
    def samples(self) -> NDArray[np.float32]:
        """The whole, (samples,)."""
        return np.concatenate(list(self))

    def save(
        self, path: str | Path, *, old: Old | None = None, level: float = LEVEL, force: bool = False
    ) -> Path:
        """Write the sound alone (.wav, 22.05 kHz) or the video with it (.mp4).

        Args:
            old: what becomes of the sound that the video has; must be said where it has any.
            level: loudness of the soundtrack under speech, relative to it, LU.

        Raises:
            UserError: the output can not be written, or `old` does not fit.
        """
        path = Path(path)
        if path.suffix.lower() == ".wav":
            write_wav(check_output(path, force, ".wav"), self, RATE)
            return path
        mux(
            self.clip, self, RATE, self.seconds, path, old=check_old(self.clip, old), level=level, force=force
        )
        return path


def check_old(clip: Path, old: Old | None) -> Old | None:
    """What becomes of a video's sound; None where it has none.

    Raises:
        UserError: it has sound and nothing is said, or it has none and something is.
    """
    if video_info(clip).has_audio:
        if old is None:
            raise UserError(f"{clip}: has sound already; say --mix, --keep-speech or --replace")
        return old
    if old not in (None, "replace"):
        raise UserError(f"{clip}: has no sound, leave --{old} out")
    return None
