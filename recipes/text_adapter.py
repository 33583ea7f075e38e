"""Teach the prompt net new words by words that it knows. Settings in text_adapter.yaml.

A file says which new prompts mean what known ones do. Low-rank changes of the net are trained until it makes
of a new prompt what the shipped net makes of the known one, from the same noise, at every time of the
sampler. The other half of a batch are usual captions, of which it is to make what it always made.

Out: OUT/adapter.safetensors for `avatar drive --prompt "..." --adapter OUT`.
Shapes as in avatar.drivers.prompt_net: B samples, T frames, C tracks.
"""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from avatar.adapters.adapter_file import FILE, Adapter, digest
from avatar.backbone import flow
from avatar.backbone.checkpoint import load
from avatar.drivers.prompt import SHIFT, SHIPPED
from avatar.drivers.prompt_net import WINDOW, PromptConfig, PromptNet
from avatar.drivers.text import SentenceEncoder, Sentences
from avatar.errors import UserError
from avatar.recipes.lora import add_lora, lora_tensors
from avatar.recipes.prompts import LONGEST, SHORTEST, draw_captions
from avatar.recipes.run_folder import RunFolder
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.training import Batch, Losses, train

SEEN = 6.0  # s, length of the motion whose figures are logged


class TextSettings(Settings):
    """See text_adapter.yaml."""

    captions: PositiveInt
    rank: PositiveInt
    alpha: float
    zero_share: float
    mean_weight: float


@dataclass(frozen=True, kw_only=True)
class AdaptedConfig:
    """Sizes of an `AdaptedPrompts`."""

    prompts: PromptConfig
    rank: int
    alpha: float


class AdaptedPrompts(nn.Module):
    """A prompt net with low-rank changes of all its linear layers."""

    def __init__(self, config: AdaptedConfig, net: PromptNet | None = None) -> None:
        super().__init__()
        self.config = config
        self.net = net or PromptNet(config.prompts)
        layers = [name for name, module in self.net.named_modules() if isinstance(module, nn.Linear)]
        add_lora(self.net, layers, config.rank, config.alpha)

    def forward(self, x: Tensor, time: Tensor, text: Sentences, when: Tensor) -> tuple[Tensor, Tensor]:
        """See `told`."""
        return told(self.net, x, time, text, when)


def told(net: PromptNet, x: Tensor, time: Tensor, text: Sentences, when: Tensor) -> tuple[Tensor, Tensor]:
    """Clean tracks (B, C, T, 1, 1) of noisy ones, and the mean motion (B, C, T) of the prompts; nothing came
    before."""
    clean = net(x, time, text, torch.zeros_like(x), torch.zeros_like(x[:, :1]), when)
    return clean.float(), net.mean_motion(text, when).float()


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """New prompts and the known ones that they mean.

    Raises:
        UserError: no such file, or something else in it.
    """
    if not path.is_file():
        raise UserError(
            f'data={path}: no such file; write [{{"prompt": new words, "like": known words}}, ...]'
        )
    try:
        pairs = [(str(one["prompt"]), str(one["like"])) for one in json.loads(path.read_text("utf8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"data={path}: not a list of prompt and like ({error})") from error
    if not pairs:
        raise UserError(f"data={path}: holds no prompts")
    return pairs


class PairReader:
    """New prompts and known ones, half and half; a step always gets the same ones."""

    def __init__(self, pairs: list[tuple[str, str]], settings: TextSettings) -> None:
        encoder, self.settings = SentenceEncoder(), settings
        _, usual = draw_captions(settings.captions, settings.seed)
        new, known = zip(*pairs, strict=True)
        every = encoder([*new, *known, *usual])
        pair, more = len(pairs), 2 * len(pairs)
        rows = torch.arange(len(every.pooled))
        self.new, self.known, self.usual = (
            Sentences(every.tokens[part], every.mask[part], every.pooled[part])
            for part in (rows[:pair], rows[pair:more], rows[more:])
        )

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.settings.seed, step))
        half = self.settings.batch // 2
        pairs = rng.integers(len(self.new.pooled), size=self.settings.batch - half)
        usual = rng.integers(len(self.usual.pooled), size=half)
        batch: Batch = {
            "seconds": torch.from_numpy(rng.uniform(SHORTEST, LONGEST, self.settings.batch)).float()
        }
        for name, source in (("new", self.new), ("known", self.known)):
            for part in ("tokens", "mask", "pooled"):
                values = getattr(source, part)[pairs], getattr(self.usual, part)[usual]
                batch[f"{name}_{part}"] = torch.cat(values)
        return batch


def text_of(batch: Batch, name: str) -> Sentences:
    """The new or the known prompts of a batch."""
    return Sentences(*(batch[f"{name}_{part}"] for part in ("tokens", "mask", "pooled")))


class Task:
    """The loss, and how far the words are learnt."""

    def __init__(self, settings: TextSettings, base: PromptNet, reader: PairReader) -> None:
        self.settings, self.base, self.reader = settings, base.eval().requires_grad_(False), reader

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        when = torch.stack([torch.zeros_like(batch["seconds"]), batch["seconds"]], 1)
        known = text_of(batch, "known")
        with torch.no_grad():
            noise, clean = self._motion(known, when, generator)
            time = flow.training_times(len(clean), generator, SHIFT, zero_share=self.settings.zero_share)
            x = flow.interpolate(noise, clean, time)
            wanted, mean = told(self.base, x, time, known, when)
        made, said = net(x, time, text_of(batch, "new"), when)
        error, off = (made - wanted).square().mean(), (said - mean).square().mean()
        return {"loss": error + self.settings.mean_weight * off, "error": error, "mean": off}

    def _motion(self, text: Sentences, when: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise, and what the shipped net makes of prompts in one step from other noise."""
        shape = (len(when), self.base.config.dit.in_channels, WINDOW, 1, 1)
        noise, other = (torch.randn(shape, generator=generator) for _ in range(2))
        return noise, told(self.base, other, torch.zeros(len(when)), text, when)[0]

    def probe(self, net: nn.Module) -> dict[str, float]:
        """What is left of the difference that new words made, and what has changed of usual captions, as
        shares of squared mean motion."""
        assert isinstance(net, AdaptedPrompts)
        reader = self.reader
        left = self._share(net.net, reader.new, reader.known) / self._share(
            self.base, reader.new, reader.known
        )
        return {"left": round(left, 4), "changed": round(self._share(net.net, reader.usual, reader.usual), 4)}

    def _share(self, net: PromptNet, text: Sentences, meant: Sentences) -> float:
        when = torch.tensor([[0.0, SEEN]]).expand(len(text.pooled), -1)
        wanted = self.base.mean_motion(meant, when)
        error = (net.mean_motion(text, when) - wanted).square().mean()
        return float(error / wanted.square().mean())


def main(words: list[str]) -> list[float]:
    """Train with the settings of text_adapter.yaml changed by `words`; returns the losses."""
    settings = read_settings(TextSettings, __file__, words)
    torch.manual_seed(settings.seed)
    net = load(PromptNet, SHIPPED)
    reader = PairReader(read_pairs(settings.data), settings)
    task = Task(settings, deepcopy(net), reader)
    config = AdaptedConfig(prompts=net.config, rank=settings.rank, alpha=settings.alpha)
    model = AdaptedPrompts(config, net)
    losses = train(model, reader, task, settings, task.probe)
    model.load_state_dict(RunFolder(settings).average())
    tensors = {f"prompt.{name}": value for name, value in lora_tensors(model.net).items()}
    adapter = Adapter("text", {"prompt": digest(SHIPPED)}, settings.alpha / settings.rank, tensors)
    adapter.save(settings.out / FILE)
    return losses


if __name__ == "__main__":
    run(main)
