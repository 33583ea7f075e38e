"""Phones with times: what they ask of the lips, and where they come from.

A phone is one speech sound with its start and end in seconds. Two alphabets are read: ARPABET (`AA`, `IY1`,
as in CMUdict) and IPA (as written by espeak-ng). Evaluation needs only six kinds of phone.
"""

# ruff: noqa: RUF001 (IPA letters look like Latin ones)

import ctypes
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avatar.errors import UserError

Kind = Literal["closed", "open", "rounded", "spread", "pause", "other"]

RATE = 16_000  # Hz, what the acoustic model of `align` was trained on
ALIGN_FRAME = 0.01  # seconds per frame of that model


class Phone(NamedTuple):
    """One speech sound: seconds from the start of the audio, its symbol, and what it asks of the lips."""

    start: float
    end: float
    symbol: str
    kind: Kind


ARPABET_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("p", "b", "m"), "closed"),
    **dict.fromkeys(("aa", "ae", "ao", "aw", "ay", "ah", "eh"), "open"),
    **dict.fromkeys(("uw", "ow", "w", "uh"), "rounded"),
    **dict.fromkeys(("iy", "ey", "ih"), "spread"),
    **dict.fromkeys(("ch", "d", "dh", "er", "f", "g", "hh", "jh", "k", "l", "n", "ng", "oy", "r"), "other"),
    **dict.fromkeys(("s", "sh", "t", "th", "v", "y", "z", "zh", "ax", "axr", "dx", "ix"), "other"),
}
# The same classes in IPA, without length and accent marks. Vowels that ARPABET lacks go where their phonetic
# description puts them: French nasals by their opening, front rounded vowels with the rounded ones.
IPA_KINDS: dict[str, Kind] = {
    **dict.fromkeys(("p", "b", "m"), "closed"),
    **dict.fromkeys(
        ("a", "ɑ", "æ", "ɐ", "ʌ", "ɔ", "ɒ", "ɛ", "aɪ", "aʊ", "aɪə", "aʊə", "eə", "ɛə", "ɑ̃", "ɛ̃"), "open"
    ),
    **dict.fromkeys(("u", "ʊ", "o", "oʊ", "əʊ", "w", "y", "ø", "œ", "ɥ", "ɔ̃", "œ̃", "ʊə"), "rounded"),
    **dict.fromkeys(("i", "ɪ", "e", "eɪ", "ɪə"), "spread"),
}
PAUSES = frozenset(("", "_", "_:", "sil", "sp", "spn", "pau", "<sil>", "<s>", "</s>", "#"))
NASAL = "\N{COMBINING TILDE}"


def arpabet_kind(symbol: str) -> Kind | None:
    """Class of an ARPABET symbol, either case, with or without stress digit; None if it is not ARPABET."""
    plain = symbol.lower().rstrip("012")
    if plain in PAUSES or plain.startswith("+"):  # "+SPN+", "+NSN+": the noises of Sphinx dictionaries
        return "pause"
    return ARPABET_KINDS.get(plain)


def ipa_kind(symbol: str) -> Kind:
    """Class of an IPA symbol; marks of length, stress and secondary articulation do not matter."""
    if symbol.lower() in PAUSES:
        return "pause"
    marks = unicodedata.normalize("NFD", symbol)
    letters = [c for c in marks if c == NASAL or unicodedata.category(c) in ("Ll", "Lo")]
    return IPA_KINDS.get("".join(letters), "other")


def classify(segments: Sequence[tuple[float, float, str]]) -> list[Phone]:
    """Give segments their class, in ARPABET if all symbols can be, else in IPA. Pauses in a row join."""
    arpabet = [arpabet_kind(symbol) for _, _, symbol in segments]
    phones: list[Phone] = []
    for (start, end, symbol), kind in zip(segments, arpabet, strict=True):
        phone = Phone(start, end, symbol, kind if kind and None not in arpabet else ipa_kind(symbol))
        if phones and phone.kind == phones[-1].kind == "pause":
            phones[-1] = phones[-1]._replace(end=phone.end)
        elif phone.end > phone.start:
            phones.append(phone)
    return phones


def load(path: Path) -> list[Phone]:
    """Read `[[start, end, symbol], ...]`, seconds, from a JSON file."""
    try:
        rows = json.loads(path.read_text("utf8"))
        segments = [(float(start), float(end), str(symbol)) for start, end, symbol in rows]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: not a phone file ({error}); it holds [[start, end, symbol], ...] in seconds"
        ) from error
    return classify(segments)


def save(phones: Sequence[Phone], path: Path) -> None:
    """Write phones as `load` reads them."""
    path.write_text(json.dumps([[p.start, p.end, p.symbol] for p in phones], ensure_ascii=False), "utf8")


def shifted(phones: Sequence[Phone], lead: float, tail: float) -> list[Phone]:
    """Phones of the same speech with `lead` seconds of silence put before it and `tail` seconds behind."""
    end = phones[-1].end + lead
    moved = [(p.start + lead, p.end + lead, p.symbol) for p in phones]
    return classify([(0.0, lead, ""), *moved, (end, end + tail, "")])


# ---- espeak-ng: exact phones of synthetic speech ----

AUDIO_OUTPUT_SYNCHRONOUS = 2
INITIALIZE_PHONEME_EVENTS, INITIALIZE_PHONEME_IPA = 1, 2
EVENT_LIST_TERMINATED, EVENT_PHONEME = 0, 7
POS_CHARACTER, CHARS_UTF8 = 1, 1
PARAMETER_RATE, PARAMETER_PITCH = 1, 3


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng's speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # milliseconds
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_SynthCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def phones_from_espeak(
    text: str, voice: str, rate: int = 160, pitch: int = 50
) -> tuple[NDArray[np.float32], int, list[Phone]]:
    """Speak a text with espeak-ng and keep the phone times that it knows exactly.

    Args:
        text: what to say.
        voice: an espeak-ng voice, such as `en-gb-x-rp`.
        rate: words per minute.
        pitch: 0 to 100.

    Returns:
        waveform (samples,) in [-1, 1], its sampling rate in Hz, and the phones in IPA.
    """
    try:
        espeak = ctypes.CDLL("libespeak-ng.so.1")
    except OSError as error:
        raise UserError("espeak-ng is not installed: `apt install espeak-ng`") from error
    samples_per_second = espeak.espeak_Initialize(
        AUDIO_OUTPUT_SYNCHRONOUS, 0, None, INITIALIZE_PHONEME_EVENTS | INITIALIZE_PHONEME_IPA
    )
    if espeak.espeak_SetVoiceByName(voice.encode()) != 0:
        raise UserError(f"espeak-ng has no voice {voice!r}: `espeak-ng --voices` lists them")
    espeak.espeak_SetParameter(PARAMETER_RATE, rate, 0)
    espeak.espeak_SetParameter(PARAMETER_PITCH, pitch, 0)
    pcm = bytearray()
    marks: list[tuple[float, str]] = []

    def receive(
        wave: "ctypes._Pointer[ctypes.c_short]", count: int, events: "ctypes._Pointer[_Event]"
    ) -> int:
        if wave:
            pcm.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != EVENT_LIST_TERMINATED:
            if events[index].type == EVENT_PHONEME:
                symbol = events[index].id.string.decode("utf8", "ignore")
                marks.append((events[index].audio_position / 1000, symbol))
            index += 1
        return 0

    callback = _SynthCallback(receive)  # kept in a name: ctypes does not hold it
    espeak.espeak_SetSynthCallback(callback)
    data = text.encode("utf8") + b"\0"
    espeak.espeak_Synth(data, len(data), 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
    espeak.espeak_Synchronize()
    waveform = np.frombuffer(bytes(pcm), np.int16).astype(np.float32) / 32768
    marks = [
        (start, symbol) for start, symbol in marks if not re.fullmatch(r"\(.*\)", symbol)
    ]  # "(en)": language
    ends = [start for start, _ in marks[1:]] + [len(waveform) / samples_per_second]
    segments = [(start, end, symbol) for (start, symbol), end in zip(marks, ends, strict=True)]
    return waveform, samples_per_second, classify(segments)


# ---- pocketsphinx: forced alignment of real speech ----


def align(audio: NDArray[np.float32], transcript: str) -> list[Phone]:
    """Find the phones of an English transcript in a recording by forced alignment.

    Two passes of pocketsphinx with its US English model: words first, then phones within words.

    Args:
        audio: waveform (samples,) in [-1, 1], 16 kHz mono.
        transcript: the words spoken, without the pauses.
    """
    try:
        from pocketsphinx import Decoder
    except ImportError as error:
        raise UserError("aligning needs pocketsphinx: `pip install avatar-toolkit[eval]`") from error
    words = re.findall(r"[a-z']+", transcript.lower())
    if not words:
        raise UserError("the transcript has no words")
    # Hardly any pruning: an alignment has one path to follow, and lost is lost. Best path through the word
    # lattice ("bestpath") is a second opinion that drops words here.
    decoder = Decoder(
        samprate=RATE, lm=None, loglevel="FATAL", bestpath=False, beam=1e-200, wbeam=1e-200, pbeam=1e-200
    )
    unknown = sorted({word for word in words if decoder.lookup_word(word) is None})
    if unknown:
        raise UserError(
            f"the transcript has words that the dictionary lacks: {', '.join(unknown)}; spell them otherwise"
        )
    pcm = (np.clip(audio, -1, 1) * 32767).astype(np.int16).tobytes()

    def run() -> None:
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()

    decoder.set_align_text(" ".join(words))
    run()
    if decoder.hyp() is None:
        raise UserError("the transcript does not fit the recording; check that both are of the same speech")
    decoder.set_alignment()
    run()
    segments = [
        (phone.start * ALIGN_FRAME, (phone.start + phone.duration) * ALIGN_FRAME, phone.name)
        for word in decoder.get_alignment()
        for phone in word
    ]
    return classify(segments)
