"""Damage to clean speech as rooms, microphones and telephones do it; nothing here moves it in time."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

Audio = NDArray[np.float32]
RATE = 16_000  # Hz


def decibels(value: float) -> float:
    """The amplitude factor of a level in dB."""
    return float(10 ** (value / 20))


def loudness(audio: Audio) -> float:
    """Root mean square of the part that is not silent."""
    loud = np.abs(audio) > 0.02 * np.abs(audio).max(initial=1e-6)
    return float(np.sqrt(np.mean(np.square(audio[loud])))) if loud.any() else 1e-3


def coloured_noise(samples: int, slope: float, rng: np.random.Generator) -> Audio:
    """Noise of unit RMS whose power falls as frequency^-slope: 0 white, 1 pink, 2 brown."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20)
    noise = np.fft.irfft(spectrum * frequency ** (-slope / 2), samples)
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


def hum(samples: int, rng: np.random.Generator) -> Audio:
    """Mains hum of unit RMS: 50 or 60 Hz and its harmonics."""
    time = np.arange(samples) / RATE
    base = rng.choice((50.0, 60.0))
    tone = sum(
        rng.uniform(0, 1) / k * np.sin(2 * np.pi * (k * base * time + rng.uniform())) for k in range(1, 8)
    )
    return (tone / (np.std(tone) + 1e-9)).astype(np.float32)


def music(samples: int, rng: np.random.Generator) -> Audio:
    """Chords of decaying harmonic tones in a steady beat, unit RMS."""
    out = np.zeros(samples)
    beat = int(RATE * rng.uniform(0.2, 0.6))
    root = rng.uniform(80, 220)
    for start in range(0, samples, beat):
        time = np.arange(min(3 * beat, samples - start)) / RATE
        for step in rng.choice((0, 2, 4, 5, 7, 9, 11, 12, 16, 19), rng.integers(1, 4), replace=False):
            pitch = root * 2 ** (step / 12)
            tone = sum(np.sin(2 * np.pi * k * pitch * time) / k for k in range(1, rng.integers(2, 7)))
            out[start : start + len(time)] += tone * np.exp(-time * rng.uniform(2, 8)) * rng.uniform(0.3, 1)
    return (out / (out.std() + 1e-9)).astype(np.float32)


def babble(samples: int, speech: Sequence[Audio], rng: np.random.Generator) -> Audio:
    """Several other utterances at once, unit RMS."""
    out = np.zeros(samples, np.float32)
    for _ in range(int(rng.integers(3, 7))):
        other = speech[rng.integers(len(speech))]
        out += np.resize(np.roll(other, rng.integers(len(other))), samples) / loudness(other)
    return out / (out.std() + 1e-9)


def reverb(audio: Audio, rng: np.random.Generator) -> Audio:
    """A room: the direct sound, then noise that decays by 60 dB in 0.15 to 0.8 s."""
    decay = rng.uniform(0.15, 0.8)
    time = np.arange(int(decay * RATE)) / RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / decay)
    tail[: int(0.002 * RATE)] = 0
    tail *= decibels(rng.uniform(-14, -2)) / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    return fftconvolve(audio, tail)[: len(audio)].astype(np.float32)


def band_limit(audio: Audio, rng: np.random.Generator) -> Audio:
    """A telephone, a small speaker, a muffled or a thin microphone."""
    low = rng.choice((30.0, 100.0, 300.0))
    high = rng.choice((3400.0, 3900.0, 5500.0, 7500.0))
    return sosfilt(butter(4, (low, high), "bandpass", fs=RATE, output="sos"), audio).astype(np.float32)


def equalise(audio: Audio, rng: np.random.Generator) -> Audio:
    """A random smooth frequency response within +-10 dB."""
    spectrum = np.fft.rfft(audio)
    octave = np.log2(np.maximum(np.fft.rfftfreq(len(audio), 1 / RATE), 60) / 60)
    gain = np.interp(octave, np.arange(8), rng.normal(0, 5, 8).clip(-10, 10))
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(audio)).astype(np.float32)


def quantise(audio: Audio, rng: np.random.Generator) -> Audio:
    """Coarse mu-law steps, as of an old codec (ITU-T G.711)."""
    peak = np.abs(audio).max(initial=1e-6)
    levels = 2 ** rng.uniform(6, 8)
    squeezed = np.sign(audio) * np.log1p(255 * np.abs(audio) / peak) / np.log(256)
    stepped = np.round(squeezed * levels) / levels
    return (peak * np.sign(stepped) * np.expm1(np.abs(stepped) * np.log(256)) / 255).astype(np.float32)


def augment(audio: Audio, speech: Sequence[Audio], rng: np.random.Generator) -> Audio:
    """Speech (samples,) at 16 kHz as a random microphone would hear it; `speech`: utterances for babble."""
    steps: tuple[tuple[float, Callable[[Audio, np.random.Generator], Audio]], ...] = (
        (0.4, equalise),
        (0.35, reverb),
        (0.15, band_limit),
        (0.1, quantise),
    )
    level = loudness(audio)
    for chance, step in steps:
        if rng.random() < chance:
            audio = step(audio, rng)
    samples = len(audio)
    noises: tuple[Callable[[], Audio], ...] = (
        lambda: coloured_noise(samples, rng.uniform(0, 2), rng),
        lambda: coloured_noise(samples, 1, rng) + hum(samples, rng),
        lambda: music(samples, rng),
        lambda: babble(samples, speech, rng),
    )
    if rng.random() < 0.7:
        noise = noises[rng.choice(4, p=(0.5, 0.1, 0.2, 0.2))]()
        audio = audio + noise * level * decibels(-rng.uniform(5, 40))
    target = decibels(rng.uniform(-36, -10))  # RMS of the recording
    return np.clip(audio * target / level, -1, 1).astype(np.float32)
