"""Judge the nets of a soundtrack on scenes kept apart. Settings in soundtrack_eval.yaml;
`python -m avatar.recipes.soundtrack_eval key=value ...`.

Spectrograms: the mel-VAE's error, and the vocoder's beside that of Griffin and Lim's method. Onsets: shares
of visible blows with an onset within 80 ms and of onsets with a visible blow. Classes: how often a judge
that knows true sounds only is right. Each is told of the true sounds too, which is what the judge itself
can reach. Choice: with nothing to be seen, how often the prompt's class of two is the more likely one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor

from avatar.backbone.checkpoint import load
from avatar.backbone.hifigan import HiFiGAN
from avatar.backbone.mel import log_mel
from avatar.backbone.mel_consistency import polish
from avatar.backbone.mel_vae import MelVAE
from avatar.backbone.v2a import V2A, Text
from avatar.backbone.v2a_sampling import decode, sample
from avatar.drivers.sight import Seen
from avatar.drivers.text import SentenceEncoder
from avatar.errors import UserError
from avatar.recipes.onsets import matched, onsets
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.shards import seeds
from avatar.recipes.sounding import CLASSES, FRAMES
from avatar.recipes.soundtrack_classifier import SoundClassifier
from avatar.recipes.soundtrack_data import KIND, read_facts
from avatar.recipes.soundtrack_sounds import MEL
from avatar.soundtrack import OVERLAP, PIECE, POLISH, WINDOW
from avatar.soundtrack_presets import LATENT_SECONDS

ITERATIONS = 60  # of Griffin and Lim
# Sounds that nothing in the picture decides.
PROMPTS = {
    "rain": "heavy rain",
    "crowd": "people talk in a busy cafe",
    "music": "piano music",
    "engine": "an engine runs",
    "fire": "a crackling fire",
    "waves": "waves on a beach",
    "typing": "typing on a keyboard",
    "clock": "a clock ticks",
}
LATENTS = 128  # of a made sound, 5.9 s


class SoundtrackEvalSettings(RecipeSettings):
    """See soundtrack_eval.yaml."""

    scenes: Path
    count: PositiveInt
    vae: Path
    vocoder: Path | None
    v2a: Path | None
    classifier: Path | None
    pairs: NonNegativeInt
    steps: PositiveInt
    guidance: float
    seed: NonNegativeInt
    out: Path


class Maker:
    """Makes log-mel spectrograms of sounds that a net hears with a picture and a prompt."""

    def __init__(self, vae: MelVAE, vocoder: HiFiGAN, net: V2A, *, steps: int, guidance: float) -> None:
        self.vae, self.vocoder, self.net = vae, vocoder, net
        self.steps, self.guidance = steps, guidance
        self.encode = SentenceEncoder()

    def __call__(self, seen: Seen, prompt: str, seed: int) -> Tensor:
        """(M, F) of the waveform."""
        said, span = self.encode([prompt]), self.net.config.span
        latents = sample(
            self.net,
            lambda first, count: seen.window(first, count, LATENT_SECONDS, span),
            Text(said.tokens, said.mask),
            None,
            LATENTS,
            seed=seed,
            steps=self.steps,
            guidance=self.guidance,
            size=WINDOW,
            overlap=OVERLAP,
        )
        sound = torch.cat(list(decode(self.vae, self.vocoder, latents, PIECE, MEL, POLISH)))
        return log_mel(sound[None], MEL)[0]


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


def choices(maker: Maker, judge: SoundClassifier, pairs: int) -> float:
    """Share of pairs of prompts, on a picture of nothing, in which the judge hears the one that was given."""
    nothing = Seen(torch.zeros(FRAMES, 256), torch.zeros((FRAMES - 1) // 4 + 1, 1024))
    names = list(PROMPTS)
    right = 0
    for index in range(pairs):
        rng = np.random.default_rng(index)
        given, other = (str(name) for name in rng.choice(names, 2, replace=False))
        logits = judge(maker(nothing, PROMPTS[given], index)[None])[0]
        right += bool(logits[CLASSES.index(given)] > logits[CLASSES.index(other)])
    return right / pairs


@torch.no_grad()
def main(words: list[str]) -> dict[str, float]:
    """Print and write the figures."""
    settings = read_settings(SoundtrackEvalSettings, __file__, words)
    torch.set_num_threads(1)
    known = seeds(settings.scenes, KIND)[: settings.count]
    if not known:
        raise UserError(f"scenes={settings.scenes}: has none, make some by avatar.recipes.soundtrack_data")
    vae = load(MelVAE, settings.vae)
    vocoder = load(HiFiGAN, settings.vocoder) if settings.vocoder else None
    judge = load(SoundClassifier, settings.classifier) if settings.classifier else None
    maker = None
    if vocoder and settings.v2a:
        net = load(V2A, settings.v2a)
        maker = Maker(vae, vocoder, net, steps=settings.steps, guidance=settings.guidance)
    errors: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)

    def judged(kind: str, mel: Tensor, facts: dict) -> None:
        if facts["hits"]:
            hits, found = np.array(facts["hits"]), onsets(mel)
            counts[f"{kind}_hits"] += len(hits)
            counts[f"{kind}_onsets"] += len(found)
            counts[f"{kind}_matched"] += matched(hits, found)
        if judge:
            counts[f"{kind}_judged"] += 1
            counts[f"{kind}_right"] += CLASSES[int(judge(mel[None])[0].argmax())] == facts["classes"][0]

    for seed in known:
        path = settings.scenes / f"{KIND}-{seed}.safetensors"
        scene, facts = load_file(path), read_facts(path)
        mel = log_mel(scene["samples"][None].float() / 32767, MEL)[0]
        errors["vae"].append((vae.decode(vae.encode(mel[None]))[0] - mel).abs().mean().item())
        if vocoder:
            sound = vocoder(mel[None])[0]
            errors["net_alone"].append(mel_error(sound, mel))
            errors["vocoder"].append(mel_error(polish(sound, mel, MEL, POLISH), mel))
            errors["griffin_lim"].append(mel_error(griffin_lim(mel), mel))
        if len(facts["classes"]) == 1 and facts["seen"]:
            judged("true", mel, facts)
            if maker:
                seen = Seen(scene["motion"], scene["looks"])
                judged("made", maker(seen, facts["captions"][0], settings.seed + seed), facts)
    figures: dict[str, float] = {"scenes": len(known)}
    figures |= {f"{name}_mel_l1": round(float(np.mean(values)), 4) for name, values in errors.items()}
    if vocoder:
        ratio = figures["vocoder_mel_l1"] / figures["griffin_lim_mel_l1"]
        figures["vocoder_to_griffin_lim"] = round(ratio, 3)
    for kind in ("true", "made"):
        for name, part, whole in (
            ("hits_found", "matched", "hits"),
            ("onsets_caused", "matched", "onsets"),
            ("class_right", "right", "judged"),
        ):
            if counts[f"{kind}_{whole}"]:
                figures[f"{kind}_{name}"] = round(counts[f"{kind}_{part}"] / counts[f"{kind}_{whole}"], 3)
    if maker and judge and settings.pairs:
        figures["prompt_chosen"] = round(choices(maker, judge, settings.pairs), 3)
    settings.out.write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures, indent=1))
    return figures


if __name__ == "__main__":
    run(main)
