"""Fine-tune adapters of the generator on cached latents, while the rest of it stays as it is.

    python -m avatar.recipes.generator_adapter NAME key=value ...     NAME.yaml holds the settings

The linear layers of an adapter get low-rank changes; what else it has, norms, places of tokens and the
projection of poses, is small and is trained as it is. The loss is that of the generator
(avatar.recipes.generator). The signals of adapters that are not trained come and go, so that the trained ones
learn to work with and without them; several are trained jointly with condition dropout (section 2.5 of the
design).

Out: OUT/adapter.safetensors for `avatar drive --adapter OUT`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from avatar.adapters.adapter_file import CHANGE, FILE, Adapter, digest
from avatar.backbone.checkpoint import load
from avatar.backbone.vae import CausalVAE
from avatar.model import FULL, Conditions, Generator, GeneratorConfig, Strengths
from avatar.presets import PRESETS
from avatar.recipes import footage_latents
from avatar.recipes.generator import GeneratorSettings, LatentReader, Task
from avatar.recipes.lora import add_lora, lora_tensors
from avatar.recipes.run_folder import RunFolder
from avatar.recipes.settings import read_settings, recipe_of, run
from avatar.recipes.sitters import SitterProbe
from avatar.recipes.training import train

SHIPPED = Path(str(files("avatar") / "weights"))


class AdapterSettings(GeneratorSettings):
    """See pose_adapter.yaml."""

    adapters: tuple[Literal["audio", "pose", "expression"], ...]
    weights: Path | None
    vae: Path | None  # type: ignore[assignment]
    rank: PositiveInt
    alpha: float


@dataclass(frozen=True, kw_only=True)
class AdaptedConfig:
    """Sizes of an `AdaptedGenerator`."""

    generator: GeneratorConfig
    adapters: tuple[str, ...]
    rank: int
    alpha: float


class AdaptedGenerator(nn.Module):
    """A generator of which only some adapters are trained."""

    def __init__(self, config: AdaptedConfig, net: Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.net = net or Generator(config.generator)
        linear = [
            f"{name}.{layer}"
            for name in config.adapters
            for layer, module in self.net.get_submodule(name).named_modules()
            if isinstance(module, nn.Linear)
        ]
        self.net.requires_grad_(False)
        if linear:
            add_lora(self.net, linear, config.rank, config.alpha)
        for name in config.adapters:
            for parameter, value in self.net.get_submodule(name).named_parameters():
                inside = ".base_layer." in parameter or ".lora_" in parameter
                value.requires_grad_(not inside or ".lora_" in parameter)

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        given: Conditions,
        strengths: Strengths = FULL,
        drop: Tensor | None = None,
    ) -> Tensor:
        """As `Generator`."""
        return self.net(x, time, given, strengths, drop)

    def tensors(self, before: dict[str, Tensor]) -> dict[str, Tensor]:
        """What was trained, under the names of adapter files; `before` are the weights that it began with."""
        found = lora_tensors(self.net)
        for name in found:
            if name.endswith(CHANGE):
                found[name] = found[name] - before[name.removesuffix(CHANGE)]
        return {f"generator.{name}": value for name, value in found.items()}


def main(words: list[str], recipe: str = __file__) -> list[float]:
    """Train with the settings of a recipe's YAML changed by `words`, of which the first may name the recipe;
    returns the losses."""
    recipe, words = recipe_of(words, recipe)
    settings = read_settings(AdapterSettings, recipe, words)
    torch.manual_seed(settings.seed)
    preset, folder = PRESETS[settings.preset], SHIPPED / settings.preset
    weights = settings.weights or folder / "generator.safetensors"
    vae = settings.vae or folder / "vae.safetensors"
    net = load(Generator, weights).float()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    config = AdaptedConfig(
        generator=net.config, adapters=settings.adapters, rank=settings.rank, alpha=settings.alpha
    )
    model = AdaptedGenerator(config, net)
    if (settings.data / "index.json").exists():
        latents = settings.out / "latents"
        held_out = footage_latents.encode(settings.data, latents, settings.preset, vae)
        settings = settings.model_copy(update={"data": latents, "held_out": held_out})
    read = LatentReader(settings)
    task = Task(settings, read.read(read.held_out))
    people = SitterProbe(settings.probe_people, preset, load(CausalVAE, vae))

    def probe(trained: nn.Module) -> dict[str, float]:
        return task.probe(trained) | people.respond(generator=trained)

    def show(trained: nn.Module, place: Path) -> dict[str, float]:
        return people.show(place, generator=trained)

    losses = train(model, read, task, settings, probe, show)
    model.load_state_dict(RunFolder(settings).average())
    kind, scale = "+".join(settings.adapters), settings.alpha / settings.rank
    adapter = Adapter(kind, {"generator": digest(weights)}, scale, model.tensors(before))
    adapter.save(settings.out / FILE)
    return losses


if __name__ == "__main__":
    run(main)
