"""Train the nets that make motion of prompts, and judge them. Settings in prompts.yaml; the weights are
OUT/model.safetensors: without `mean` those of the mean motion, with it all that `PromptDriver` needs.

Every caption is drawn once and encoded, its motion is drawn anew in every step. The log of the second part
has the judgement of `avatar.recipes.prompt_judge` on wordings that no template makes: `obeys` is the median
response, `right` the share of prompts that are obeyed, `leak` what moves that should not.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import PositiveInt
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avatar.backbone import flow
from avatar.backbone.checkpoint import load
from avatar.drivers.prompt import SHIFT, PromptDriver
from avatar.drivers.prompt_net import (
    CONTEXT,
    FACE,
    PAIR,
    POOLED_GAIN,
    RATE,
    TRACKS,
    WINDOW,
    MeanConfig,
    MeanMotion,
    PromptConfig,
    PromptNet,
    dit_config,
    without_text,
)
from avatar.drivers.text import CHANNELS, SentenceEncoder, Sentences
from avatar.errors import UserError
from avatar.recipes import prompt_judge
from avatar.recipes.captions import caption, mirrored
from avatar.recipes.moves import Plan
from avatar.recipes.plans import HOP, act, draw_plan
from avatar.recipes.settings import Settings, read_settings
from avatar.recipes.training import Batch, Losses, train

Array = NDArray[np.float32]

MOST_HOPS = 3  # windows beyond begin at a time that is the same to the net
CHUNK = 256  # captions encoded at once
BUCKETS = 8  # of captions of about the same length; a batch is from one, which saves padding
SHORTEST, LONGEST = 1.5, 16.0  # s, of videos


class PromptSettings(Settings):
    """See prompts.yaml."""

    mean: Path | None
    captions: PositiveInt
    width: PositiveInt
    text_dropout: float
    text_noise: float
    token_dropout: float
    late: float
    context_noise: float
    change_weight: float
    head_weight: float
    zero_share: float


class CaptionReader:
    """Windows of motion with their captions; a step always gets the same ones.

    Half of a batch is the mirror image of the other half where its captions say left or right: what the
    sides differ in is all that two such samples differ in.
    """

    def __init__(self, settings: PromptSettings, encoder: SentenceEncoder, scale: Array) -> None:
        self.settings, self.scale = settings, scale
        plans, texts = draw_captions(settings.captions, settings.seed)
        twins = {row: mirrored(plans[row], texts[row]) for row in range(len(texts))}
        twins = {row: twin for row, twin in twins.items() if twin[1] != texts[row]}
        self.plans = plans + [plan for plan, _ in twins.values()]
        self.twin = np.arange(len(texts))
        self.twin[list(twins)] = len(texts) + np.arange(len(twins))
        self.texts = Texts.of(texts, encoder, settings.data)
        if twins:
            self.texts += Texts.of([text for _, text in twins.values()], encoder, settings.data)
        self.alike = np.array_split(np.argsort(self.texts.lengths[: len(texts)], kind="stable"), BUCKETS)

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.settings.seed, step))
        chosen = rng.choice(self.alike[rng.integers(len(self.alike))], self.settings.batch // 2)
        rows = np.concatenate([chosen, self.twin[chosen]])
        late = np.tile(rng.random(len(chosen)) < self.settings.late, 2)
        seeds = np.tile(rng.integers(2**32, size=len(chosen)), 2)
        drawn = [
            self._window(self.plans[row], after, np.random.default_rng(seed))
            for row, after, seed in zip(rows, late, seeds, strict=True)
        ]
        motion = torch.from_numpy(np.stack([tracks for tracks, _ in drawn]) / self.scale)
        text = self.texts.batch(rows)
        return {
            "clean": motion.transpose(1, 2)[..., None, None],
            "when": torch.tensor([when for _, when in drawn], dtype=torch.float32),
            "late": torch.from_numpy(late),
            "tokens": text.tokens,
            "mask": text.mask,
            "pooled": text.pooled,
        }

    def _window(self, plan: Plan, late: bool, rng: np.random.Generator) -> tuple[Array, tuple[float, float]]:
        start = HOP * int(rng.integers(1, MOST_HOPS + 1)) if late else 0.0
        seconds = start + rng.uniform(SHORTEST, LONGEST)
        first = round(start * float(RATE))
        time = np.arange(first + WINDOW) / float(RATE)
        return act(plan, seconds, time, rng)[first:], (start, seconds)


def draw_captions(count: int, seed: int) -> tuple[list[Plan], list[str]]:
    """Plans and their captions; none of them is one that the judge asks."""
    rng = np.random.default_rng(seed)
    plans: list[Plan] = []
    texts: list[str] = []
    while len(plans) < count:
        plan = draw_plan(rng)
        text = caption(plan, rng)
        if text.rstrip(".").lower() not in prompt_judge.ASKED:
            plans.append(plan)
            texts.append(text)
    return plans, texts


@dataclass(frozen=True)
class Texts:
    """Encoded captions without padding.

    Attributes:
        tokens: states of all captions one after the other, (N, 384), float16.
        lengths: tokens of each, (captions,).
        pooled: (captions, 384), float16.
    """

    tokens: Tensor
    lengths: NDArray[np.int64]
    pooled: Tensor

    def __add__(self, other: Texts) -> Texts:
        return Texts(
            torch.cat([self.tokens, other.tokens]),
            np.concatenate([self.lengths, other.lengths]),
            torch.cat([self.pooled, other.pooled]),
        )

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each caption begins."""
        return np.cumsum(self.lengths) - self.lengths

    def batch(self, rows: NDArray[np.int64]) -> Sentences:
        """Some captions, padded."""
        parts = [self.tokens[self.starts[row] :][: self.lengths[row]].float() for row in rows]
        tokens = nn.utils.rnn.pad_sequence(parts, batch_first=True)
        mask = torch.arange(tokens.shape[1]) < torch.from_numpy(self.lengths[rows])[:, None]
        return Sentences(tokens, mask, self.pooled[rows].float())

    @classmethod
    def of(cls, texts: list[str], encoder: SentenceEncoder, folder: Path) -> Texts:
        """Encode captions; they are kept in a file of `folder`."""
        digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
        path = folder / f"captions-{digest}.safetensors"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _encode(texts, encoder, path)
        with safe_open(path, framework="pt") as file:
            lengths = file.get_tensor("lengths").numpy()
            return cls(file.get_tensor("tokens"), lengths, file.get_tensor("pooled"))


def _encode(texts: list[str], encoder: SentenceEncoder, path: Path) -> None:
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    states: list[Tensor] = [torch.empty(0)] * len(texts)
    pooled = torch.empty(len(texts), CHANNELS, dtype=torch.float16)
    for start in range(0, len(order), CHUNK):
        rows = order[start : start + CHUNK]
        found = encoder([texts[row] for row in rows])
        for row, tokens, mask in zip(rows, found.tokens, found.mask, strict=True):
            states[row] = tokens[mask].half()
        pooled[rows] = found.pooled.half()
    lengths = torch.tensor([len(state) for state in states])
    part = path.with_suffix(".part")
    save_file({"tokens": torch.cat(states), "lengths": lengths, "pooled": pooled}, part)
    part.replace(path)


def deviations(plans: list[Plan], seed: int, least: Array) -> Array:
    """Deviation of every track over the motion of some plans, (C,), but no less than `least`."""
    rng = np.random.default_rng((seed, 1))
    time = np.arange(WINDOW) / float(RATE)
    motion = [act(plan, rng.uniform(SHORTEST, LONGEST), time, rng) for plan in plans]
    return np.maximum(np.concatenate(motion).std(0), least).astype(np.float32)


def main(words: list[str]) -> list[float]:
    """Train with the settings of prompts.yaml changed by `words`; returns the losses."""
    settings = read_settings(PromptSettings, __file__, words)
    torch.manual_seed(settings.seed)
    encoder = SentenceEncoder()
    if settings.mean is None:
        return _train_mean(settings, encoder)
    return _train_motion(settings, encoder)


def _train_mean(settings: PromptSettings, encoder: SentenceEncoder) -> list[float]:
    model = MeanMotion(MeanConfig(width=settings.width))
    some = draw_captions(min(settings.captions, 4000), settings.seed)[0]
    model.deviation.copy_(torch.from_numpy(deviations(some, settings.seed, model.deviation.numpy() / 4)))
    read = CaptionReader(settings, encoder, model.deviation.numpy().copy())
    weight = track_weights(settings)[..., 0]

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        clean = F.avg_pool1d(batch["clean"][..., 0, 0], PAIR)
        made = net(text_of(batch, settings, generator), batch["when"]).float()
        error = (weight * (made - clean).square()).mean()
        return {"loss": error, "share": error / (weight * clean.square()).mean()}

    return train(model, read, loss, settings)


def _train_motion(settings: PromptSettings, encoder: SentenceEncoder) -> list[float]:
    mean = load(MeanMotion, settings.mean)  # type: ignore[arg-type]
    model = PromptNet(PromptConfig(mean=mean.config, dit=dit_config(settings.width)))
    model.mean.load_state_dict(mean.state_dict())
    model.mean.requires_grad_(False)
    read = CaptionReader(settings, encoder, model.deviation.numpy().copy())
    weight = track_weights(settings)[..., None]

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        clean = batch["clean"]
        half = len(clean) // 2
        time = flow.training_times(half, generator, SHIFT, zero_share=settings.zero_share).repeat(2)
        noise = torch.randn(half, *clean.shape[1:], generator=generator).repeat(2, 1, 1, 1, 1)
        text = text_of(batch, settings, generator)
        given = torch.zeros_like(clean[:, :1])
        given[:, :, :CONTEXT] = batch["late"][:, None, None, None, None]
        wrong = settings.context_noise * torch.randn(clean.shape, generator=generator)
        x = flow.interpolate(noise, clean, time)
        made = net(x, time, text, (clean + wrong) * given, given, batch["when"]).float()
        error = (weight * (made - clean).square()).mean()
        change = (weight * (made - clean).diff(dim=2).square()).mean()
        return {"loss": error + settings.change_weight * change, "error": error, "change": change}

    def probe(net: nn.Module) -> dict[str, float]:
        return prompt_judge.figures(PromptDriver(net, encoder))  # type: ignore[arg-type]

    return train(model, read, loss, settings, probe)


def track_weights(settings: PromptSettings) -> Tensor:
    """Weight of every track in the loss, (C, 1, 1)."""
    weight = torch.ones(len(TRACKS), 1, 1)
    weight[len(FACE) :] = settings.head_weight
    return weight


def text_of(batch: Batch, settings: PromptSettings, generator: torch.Generator) -> Sentences:
    """The captions of a batch as a net sees them; some are withheld.

    Noise and missing tokens are for words that were never learnt: what they are near to, and what the whole
    sentence says. A random share of a caption's tokens is left out, but never the first, its beginning.
    """
    mask, size = batch["mask"], settings.text_noise
    tokens = batch["tokens"] + size * torch.randn(batch["tokens"].shape, generator=generator)
    pooled = batch["pooled"] + size / POOLED_GAIN * torch.randn(batch["pooled"].shape, generator=generator)
    share = settings.token_dropout * torch.rand(len(mask), 1, generator=generator).square()
    kept = torch.rand(mask.shape, generator=generator) >= share
    kept[:, 0] = True
    mask = mask & kept
    dropped = torch.rand(len(mask), generator=generator) < settings.text_dropout
    return without_text(Sentences(tokens * mask[..., None], mask, pooled), dropped)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--judge"]:
            prompt_judge.report(PromptDriver.from_pretrained(*map(Path, sys.argv[2:3])))
        else:
            main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"avatar: {error}")
