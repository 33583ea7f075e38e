"""Bring a waveform to a log-mel spectrogram: its own spectrum is corrected band by band, its phases are kept.
One step multiplies every frequency by what its mel bands lack, as Griffin and Lim (1984) replace
magnitudes, and adds the frames up again; it starts from a point ahead on the way of the last one (Perraudin
et al. 2013). A vocoder's phases are a far better start than random ones.

Shape legend: S samples, M mel bands, F spectrogram frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from avatar.backbone.mel import FLOOR, MelConfig, filters

LARGEST = 100.0  # factor of one step, either way
AHEAD = 0.8  # of the last step
REACH = 3  # frames that a step looks at on either side: windows of 4 hops


def polish(samples: Tensor, mel: Tensor, config: MelConfig, steps: int) -> Tensor:
    """Correct samples (S,) towards the log-mel spectrogram (M, F), S = F * hop; same shape back."""
    bands = filters(config).to(samples.device)
    heard = bands.sum(0)[:, None] > 0  # frequencies beyond the bands are left as they are
    spread = (bands / bands.sum(0).clamp(min=1e-8)).T
    window = torch.hann_window(config.fft, device=samples.device)
    pad, target = (config.fft - config.hop) // 2, mel.float().exp()
    length = len(samples) + 2 * pad
    weight = _add_up(window.square()[:, None].expand(-1, mel.shape[1]), length, config.hop)
    with torch.autocast(samples.device.type, enabled=False):
        samples = last = samples.float()
        for _ in range(steps):
            start, last = samples + AHEAD * (samples - last), samples
            padded = F.pad(start[None, None], (pad, pad), mode="reflect")[0, 0]
            spectrum = torch.stft(
                padded, config.fft, config.hop, window=window, center=False, return_complex=True
            )
            found = (bands @ (spectrum.abs().square() + 1e-9).sqrt()).clamp(min=FLOOR)
            gain = (spread @ (target / found).clamp(1 / LARGEST, LARGEST).log()).exp()
            frames = torch.fft.irfft(spectrum * torch.where(heard, gain, 1.0), config.fft, dim=0)
            samples = (_add_up(frames * window[:, None], length, config.hop) / weight)[pad : length - pad]
    return samples


def _add_up(frames: Tensor, length: int, hop: int) -> Tensor:
    """Overlapping frames (N, F) as one signal (length,)."""
    return F.fold(frames[None], (1, length), (1, len(frames)), stride=(1, hop))[0, 0, 0]
