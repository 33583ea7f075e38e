"""Train the mouth curves. Settings in speech.yaml; `python -m avatar.recipes.speech key=value ...`.

The corpus is damaged as real recordings are (sound.py), joined to long recordings, so that every utterance
lies anywhere in Whisper's windows, and turned into features once. The net learns to give the curves back.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avatar.drivers.curves import INDEX
from avatar.drivers.speech import CLOSURE, CONTROLS, PRESS, SpeechConfig, SpeechToCurves, mouth_curves
from avatar.drivers.whisper import HOP, WhisperFeatures
from avatar.errors import UserError
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.sound import augment
from avatar.recipes.speech_corpus import Utterance, corpus_files, load_utterance
from avatar.recipes.training import Batch, Losses, train
from avatar.recipes.visemes import phone_activity

log = logging.getLogger(__name__)

SESSION = 12  # utterances joined to one recording, about 80 s


class SpeechSettings(Settings):
    """See speech.yaml."""

    piece: int
    whisper: str
    layers: tuple[int, ...]
    width: int
    clean: float
    held_out: float
    held_out_voices: tuple[str, ...]
    closure_weight: float


def is_held_out(utterance: Utterance, settings: SpeechSettings) -> bool:
    """Whether an utterance is kept apart; depends on its voice and number alone."""
    name = utterance.voice.split("/")[-1].split("+")[0]
    chance = np.random.default_rng((settings.seed, int(utterance.id))).random()
    return name in settings.held_out_voices or bool(chance < settings.held_out)


def padded(utterance: Utterance, audio: NDArray[np.float32]) -> tuple[NDArray[np.float32], Tensor, Tensor]:
    """Sound filled up to whole features, and curves (n, 52) and activity (n,) at 50 Hz."""
    count = -(-len(audio) // HOP)
    curves = np.zeros((2 * count, utterance.curves.shape[1]), np.float32)
    curves[: len(utterance.curves)] = utterance.curves
    activity = phone_activity(utterance.phones, 2 * count / 100)
    return (
        np.pad(audio, (0, count * HOP - len(audio))),
        torch.from_numpy(curves[::2]),
        torch.from_numpy(activity[::2]),
    )


def make_session(
    utterances: Sequence[Utterance], whisper: WhisperFeatures, clean: float, rng: np.random.Generator
) -> dict[str, Tensor]:
    """One long recording of damaged utterances: features (n, layers, dim), curves (n, 52), activity (n,)."""
    speech = [utterance.audio for utterance in utterances]
    parts = [
        padded(u, u.audio if rng.random() < clean else augment(u.audio, speech, rng)) for u in utterances
    ]
    sounds, curves, activity = zip(*parts, strict=True)
    return {
        "features": whisper(np.concatenate(sounds)).half(),
        "curves": torch.cat(curves).half(),
        "activity": torch.cat(activity).half(),
    }


def prepare(settings: SpeechSettings) -> dict[str, list[Path]]:
    """Files of the sessions, "train" and "held_out"; computed where they are missing."""
    folder = settings.out / "features"
    folder.mkdir(parents=True, exist_ok=True)
    names = corpus_files(settings.data)
    if not names:
        raise UserError(f"{settings.data}: no utterances; make some with avatar.recipes.speech_corpus")
    groups: dict[str, list[Path]] = {"train": [], "held_out": []}
    for name in names:
        groups["held_out" if is_held_out(load_utterance(name), settings) else "train"].append(name)
    whisper = WhisperFeatures.from_pretrained(settings.whisper, settings.layers)
    sessions: dict[str, list[Path]] = {group: [] for group in groups}
    for group, members in groups.items():
        rng = np.random.default_rng(settings.seed)
        order = [members[i] for i in rng.permutation(len(members))]
        for number, start in enumerate(range(0, len(order), SESSION)):
            path = folder / f"{group}-{number:04d}.safetensors"
            sessions[group].append(path)
            if not path.exists():
                utterances = [load_utterance(name) for name in order[start : start + SESSION]]
                noise = np.random.default_rng((settings.seed, number, len(group)))
                partial = path.with_suffix(".partial")
                save_file(make_session(utterances, whisper, settings.clean, noise), partial)
                os.replace(partial, path)
                log.info("%s session %d of %d", group, number + 1, -(-len(order) // SESSION))
    return sessions


@dataclass
class Recordings:
    """All sessions of a group, one after the other, in memory: tensors of the first size n."""

    features: Tensor
    curves: Tensor
    activity: Tensor

    @classmethod
    def read(cls, paths: Sequence[Path]) -> Recordings:
        """Load the sessions."""
        parts = [load_file(path) for path in paths]
        return cls(
            *(torch.cat([part[name] for part in parts]) for name in ("features", "curves", "activity"))
        )

    def piece(self, start: int, length: int, reach: int) -> Batch:
        """`length` features from `start` with their targets, and `reach` more features on each side."""
        inner = slice(start, start + length)
        return {
            "features": self.features[start - reach : start + length + reach].float()[None],
            "curves": self.curves[inner].float()[None],
            "activity": self.activity[inner].float()[None],
        }


class Pieces:
    """Random pieces of the recordings; a step always gets the same ones."""

    def __init__(self, recordings: Recordings, settings: SpeechSettings, reach: int) -> None:
        self.recordings, self.settings, self.reach = recordings, settings, reach

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.settings.seed, step))
        last = len(self.recordings.activity) - self.settings.piece - self.reach
        starts = [int(rng.integers(self.reach, last)) for _ in range(self.settings.batch)]
        pieces = [self.recordings.piece(start, self.settings.piece, self.reach) for start in starts]
        return {name: torch.cat([piece[name] for piece in pieces]) for name in pieces[0]}


# The jaw and the rounding are what the eye sees first; the rare controls are small.
_WEIGHTS = {"jawOpen": 2.0, "mouthPucker": 1.5, "mouthFunnel": 1.5, "mouthRollLower": 1.5}
_WEIGHTS |= dict.fromkeys(("mouthShrugUpper", "jawForward", "tongueOut"), 3.0)
WEIGHTS = torch.tensor([_WEIGHTS.get(name, 1.0) for name in CONTROLS[:CLOSURE]])
MISSED = torch.tensor(2.0)  # a missed closure is seen more easily than one too many


def control_targets(curves: Tensor) -> tuple[Tensor, Tensor]:
    """Closure (...,) and the other controls (..., 11) as the curves (..., 52) of the corpus show them."""
    closure = (curves[..., INDEX["mouthPressLeft"]] / PRESS).clamp(0, 1)
    columns = [INDEX.get(name, INDEX.get(f"{name}Left", 0)) for name in CONTROLS[:CLOSURE]]
    return closure, curves[..., columns]


def speech_loss(closure_weight: float, model: nn.Module, batch: Batch) -> Losses:
    """L1 + L2 of the curves, heavier near closures, and binary cross-entropies of controls and activity.

    The cross-entropy of a control pulls it back from 0 where the other terms no longer feel it; without it
    the net never learns the rare ones.
    """
    controls, activity = model(batch["features"])
    closure, wanted = control_targets(batch["curves"])
    _, shown = control_targets(mouth_curves(controls.float().sigmoid()))
    near = F.max_pool1d(closure, 5, 1, 2)
    error = (shown - wanted).abs()
    curve = ((error + 4 * error**2) * WEIGHTS * (1 + closure_weight * near)[..., None]).mean()
    meet = F.binary_cross_entropy_with_logits(controls[..., CLOSURE].float(), closure, pos_weight=MISSED)
    shape = F.binary_cross_entropy_with_logits(controls[..., :CLOSURE].float(), wanted)
    speaks = F.binary_cross_entropy_with_logits(activity.float(), batch["activity"])
    return {
        "loss": 10 * curve + meet + shape + 0.3 * speaks,
        "curve": curve,
        "closure": meet,
        "shape": shape,
        "activity": speaks,
    }


def figures(model: nn.Module, recordings: Recordings, limit: int = 30_000) -> dict[str, float]:
    """How well curves are told: r of the main ones; shares of closures and pauses with closed lips."""
    assert isinstance(model, SpeechToCurves)
    told = model.curves(recordings.features[:limit].float()).float()
    true = recordings.curves[: len(told)].float()
    opening = told[:, INDEX["jawOpen"]] - told[:, INDEX["mouthClose"]]
    large = torch.quantile(opening, 0.9)
    closure, _ = control_targets(true)
    silent = F.max_pool1d(recordings.activity[: len(told)].float()[None], 21, 1, 10)[0] == 0
    found = {
        f"r {name}": torch.corrcoef(torch.stack([told[:, INDEX[name]], true[:, INDEX[name]]]))[0, 1].item()
        for name in (
            "jawOpen",
            "mouthPucker",
            "mouthStretchLeft",
            "mouthRollLower",
            "mouthClose",
            "tongueOut",
        )
    }
    met = (F.max_pool1d(-opening[None], 3, 1, 1)[0] > -0.25 * large)[closure > 0.95]
    false = (opening < 0.25 * large)[(closure < 0.05) & (true[:, INDEX["jawOpen"]] > 0.2)]
    still = (opening < 0.2 * large)[silent]
    shares = {"closed": met, "wrongly closed": false, "silent": still}
    return {name: round(v, 4) for name, v in found.items()} | {
        name: round(v.float().mean().item(), 4) for name, v in shares.items()
    }


def train_speech(settings: SpeechSettings) -> list[float]:
    """Run the recipe; returns the losses of the steps taken now."""
    torch.set_num_threads(settings.threads)
    sessions = prepare(settings)
    recordings = {group: Recordings.read(paths) for group, paths in sessions.items() if paths}
    features = recordings["train"].features
    config = SpeechConfig(layers=settings.layers, feature_dim=features.shape[-1], width=settings.width)
    torch.manual_seed(settings.seed)
    net = SpeechToCurves(config)
    sample = features[:: max(1, len(features) // 20_000)].float().flatten(1)
    net.mean.copy_(sample.mean(0))
    net.deviation.copy_(sample.std(0) + 1e-3)

    def loss(model: nn.Module, batch: Batch, _: torch.Generator) -> Losses:
        return speech_loss(settings.closure_weight, model, batch)

    def probe(model: nn.Module) -> dict[str, float]:
        return figures(model, recordings["held_out"])

    held_out = probe if "held_out" in recordings else None
    return train(net, Pieces(recordings["train"], settings, config.reach), loss, settings, held_out)


def main(words: list[str]) -> list[float]:
    """Train with the settings of speech.yaml changed by `words`; returns the losses."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return train_speech(read_settings(SpeechSettings, __file__, words))


if __name__ == "__main__":
    run(main)
