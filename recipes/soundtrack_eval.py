"""Judge the nets of a soundtrack on scenes kept apart. Settings in soundtrack_eval.yaml;
`python -m avatar.recipes.soundtrack_eval key=value ...`.

Onsets: peaks of the spectral flux of the log-mel spectrogram, matched one to one with the times of visible
blows within 80 ms; the same is told of the true sound, which is what the detector can reach. Spectrograms: the
mel-VAE's error, and the vocoder's beside that of Griffin and Lim's method (librosa, 60 iterations).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor

from avatar.backbone.checkpoint import load
from avatar.backbone.hifigan import HiFiGAN
from avatar.backbone.mel import log_mel
from avatar.backbone.mel_vae import MelVAE
from avatar.backbone.v2a import V2A, Text
from avatar.backbone.v2a_sampling import decode, sample
from avatar.drivers.sight import Seen
from avatar.drivers.text import SentenceEncoder
from avatar.errors import UserError
from avatar.recipes.settings import read_settings
from avatar.recipes.shards import seeds
from avatar.recipes.soundtrack_data import KIND, read_facts
from avatar.recipes.soundtrack_sounds import MEL
from avatar.soundtrack_presets import LATENT_SECONDS

FRAME = MEL.hop / MEL.rate  # s
NEAR = 0.08  # s, between a blow and its sound
RISE = 0.9  # mean rise of log-mel over its surroundings that is an onset; see docs/soundtrack.md
APART = 5  # frames between onsets, 58 ms
ITERATIONS = 60  # of Griffin and Lim


class SoundtrackEvalSettings(BaseModel):
    """See soundtrack_eval.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenes: Path
    count: PositiveInt
    vae: Path
    vocoder: Path | None
    v2a: Path | None
    steps: PositiveInt
    guidance: float
    seed: NonNegativeInt
    out: Path


def flux(mel: Tensor) -> NDArray[np.float32]:
    """Mean rise of a log-mel spectrogram (M, F) against two frames before, (F,); quiet bands do not count."""
    loud = mel.clamp(min=float(mel.max()) - 9.0)
    rise = (loud[:, 2:] - loud[:, :-2]).clamp(min=0).mean(0)
    return torch.cat([torch.zeros(2), rise]).numpy()


def onsets(mel: Tensor) -> NDArray[np.float64]:
    """Times in seconds at which something begins to sound."""
    strength = flux(mel)
    padded = np.pad(strength, APART, mode="reflect")
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * APART + 1)
    wide = np.pad(strength, 20, mode="reflect")
    usual = np.median(np.lib.stride_tricks.sliding_window_view(wide, 41), axis=1)
    peak = (strength == around.max(1)) & (strength > usual + RISE)
    return (np.flatnonzero(peak) - 0.5) * FRAME


def matched(hits: NDArray[np.float64], found: NDArray[np.float64]) -> int:
    """How many of `hits` have an onset within `NEAR`, each onset used once; both in order."""
    count = used = 0
    for hit in hits:
        while used < len(found) and found[used] < hit - NEAR:
            used += 1
        if used < len(found) and found[used] <= hit + NEAR:
            count, used = count + 1, used + 1
    return count


def griffin_lim(mel: Tensor) -> Tensor:
    """Waveform (S,) of a log-mel spectrogram (M, F) by librosa."""
    import librosa

    magnitude = librosa.feature.inverse.mel_to_stft(
        mel.exp().numpy(), sr=MEL.rate, n_fft=MEL.fft, power=1.0, fmin=MEL.low, fmax=MEL.high
    )
    wave = librosa.griffinlim(
        magnitude, n_iter=ITERATIONS, hop_length=MEL.hop, win_length=MEL.fft, center=False, random_state=0
    )
    pad = (MEL.fft - MEL.hop) // 2
    return torch.from_numpy(wave[pad : len(wave) - pad]).float()


def mel_error(samples: Tensor, mel: Tensor) -> float:
    """L1 between the log-mel spectrogram of samples (S,) and another (M, F)."""
    heard = log_mel(samples[None], MEL)[0]
    frames = min(heard.shape[1], mel.shape[1])
    return (heard[:, :frames] - mel[:, :frames]).abs().mean().item()


def mean(values: list[float]) -> float:
    return round(float(np.mean(values)), 4) if values else float("nan")


@torch.no_grad()
def main(words: list[str]) -> dict[str, float]:
    """Print and write the figures."""
    settings = read_settings(SoundtrackEvalSettings, "soundtrack_eval", words)  # type: ignore[type-var]
    torch.set_num_threads(1)
    known = seeds(settings.scenes, KIND)[: settings.count]
    if not known:
        raise UserError(
            f"scenes={settings.scenes}: has no scenes, make some by avatar.recipes.soundtrack_data"
        )
    vae = load(MelVAE, settings.vae)
    vocoder = load(HiFiGAN, settings.vocoder) if settings.vocoder else None
    net = load(V2A, settings.v2a) if settings.v2a else None
    encode = SentenceEncoder() if net else None
    errors: dict[str, list[float]] = {"vae": [], "vocoder": [], "griffin_lim": []}
    counts = dict.fromkeys(("hits", "true_found", "true_onsets", "found", "onsets"), 0)
    true_matched = made_matched = 0
    for seed in known:
        path = settings.scenes / f"{KIND}-{seed}.safetensors"
        scene, facts = load_file(path), read_facts(path)
        mel = log_mel(scene["samples"][None].float() / 32767, MEL)[0]
        latents = vae.encode(mel[None])
        errors["vae"].append((vae.decode(latents)[0] - mel).abs().mean().item())
        if vocoder:
            errors["vocoder"].append(mel_error(vocoder(mel[None])[0], mel))
            errors["griffin_lim"].append(mel_error(griffin_lim(mel), mel))
        if not facts["hits"] or len(facts["classes"]) > 1:
            continue
        hits = np.array(facts["hits"])
        found = onsets(mel)
        counts["hits"] += len(hits)
        counts["true_onsets"] += len(found)
        true_matched += matched(hits, found)
        if net is None or vocoder is None or encode is None:
            continue
        seen, said = Seen(scene["motion"], scene["looks"]), encode(facts["captions"][:1])
        made = sample(
            net,
            lambda first, count, seen=seen: seen.window(first, count, LATENT_SECONDS, net.config.span),  # type: ignore[misc]
            Text(said.tokens, said.mask),
            None,
            latents.shape[1],
            seed=settings.seed,
            steps=settings.steps,
            guidance=settings.guidance,
            size=112,
            overlap=28,
        )
        sound = torch.cat(list(decode(vae, vocoder, made, 128)))
        found = onsets(log_mel(sound[None], MEL)[0])
        counts["onsets"] += len(found)
        made_matched += matched(hits, found)
    figures = {f"{name}_mel_l1": mean(values) for name, values in errors.items() if values}
    if vocoder:
        figures["vocoder_to_griffin_lim"] = round(
            figures["vocoder_mel_l1"] / figures["griffin_lim_mel_l1"], 3
        )
    figures |= {"scenes": len(known), "hits": counts["hits"]}
    figures["true_hits_found"] = round(true_matched / max(counts["hits"], 1), 3)
    figures["true_onsets_caused"] = round(true_matched / max(counts["true_onsets"], 1), 3)
    if counts["onsets"]:
        figures["hits_found"] = round(made_matched / max(counts["hits"], 1), 3)
        figures["onsets_caused"] = round(made_matched / counts["onsets"], 3)
    settings.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    return figures


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"avatar: {error}")
