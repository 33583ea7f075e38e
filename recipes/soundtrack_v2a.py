"""Train the video-to-audio net. Settings in soundtrack_v2a.yaml;
`python -m avatar.recipes.soundtrack_v2a key=value ...`.

The loss is the mean square error of the velocity (section 1.3 of the design) and the cross entropy of visible
blows. The log has the first on held-out scenes at five times, with the picture (`held_out`) and without it
(`held_out_blind`): their difference is what the net takes from the picture; the second is `held_out_blows`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.backbone import flow
from avatar.backbone.v2a import V2A, Sight, Text
from avatar.drivers.sight import Seen
from avatar.errors import UserError
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.shards import seeds
from avatar.recipes.soundtrack_latents import KIND
from avatar.recipes.training import Batch, Losses, train
from avatar.soundtrack_presets import LATENT_SECONDS, PRESETS

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the probe


class V2ASettings(Settings):
    """See soundtrack_v2a.yaml."""

    preset: str
    window: PositiveInt
    blind_share: float
    mute_share: float
    blow_weight: float
    held_out: PositiveInt


class SoundingReader:
    """Windows of encoded scenes at random times, half of them mirrored; a step always gets the same ones."""

    def __init__(self, settings: V2ASettings) -> None:
        self.settings, self.span = settings, PRESETS[settings.preset].v2a.span
        known = seeds(settings.data, KIND)
        if len(known) <= settings.held_out:
            raise UserError(f"{settings.data}: {len(known)} clips, more than {settings.held_out} are needed")
        self.held_out, self.seeds = known[: settings.held_out], known[settings.held_out :]

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.settings.seed, step))
        chosen = [int(seed) for seed in rng.choice(self.seeds, self.settings.batch)]
        return self.read(chosen, rng)

    def read(self, chosen: Iterable[int], rng: np.random.Generator) -> Batch:
        """Windows of some scenes."""
        samples = [load_file(self.settings.data / f"{KIND}-{seed}.safetensors") for seed in chosen]
        room = len(samples[0]["latents"]) - self.settings.window
        if room < 0:
            raise UserError(
                f"window={self.settings.window}: the scenes have {len(samples[0]['latents'])} latents"
            )
        first, count = int(rng.integers(room + 1)), self.settings.window
        captions = [int(rng.integers(len(s["text"]))) for s in samples]
        seen = [Seen(s["motion"], s["looks"]) for s in samples]
        seen = [s.mirrored() if rng.uniform() < 0.5 else s for s in seen]
        sights = [s.window(first, count, LATENT_SECONDS, self.span) for s in seen]
        return {
            "latents": torch.stack([s["latents"][first : first + count].float() for s in samples]),
            "blows": torch.stack([s["blows"][first : first + count].float() for s in samples]),
            "motion": torch.cat([sight.motion for sight in sights]),
            "phase": sights[0].phase,
            "tokens": torch.cat([sight.tokens for sight in sights]),
            "moments": sights[0].moments,
            "text": torch.stack([s["text"][i].float() for s, i in zip(samples, captions, strict=True)]),
            "mask": torch.stack([s["mask"][i] for s, i in zip(samples, captions, strict=True)]),
        }


def conditions(batch: Batch) -> tuple[Sight, Text]:
    """What a batch shows and says."""
    sight = Sight(batch["motion"], batch["phase"], batch["tokens"], batch["moments"])
    return sight, Text(batch["text"], batch["mask"])


def withheld(count: int, share: float, generator: torch.Generator) -> Tensor:
    """(count,), True for a random share."""
    return torch.rand(count, generator=generator) < share


def main(words: list[str]) -> list[float]:
    """Train with the settings of soundtrack_v2a.yaml changed by `words`; returns the losses."""
    settings = read_settings(V2ASettings, __file__, words)
    torch.manual_seed(settings.seed)
    model = V2A(PRESETS[settings.preset].v2a)
    read = SoundingReader(settings)

    def loss(net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        clean = batch["latents"]
        time = flow.training_times(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator)
        blind = withheld(len(clean), settings.blind_share, generator)
        mute = withheld(len(clean), settings.mute_share, generator)
        heard = net(flow.interpolate(noise, clean, time), time, *conditions(batch), blind, mute)
        sound = (heard.velocity.float() - flow.velocity_target(noise, clean)).square().mean()
        blows = F.binary_cross_entropy_with_logits(heard.blows.float(), batch["blows"])
        return {"loss": sound + settings.blow_weight * blows, "sound": sound, "blows": blows}

    test = read.read(read.held_out, np.random.default_rng(0))

    def probe(net: nn.Module) -> dict[str, float]:
        clean = test["latents"]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        target, found = flow.velocity_target(noise, clean), {}
        for name, without in (("held_out", False), ("held_out_blind", True)):
            errors = []
            for t in TIMES:
                time, blind = torch.full((len(clean),), t), torch.full((len(clean),), without)
                heard = net(flow.interpolate(noise, clean, time), time, *conditions(test), blind)
                errors.append((heard.velocity.float() - target).square().mean().item())
            found[name] = round(sum(errors) / len(errors), 5)
        blows = F.binary_cross_entropy_with_logits(heard.blows.float(), test["blows"])
        found["held_out_blows"] = round(blows.item(), 5)
        return found

    return train(model, read, loss, settings, probe)


if __name__ == "__main__":
    run(main)
