"""Footage of one made-up person who speaks in a way of his own: what a personal adapter is judged on.

    python -m avatar.recipes.footage --out data/made_up --person 0

The clip factory renders the person (avatar.recipes.sitters), a synthetic voice speaks sentences, and the
phones move the mouth as this person would: a random `Manner` says how wide, how crooked, how late and how
slurred. Layout: as `avatar prepare` writes footage (avatar.recipes.prepared); the last sentences have the
split "validation". Seeds of people start where training clips never come. Two minutes and a half take ten
minutes on one core.
Shapes: n rows at 100 Hz, T frames.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from avatar.drivers.curves import INDEX, curve_indices
from avatar.drivers.motion import blinks, prosody
from avatar.drivers.speech import CLOSURE, mouth_curves
from avatar.recipes.acting import FPS, smooth_walk
from avatar.recipes.heldout import write_wav
from avatar.recipes.sitters import Sitter
from avatar.recipes.speech_corpus import sentences
from avatar.recipes.visemes import CURVE_RATE, Phone, phone_controls
from avatar.recipes.voices import SAMPLE_RATE, FliteVoice
from avatar.writer import VideoWriter

Array = NDArray[np.float32]

PAUSE = 0.5  # s, before and after a sentence
SIDE = 384  # px, at which a face is about as large as the nets of mini see it
CHUNK = 50  # frames rendered at a time
SWAY = np.array([0.05, 0.035, 0.025], np.float32)  # radians, of yaw, pitch, roll
SIDED = ("mouthSmile", "mouthStretch", "mouthLowerDown", "mouthUpperUp", "mouthDimple")


@dataclass(frozen=True)
class Manner:
    """How a person speaks.

    Attributes:
        gains: (11,), size of each mouth control but the closure, 1 is the mean speaker's.
        crooked: -1 to 1, more on the right or on the left.
        skew: `mouthLeft` (below 0: `mouthRight`) for each unit of the jaw.
        smile: added while speaking.
        slur: s, standard deviation of the smoothing in time.
        late: s, by which the mouth follows the sound.
        mood: deviation of the slow changes of size, no audio tells of them.
    """

    gains: Array
    crooked: float
    skew: float
    smile: float
    slur: float
    late: float
    mood: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Manner:
        """A random person's."""
        return cls(
            gains=np.exp(rng.normal(0, 0.35, CLOSURE)).astype(np.float32),
            crooked=float(rng.uniform(-0.4, 0.4)),
            skew=float(rng.normal(0, 0.2)),
            smile=float(rng.uniform(0, 0.25)),
            slur=float(rng.uniform(0, 0.03)),
            late=float(rng.uniform(-0.02, 0.04)),
            mood=0.08,
        )

    def curves(self, controls: Array, rng: np.random.Generator) -> Array:
        """Face curves (n, 52) of a mean speaker's mouth controls (n, 12), both at 100 Hz."""
        own = controls.copy()
        size = self.gains * (1 + self.mood * smooth_walk(rng, len(own), CURVE_RATE)[:, None])
        own[:, :CLOSURE] = np.clip(own[:, :CLOSURE] * size, 0, 1)
        own = _later(_smooth(own, self.slur * CURVE_RATE), self.late * CURVE_RATE)
        curves = mouth_curves(torch.from_numpy(own)).numpy()
        opening = curves[:, INDEX["jawOpen"]] - curves[:, INDEX["mouthClose"]]
        speaking = _smooth(np.clip(opening / 0.1, 0, 1)[:, None], 0.15 * CURVE_RATE)
        curves[:, curve_indices("mouthSmile")] += self.smile * speaking
        for name in SIDED:
            left, right = curve_indices(name)
            curves[:, left] *= 1 + self.crooked
            curves[:, right] *= 1 - self.crooked
        curves[:, INDEX["mouthLeft" if self.skew > 0 else "mouthRight"]] += abs(self.skew) * opening
        return curves.clip(0, 1).astype(np.float32)


def _smooth(rows: Array, deviation: float) -> Array:
    """Rows (n, c) under a Gaussian of `deviation` rows."""
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(rows, deviation, axis=0, mode="nearest") if deviation > 0 else rows


def _later(rows: Array, by: float) -> Array:
    """Rows (n, c) moved by a number of rows that need not be whole."""
    at = np.arange(len(rows)) - by
    return np.stack([np.interp(at, np.arange(len(rows)), column) for column in rows.T], 1).astype(np.float32)


@dataclass(frozen=True)
class Sentence:
    """Something said: text, sound (samples,) at 16 kHz, phones."""

    text: str
    audio: Array
    phones: tuple[Phone, ...]

    @property
    def seconds(self) -> float:
        """Of the sound."""
        return len(self.audio) / SAMPLE_RATE


def speak(text: str, voice: FliteVoice, rng: np.random.Generator) -> Sentence:
    """A sentence between two pauses."""
    said = voice(text, rng)
    pause = np.zeros(round(PAUSE * SAMPLE_RATE), np.float32)
    shifted = [Phone(p.start + PAUSE, p.end + PAUSE, p.symbol, p.voice) for p in said.phones]
    return Sentence(text, np.concatenate([pause, said.audio, pause]), tuple(shifted))


def act(sentence: Sentence, manner: Manner, rng: np.random.Generator) -> tuple[Array, Array]:
    """Curves (T, 52) and angles (T, 3) at 25 fps of a person who says a sentence."""
    controls = phone_controls(sentence.phones, sentence.seconds, sentence.audio, SAMPLE_RATE)
    curves = manner.curves(controls, rng)
    frames = int(sentence.seconds * FPS)
    rows = np.round((np.arange(frames) + 0.5) / FPS * CURVE_RATE).astype(int).clip(0, len(curves) - 1)
    shown = curves[rows]
    lids = blinks((np.arange(frames) + 0.5) / FPS, int(rng.integers(2**31)), prosody(curves[::2]))
    shown[:, curve_indices("eyeBlink")] = lids[:, None].astype(np.float32)
    sway = np.stack([smooth_walk(rng, frames, 15) for _ in range(3)], 1) * SWAY
    return shown, (sway - sway[0]).astype(np.float32)


def film(sitter: Sitter, curves: Array, angles: Array, path: Path) -> None:
    """Render a clip."""
    part = path.with_suffix(".part.mp4")
    with VideoWriter(part, size=(SIDE, SIDE), fps=Fraction(FPS), force=True) as writer:
        for start in range(0, len(curves), CHUNK):
            rows = slice(start, start + CHUNK)
            for frame in sitter(curves[rows], angles[rows])[0]:
                writer.write(frame)
            sitter.drawn.clear()
    os.replace(part, path)


def make(out: Path, person: int = 0, seconds: float = 120, held_out: float = 24, voice: str = "rms") -> None:
    """Write the footage; clips that are there already are kept.

    Args:
        seconds: of the clips to learn from.
        held_out: seconds of the sentences kept apart.
    """
    rng = np.random.default_rng((7, person))
    manner = Manner.draw(rng)
    sitter = Sitter.some(person + 1, SIDE)[person]
    (out / "clips").mkdir(parents=True, exist_ok=True)
    texts = [str(text) for text in rng.permutation(sentences()["en"])]
    entries: list[dict[str, object]] = []
    length = {"train": seconds, "validation": held_out}
    for split in length:
        done = 0.0
        while done < length[split]:
            name = f"{len(entries):03d}"
            own = np.random.default_rng((7, person, len(entries)))
            sentence = speak(texts[len(entries)], FliteVoice(voice), own)
            curves, angles = act(sentence, manner, own)
            path = out / "clips" / f"{name}.mp4"
            if not path.exists():
                write_wav(path.with_suffix(".wav"), sentence.audio, SAMPLE_RATE)
                film(sitter, curves, angles, path)
            entries.append(
                {
                    "id": name,
                    "split": split,
                    "identity": f"made-up-{person}",
                    "seconds": len(curves) / FPS,
                    "caption": {"short": "a person speaks", "text": sentence.text},
                }
            )
            done += sentence.seconds
    part = out / "index.part"
    part.write_text(json.dumps(entries, indent=1))
    os.replace(part, out / "index.json")


def main(
    out: Annotated[Path, typer.Option(help="folder to write")],
    person: Annotated[int, typer.Option(help="which made-up person")] = 0,
    seconds: Annotated[float, typer.Option(help="length of the clips to learn from")] = 120,
    held_out: Annotated[float, typer.Option(help="seconds of the sentences kept apart")] = 24,
    voice: Annotated[str, typer.Option(help="flite voice")] = "rms",
) -> None:
    """Write footage of a made-up person."""
    make(out, person, seconds, held_out, voice)


if __name__ == "__main__":
    typer.run(main)
