"""From phones to mouth curves: visemes with co-articulation.

Every phone asks for a target on each mouth control with a dominance that fades with the distance in time; a
control is the average of the targets weighted by dominance (Cohen and Massaro, "Modeling coarticulation in
synthetic visual speech", 1993). The closure of p, b, m is not averaged: it is an envelope of its own that
wins over all neighbours. The numbers are in visemes.yaml.
"""

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any
from unicodedata import category, normalize

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from avatar.drivers.speech import CONTROLS, mouth_curves

log = logging.getLogger(__name__)

CURVE_RATE = 100  # Hz; sample i is the face at time i / CURVE_RATE


@dataclass(frozen=True)
class Phone:
    """One spoken phone; `symbol` is IPA, "" for a pause; `start` and `end` in seconds."""

    start: float
    end: float
    symbol: str
    voice: str


_GROUPS = {
    "jawOpen": 0,
    "mouthLowerDown": 2,
    "mouthUpperUp": 2,
    "mouthRollLower": 3,
    "tongueOut": 4,
}  # others: 1
_FADE = (
    0.028,
    0.055,
    0.04,
    0.025,
    0.03,
)  # s, per group: the time in which a neighbour's dominance falls by e
_AHEAD = 1.4  # a movement starts earlier than it fades
_SMOOTH = 0.04  # s, width of the Hann kernel that rounds the corners of the averages
_LOUDER = 0.03  # growth of the opening per dB above the utterance's usual vowel

_CLOSING, _RELEASE = 0.045, 0.055  # s, ramps of the closure
_MIN_HOLD = 0.045  # s, the lips stay shut at least so long
_STOP_SHARE, _STOP_HOLD = 0.65, 0.09  # the rest of a stop is its burst; longest closed part, s

_MODEL = yaml.safe_load(files("avatar.recipes").joinpath("visemes.yaml").read_text(encoding="utf8"))
_VISEMES: dict[str, dict[str, Any]] = _MODEL["visemes"]
_VISEME_OF = {letter: name for name, viseme in _VISEMES.items() for letter in viseme["letters"]}
_TARGETS = {name: np.array([v.get(c, 0.0) for c in CONTROLS[:-1]]) for name, v in _VISEMES.items()}
_DOMINANCE = {name: np.array(v.get("weight", [1.0] * len(_FADE))) for name, v in _VISEMES.items()}
VOWELS, STOPS, VOICED = (frozenset(_MODEL[name]) for name in ("vowels", "stops", "voiced"))
ARPABET: dict[str, str] = _MODEL["arpabet"]  # to IPA; pauses are ""


@cache
def letters(symbol: str) -> tuple[str, ...]:
    """The base letters of an IPA symbol without length, tone and other marks: "kʰs" -> ("k", "s").

    An unknown letter becomes a schwa if it looks like a vowel and a "k" if not, and is logged once.
    """
    found = []
    for character in normalize("NFC", symbol):
        base = character if character in _VISEME_OF else normalize("NFD", character)[0]
        if base in _VISEME_OF:
            found.append(base)
        elif category(base) in ("Ll", "Lu"):
            log.warning("phone %r: no viseme for %r", symbol, base)
            found.append("\u0259" if base.lower() in "aeiouy" else "k")
    return tuple(found)


def is_closure(symbol: str) -> bool:
    """Whether the lips must meet: p, b, m and their kin."""
    return any(_VISEME_OF[letter] == "closed" for letter in letters(symbol))


def _times(seconds: float) -> NDArray[np.float64]:
    """The time of every curve sample of an utterance in seconds, (ceil(seconds * 100),)."""
    return np.arange(math.ceil(round(seconds * CURVE_RATE, 6))) / CURVE_RATE


def _split(phones: Iterable[Phone], seconds: float) -> list[Phone]:
    """One single-letter phone after the other from 0 to `seconds`; what no phone covers is a pause."""
    parts: list[Phone] = []
    now = 0.0
    for phone in phones:
        if phone.start > now:
            parts.append(Phone(now, phone.start, "", phone.voice))
        base = letters(phone.symbol) or ("",)
        edges = np.linspace(phone.start, phone.end, len(base) + 1).tolist()
        parts += [
            replace(phone, start=start, end=end, symbol=letter)
            for start, end, letter in zip(edges, edges[1:], base, strict=False)
        ]
        now = phone.end
    if now < seconds:
        parts.append(Phone(now, seconds, "", ""))
    return parts


def _emphasis(parts: Sequence[Phone], audio: NDArray[np.float32], rate: int) -> NDArray[np.float64]:
    """Opening of each phone from its loudness: 1 for the usual vowel, more when louder."""
    level = np.zeros(len(parts))
    for index, part in enumerate(parts):
        samples = audio[int(part.start * rate) : int(part.end * rate)].astype(np.float64)
        level[index] = 10 * math.log10(float(np.mean(samples**2)) + 1e-9) if len(samples) else -90
    vowels = np.array([part.symbol in VOWELS for part in parts])
    if not vowels.any():
        return np.ones(len(parts))
    scale = np.clip(1 + _LOUDER * (level - np.median(level[vowels])), 0.7, 1.25)
    return np.where(vowels, scale, 1)


def _closure(parts: Sequence[Phone], time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Envelope (frames,) of the closed lips: 1 during the closed part of each p, b, m."""
    envelope = np.zeros(len(time))
    for part in parts:
        if _VISEME_OF.get(part.symbol) != "closed":
            continue
        length = part.end - part.start
        held = length - 0.01 if part.symbol not in STOPS else min(_STOP_SHARE * length, _STOP_HOLD)
        end = part.start + max(held, min(_MIN_HOLD, length))
        start = min(part.start, end - _MIN_HOLD)
        outside = np.maximum((start - time) / _CLOSING, (time - end) / _RELEASE).clip(0, 1)
        envelope = np.maximum(envelope, 0.5 + 0.5 * np.cos(np.pi * outside))
    return envelope


def phone_controls(
    phones: Sequence[Phone],
    seconds: float,
    audio: NDArray[np.float32] | None = None,
    sample_rate: int = 16_000,
    style: float = 1.0,
) -> NDArray[np.float32]:
    """Mouth controls (ceil(seconds * 100), len(CONTROLS)) in [0, 1] of spoken phones.

    Args:
        phones: in order of time, as IPA.
        seconds: length of the utterance.
        audio: its sound, (samples,); where given, louder vowels open more.
        style: size of all movements but the closure; 1 is normal speech, 0.6 a mumble.
    """
    parts = _split(phones, seconds)
    time = _times(seconds)
    names = [_VISEME_OF.get(part.symbol, "silence") for part in parts]
    start = np.array([part.start for part in parts])[:, None]
    end = np.array([part.end for part in parts])[:, None]
    targets = np.stack([_TARGETS[name] for name in names])
    if audio is not None:
        opening = [CONTROLS.index(name) for name in ("jawOpen", "mouthLowerDown", "mouthUpperUp")]
        targets[:, opening] *= _emphasis(parts, audio, sample_rate)[:, None]
    dominance = np.stack([_DOMINANCE[name] for name in names])

    away = np.maximum(
        np.maximum((start - time) / _AHEAD, time - end), 0
    )  # s from the phone, (phones, frames)
    controls = np.zeros((len(time), len(CONTROLS)))
    for group, fade in enumerate(_FADE):
        columns = [i for i, name in enumerate(CONTROLS[:-1]) if _GROUPS.get(name, 1) == group]
        weight = dominance[:, group, None] * np.exp(-away / fade)
        controls[:, columns] = (weight / weight.sum(0)).T @ targets[:, columns]
    margin = round(_SMOOTH / 2 * CURVE_RATE)
    kernel = np.hanning(2 * margin + 3)[1:-1]
    padded = np.pad(controls, ((margin, margin), (0, 0)), "edge")
    controls = np.apply_along_axis(np.convolve, 0, padded, kernel / kernel.sum(), "valid") * style
    controls[:, -1] = _closure(parts, time)
    return controls.clip(0, 1).astype(np.float32)


def phone_curves(
    phones: Sequence[Phone],
    seconds: float,
    audio: NDArray[np.float32] | None = None,
    sample_rate: int = 16_000,
    style: float = 1.0,
) -> NDArray[np.float32]:
    """ARKit curves (ceil(seconds * 100), 52) at 100 Hz of spoken phones; arguments as in `phone_controls`."""
    controls = phone_controls(phones, seconds, audio, sample_rate, style)
    return mouth_curves(torch.from_numpy(controls)).numpy()


def phone_activity(phones: Sequence[Phone], seconds: float) -> NDArray[np.float32]:
    """Whether somebody speaks, (ceil(seconds * 100),) at 100 Hz: 0 in pauses, 1 in phones."""
    time = _times(seconds)
    speaking = np.zeros(len(time), np.float32)
    for phone in phones:
        if letters(phone.symbol):
            speaking[(time >= phone.start) & (time < phone.end)] = 1
    return speaking
