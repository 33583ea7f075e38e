"""The mel spectrogram of HiFi-GAN: Slaney's filterbank on magnitudes, natural logarithm.

Shape legend: B batch, S samples, F spectrogram frames, M mel bands. Frame f is centred on sample
(f + 0.5) hop, so a sound of S samples has exactly S // hop frames.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

FLOOR = 1e-5  # of a band's magnitude before the logarithm
SILENCE = -11.512925  # log(FLOOR), what silence looks like
LINEAR = 200 / 3  # Hz a mel below 1 kHz (Slaney's Auditory Toolbox, as librosa has it)
KNEE = 1000.0  # Hz, where the scale turns logarithmic
LOG_STEP = 0.06875177742094912  # log(6.4) / 27: 27 mels from 1 to 6.4 kHz


@dataclass(frozen=True, kw_only=True)
class MelConfig:
    """Sampling rate and band edges in Hz, sizes in samples; the defaults are HiFi-GAN's."""

    rate: int = 22_050
    fft: int = 1024
    hop: int = 256
    bands: int = 80
    low: float = 0.0
    high: float = 8000.0


def to_mel(hertz: Tensor) -> Tensor:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    return torch.where(
        hertz < KNEE, hertz / LINEAR, KNEE / LINEAR + (hertz.clamp(min=KNEE) / KNEE).log() / LOG_STEP
    )


def to_hertz(mel: Tensor) -> Tensor:
    """Undo `to_mel`."""
    knee = KNEE / LINEAR
    return torch.where(mel < knee, mel * LINEAR, KNEE * (LOG_STEP * (mel.clamp(min=knee) - knee)).exp())


def filters(config: MelConfig) -> Tensor:
    """Triangles of equal area in Hz, (M, fft / 2 + 1), float32, as librosa.filters.mel."""
    bins = torch.linspace(0, config.rate / 2, config.fft // 2 + 1, dtype=torch.float64)
    low, high = to_mel(torch.tensor([config.low, config.high], dtype=torch.float64)).tolist()
    edges = to_hertz(torch.linspace(low, high, config.bands + 2, dtype=torch.float64))
    slopes = edges[:, None] - bins
    width = edges.diff()[:, None]
    rising, falling = -slopes[:-2] / width[:-1], slopes[2:] / width[1:]
    area = 2 / (edges[2:] - edges[:-2])
    return (torch.minimum(rising, falling).clamp(min=0) * area[:, None]).float()


def log_mel(samples: Tensor, config: MelConfig) -> Tensor:
    """Natural logarithm of mel bands as HiFi-GAN hears: (B, S) in [-1, 1] to (B, M, S // hop), in float32."""
    pad = (config.fft - config.hop) // 2
    samples = F.pad(samples.float()[:, None], (pad, pad), mode="reflect")[:, 0]
    window = torch.hann_window(config.fft, device=samples.device)
    spectrum = torch.stft(samples, config.fft, config.hop, window=window, center=False, return_complex=True)
    magnitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-9).sqrt()
    with torch.autocast(samples.device.type, enabled=False):
        return (filters(config).to(samples.device) @ magnitude).clamp(min=FLOOR).log()
