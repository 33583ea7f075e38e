"""Make a corpus of utterances whose phones and mouth curves are known exactly. Settings in
speech_corpus.yaml; `python -m avatar.recipes.speech_corpus out=... utterances=...`.

Text (speech_text.yaml and nonsense made of it) is spoken by espeak-ng, flite and Piper (voices.py); the
phones they report become mouth curves (visemes.py). Layout: DIR/000042.safetensors (audio int16, curves
float16) and DIR/000042.json (id, voice, text, phones). Every utterance depends on seed and number alone and
is written in one step, so an interrupted run goes on where it stopped.
"""

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import soxr
import yaml
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from safetensors.numpy import load_file, save_file

from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.sound import decibels
from avatar.recipes.visemes import Phone, phone_curves
from avatar.recipes.voices import SAMPLE_RATE, EspeakVoice, FliteVoice, PiperJoe, Speech, Voice

log = logging.getLogger(__name__)

ENGLISH = ("en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc")
DIALECTS = {"es": ("es", "es-419"), "pt": ("pt", "pt-br"), "vi": ("vi", "vi-vn-x-south"), "en": ENGLISH}
VARIANTS = ("", *(f"m{i}" for i in range(1, 9)), *(f"f{i}" for i in range(1, 6)), "klatt2", "klatt4")
# Recorded speakers: the more natural ones more often.
FLITE = {"slt": 0.36, "rms": 0.32, "awb": 0.2, "kal16": 0.1, "kal": 0.02}
END_MARKS = ".?!\u3002\uff1f\u0964"
SOURCES = {"espeak": 0.44, "flite": 0.41, "piper": 0.12, "silence": 0.03}


@dataclass(frozen=True)
class Utterance:
    """One recording with everything known about it.

    Attributes:
        audio: (samples,) float32, mono, 16 kHz.
        phones: all phones in order of time; `symbol` is IPA, "" for a pause; `voice` tells who speaks.
        curves: (ceil(seconds * 100), 52) float32 ARKit curves at 100 Hz; row i is the face at i / 100 s.
        id: the name of its files.
        text: what is said.
    """

    audio: NDArray[np.float32]
    phones: tuple[Phone, ...]
    curves: NDArray[np.float32]
    id: str
    text: str = ""

    @property
    def voice(self) -> str:
        """Who speaks, "espeak/de+f3"; "silence" when nobody does."""
        return next((phone.voice for phone in self.phones if phone.symbol), "silence")


def save_utterance(utterance: Utterance, folder: Path) -> None:
    """Write the two files of an utterance; the JSON comes last and marks it complete."""
    tensors = {
        "audio": np.round(utterance.audio * 32767).astype(np.int16),
        "curves": utterance.curves.astype(np.float16),
    }
    partial = folder / f".{utterance.id}.partial"
    save_file(tensors, partial)
    os.replace(partial, folder / f"{utterance.id}.safetensors")
    facts = {
        "id": utterance.id,
        "voice": utterance.voice,
        "text": utterance.text,
        "phones": [astuple(phone) for phone in utterance.phones],
    }
    partial.write_text(json.dumps(facts, ensure_ascii=False), encoding="utf8")
    os.replace(partial, folder / f"{utterance.id}.json")


def load_utterance(path: Path) -> Utterance:
    """Read an utterance by either of its files."""
    tensors = load_file(path.with_suffix(".safetensors"))
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf8"))
    return Utterance(
        tensors["audio"].astype(np.float32) / 32767,
        tuple(Phone(*phone) for phone in facts["phones"]),
        tensors["curves"].astype(np.float32),
        facts["id"],
        facts["text"],
    )


def corpus_files(folder: Path) -> list[Path]:
    """The JSON files of all complete utterances, sorted."""
    return sorted(folder.glob("[0-9]*.json"))


@cache
def sentences() -> dict[str, list[str]]:
    """Language -> sentences."""
    text = files("avatar.recipes").joinpath("speech_text.yaml").read_text(encoding="utf8")
    return yaml.safe_load(text)


def nonsense_word(rng: np.random.Generator) -> str:
    """A word of one to three syllables that any spelling can read; the lips often meet in it."""
    onsets = [*"bbppmmmwfvtdkgslnryh", "sh", "ch"]
    vowels = [*"aaeiou", "oo", "ee", "ou", "ai"]
    codas = ["", "", "", *"mpbntslr"]
    syllables = range(rng.integers(1, 4))
    return "".join(rng.choice(onsets) + rng.choice(vowels) + rng.choice(codas) for _ in syllables)


def random_text(language: str, rng: np.random.Generator) -> str:
    """A sentence of the language, or words of it in no order, at times with nonsense among them."""
    pool = sentences()[language]
    if rng.random() < 0.5:
        return str(rng.choice(pool))
    words = [word for sentence in rng.choice(pool, 4) for word in sentence.rstrip(END_MARKS).split()]
    chosen = [str(word) for word in rng.choice(words, min(len(words), int(rng.integers(4, 11))))]
    if language in ("en", "de", "es", "it", "nl", "pl", "fi", "sw", "id", "eo"):
        chosen = [nonsense_word(rng) if rng.random() < 0.25 else word for word in chosen]
    return " ".join(chosen) + str(rng.choice([".", "?", "!"]))


def random_voice(rng: np.random.Generator) -> tuple[Voice | None, str]:
    """A voice and the language that it speaks; no voice stands for silence."""
    source = rng.choice(list(SOURCES), p=list(SOURCES.values()))
    if source == "silence":
        return None, "en"
    if source == "piper":
        return PiperJoe(), "en"
    if source == "flite":
        return FliteVoice(str(rng.choice(list(FLITE), p=list(FLITE.values())))), "en"
    languages = list(sentences())
    language = "en" if rng.random() < 0.2 else str(rng.choice(languages))
    dialect = str(rng.choice(DIALECTS.get(language, (language,))))
    return EspeakVoice(dialect, str(rng.choice(VARIANTS))), language


def _later(phones: tuple[Phone, ...], seconds: float, factor: float = 1.0) -> list[Phone]:
    """Phones stretched by `factor` and then moved by `seconds`."""
    return [
        replace(phone, start=phone.start * factor + seconds, end=phone.end * factor + seconds)
        for phone in phones
    ]


def _change_speed(speech: Speech, factor: float) -> Speech:
    """Play the sound `factor` times slower, which lowers pitch and formants too."""
    slower = soxr.resample(speech.audio, SAMPLE_RATE, SAMPLE_RATE * factor)
    return Speech(slower.astype(np.float32), tuple(_later(speech.phones, 0.0, factor)))


def make_utterance(number: int, seed: int) -> Utterance:
    """The utterance `number` of the corpus `seed`: one to three sentences with pauses around and between."""
    rng = np.random.default_rng((seed, number))
    voice, language = random_voice(rng)
    pieces: list[NDArray[np.float32]] = []
    phones: list[Phone] = []
    texts: list[str] = []
    samples = 0

    def pause(seconds: float) -> None:
        nonlocal samples
        pieces.append(np.zeros(int(seconds * SAMPLE_RATE), np.float32))
        start, samples = samples, samples + len(pieces[-1])
        phones.append(Phone(start / SAMPLE_RATE, samples / SAMPLE_RATE, "", ""))

    pause(rng.uniform(0.05, 1.0))
    factor = float(rng.uniform(0.86, 1.16)) if rng.random() < 0.6 else 1.0
    gain = decibels(rng.uniform(-6, 3))
    for _ in range(int(rng.choice((1, 2, 3), p=(0.4, 0.4, 0.2)))):
        if voice is None:
            pause(rng.uniform(1, 3))
            continue
        texts.append(random_text(language, rng))
        speech = _change_speed(voice(texts[-1], rng), factor)
        phones += _later(speech.phones, samples / SAMPLE_RATE)
        pieces.append(speech.audio * gain)
        samples += len(speech.audio)
        pause(rng.uniform(0.3, 1.5) if rng.random() < 0.6 else rng.uniform(0.05, 0.3))
    audio = np.clip(np.concatenate(pieces), -1, 1)
    curves = phone_curves(phones, len(audio) / SAMPLE_RATE, audio, SAMPLE_RATE)
    return Utterance(audio, tuple(phones), curves, f"{number:06d}", " ".join(texts))


def make_corpus(folder: Path, utterances: int, seed: int) -> Iterator[Utterance]:
    """Make what is missing of the corpus and yield each new utterance once it is on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(utterances):
        if not (folder / f"{number:06d}.json").exists():
            utterance = make_utterance(number, seed)
            save_utterance(utterance, folder)
            yield utterance


class CorpusSettings(RecipeSettings):
    """See speech_corpus.yaml."""

    out: Path
    utterances: PositiveInt
    seed: NonNegativeInt


def main(words: list[str]) -> None:
    """Make the utterances that are missing."""
    settings = read_settings(CorpusSettings, __file__, words)
    seconds = 0.0
    corpus = make_corpus(settings.out, settings.utterances, settings.seed)
    for count, utterance in enumerate(corpus, 1):
        seconds += len(utterance.audio) / SAMPLE_RATE
        if count % 100 == 0:
            log.info("%d new utterances, %.2f hours", count, seconds / 3600)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run(main)
