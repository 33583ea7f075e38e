"""Train the reference-aware decode (spec 1.4). Settings in decoder.yaml.

The factory knows the true flow and visibility of every pixel, which teach the warp directly; the picture
itself teaches the mask and what is drawn. Latents are those of the clip with noise, or what a trained
generator makes of the driven reference.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt
from safetensors.torch import load_file
from torch import Tensor, nn

from avatar.backbone.checkpoint import load
from avatar.backbone.decode import ReferenceDecoder, enlarge, frame_slots, warp
from avatar.backbone.vae import CausalVAE
from avatar.errors import UserError
from avatar.model import Generator, Strengths
from avatar.presets import PRESETS
from avatar.recipes.generator import conditions, unheard
from avatar.recipes.settings import Settings, read_settings, run
from avatar.recipes.shards import seeds
from avatar.recipes.sitters import SitterProbe
from avatar.recipes.training import Batch, Losses, train

CELL = 8  # px of a latent cell
BLUR = 4  # px: the light of so large a place is wrong only where its mean is wrong
FAINTEST = 0.03  # of the range from -1 to 1, changes about this size are asked for by half


class DecoderSettings(Settings):
    """See decoder.yaml."""

    preset: str
    clips: Path
    driven: Path
    vae: Path
    generator: Path | None
    frames: int
    noise: float
    face_weight: float
    hole_weight: float
    lid_weight: float
    move_weight: float
    gradient_weight: float
    light_weight: float
    obedience_weight: float
    warp_weight: float
    flow_weight: float
    mask_weight: float
    held_out: PositiveInt
    probe_people: NonNegativeInt


class FrameReader:
    """Windows around the faces of random clips, with everything the decode sees and should give."""

    def __init__(self, settings: DecoderSettings) -> None:
        self.settings = settings
        known = seeds(settings.data, "latent")
        if len(known) <= settings.held_out:
            raise UserError(f"{settings.data}: {len(known)} clips, more than {settings.held_out} are needed")
        self.held_out, self.seeds = known[: settings.held_out], known[settings.held_out :]

    def __call__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.settings.seed, step))
        return self.read((int(s) for s in rng.choice(self.seeds, self.settings.batch)), rng)

    def read(self, chosen: Iterable[int], rng: np.random.Generator) -> Batch:
        samples = [self.sample(seed, rng) for seed in chosen]
        return {key: torch.stack([s[key] for s in samples]) for key in samples[0]}

    def sample(self, seed: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """One clip's window: all its latents, and `frames` of its frames."""
        latents = load_file(self.settings.data / f"latent-{seed}.safetensors")
        (row, column), side = latents["place"].tolist(), latents["face"].shape[-1]

        def cut(values: Tensor, cell: int) -> Tensor:
            """The window of values (..., H, W) that has `cell` of them to a latent cell."""
            rows, columns = (
                slice(cell * row, cell * (row + side)),
                slice(cell * column, cell * (column + side)),
            )
            return values[..., rows, columns].float()

        chosen = torch.from_numpy(rng.choice(17, self.settings.frames, replace=False)).sort().values
        out = {key: value.float() for key, value in latents.items()} | {"chosen": chosen}
        clip = load_file(self.settings.clips / f"clip-{seed}.safetensors")
        out["truth"] = cut(_pixels(clip["frames"][chosen]), CELL)
        out["picture"] = cut(_pixels(clip["reference"][None])[0], CELL)
        out["true_flow"] = cut(clip["flow"][chosen], CELL // 4)
        out["visible"] = cut(clip["visible"][chosen], CELL // 4)
        driven = load_file(self.settings.driven / f"driven-{seed}.safetensors")
        out["shown"] = cut(_pixels(driven["picture"][chosen]), CELL)
        out["prior"] = cut(driven["flow"][chosen], CELL // 4)
        out["mouth"] = cut(driven["hole"][chosen], CELL) / 255
        out["lids"] = cut(driven["lids"][chosen], CELL) / 255
        out["relief"] = cut(driven["relief"][chosen], CELL // 4)
        out["gain"] = cut(driven["gain"][chosen], CELL // 4)
        return out


def _pixels(frames: Tensor) -> Tensor:
    """uint8 (T, H, W, 3) to (T, 3, H, W) in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


class Task:
    """The loss, and the same numbers for the log."""

    def __init__(self, settings: DecoderSettings) -> None:
        self.settings = settings
        self.vae = load(CausalVAE, settings.vae).requires_grad_(False)
        self.generator = None
        if settings.generator is not None:
            self.generator = load(Generator, settings.generator).requires_grad_(False)

    @torch.no_grad()
    def latents(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """What is decoded: clean latents with noise, or the generator's."""
        clean = batch["clean"]
        noise = torch.randn(clean.shape, generator=generator)
        if self.generator is not None and torch.rand((), generator=generator) < 0.5:
            given, strengths = conditions(batch), Strengths(expression=batch["seen"])
            return self.generator(noise, torch.zeros(len(clean)), given, strengths, unheard(batch))
        size = torch.rand(len(clean), generator=generator) * self.settings.noise
        return clean + noise * size[:, None, None, None, None]

    def __call__(self, net: nn.Module, batch: Batch, generator: torch.Generator) -> Losses:
        z = self.latents(batch, generator)
        with torch.no_grad():
            plain = self.vae.decode(z)
        count = batch["chosen"].shape[1]
        index, position = frame_slots(z.shape[2])
        chosen = batch["chosen"].flatten()
        sample = torch.arange(len(z)).repeat_interleave(count)
        face = F.interpolate(batch["face"][:, None], scale_factor=CELL, mode="bilinear")[sample]
        truth = batch["truth"].flatten(0, 1)
        mouth, lids = (batch[name].flatten(0, 1)[:, None] for name in ("mouth", "lids"))
        picture, relief = batch["picture"][sample], batch["relief"].flatten(0, 1)
        decoded = net(
            z[sample, :, index[chosen]],
            position[chosen],
            batch["reference"][sample, :, 0],
            picture,
            batch["shown"].flatten(0, 1),
            batch["prior"].flatten(0, 1),
            plain[sample, :, chosen],
            torch.cat([mouth, lids, face], dim=1),
            relief,
            batch["gain"].flatten(0, 1)[:, None],
        )
        s = self.settings
        moved = enlarge(relief[:, -3:].norm(dim=1, keepdim=True).clamp(max=1), face.shape[-2:])
        weight = 1 + s.face_weight * face + s.hole_weight * mouth + s.lid_weight * lids
        weight = weight + s.move_weight * moved
        error = decoded.image.float() - truth
        drawn = (weight * error.abs()).mean()
        light = (F.avg_pool2d(weight, BLUR) * F.avg_pool2d(error, BLUR).abs()).mean()
        change, true = decoded.image.float() - picture, truth - picture
        obeyed = torch.stack([obedience(change, true, where) for where in (moved, lids)])
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        visible = batch["visible"].flatten(0, 1)[:, None]
        seen = enlarge(visible, truth.shape[-2:])
        warped = ((warp(picture, decoded.flow.float()) + decoded.shade - truth).abs() * seen).mean()
        small = F.avg_pool2d(decoded.flow.float(), 4)
        flow = ((small - batch["true_flow"].flatten(0, 1)).abs().clamp(max=20) * visible).mean()
        distrust = ((1 - decoded.mask.float()) * seen * (1 - mouth)).mean()
        loss = drawn + s.gradient_weight * edges + s.light_weight * light + s.warp_weight * warped
        loss = loss + s.flow_weight * flow + s.mask_weight * distrust
        loss = loss + s.obedience_weight * (1 - obeyed).square().clamp(max=4).mean()
        still = batch["shown"].flatten(0, 1) - truth
        return {
            "loss": loss,
            "psnr": _psnr(error),
            "psnr_driven": _psnr(still),
            "mouth": (error.abs() * mouth).sum() / (still.abs() * mouth).sum().clamp(min=1e-6),
            "light": light,
            "obeyed": obeyed.mean(),
            "flow": flow,
            "mask": decoded.mask.float().mean(),
        }


def obedience(change: Tensor, true: Tensor, where: Tensor) -> Tensor:
    """How far frames change from the reference as the true ones do, (B,): the response of `avatar.probe`, 1
    for all of it. A loss of errors alone draws what is uncertain too faintly; this makes up for it.

    Args:
        change, true: differences from the reference picture, (B, 3, H, W).
        where: weight of the places, (B, 1, H, W).
    """
    here, there, weight = (F.avg_pool2d(values, BLUR) for values in (change, true, where))
    along, size = ((weight * there * other).sum((1, 2, 3)) for other in (here, there))
    # Where hardly anything changes, or no place has a weight, nothing is asked.
    enough = weight.sum((1, 2, 3)) * FAINTEST**2 + 1e-6
    return (along + enough) / (size + enough)


def _psnr(error: Tensor) -> Tensor:
    return -10 * torch.log10(error.square().mean() / 4)


def main(words: list[str]) -> list[float]:
    """Train with the settings of decoder.yaml changed by `words`; returns the losses."""
    settings = read_settings(DecoderSettings, __file__, words)
    torch.manual_seed(settings.seed)
    preset = PRESETS[settings.preset]
    if preset.decoder is None:
        raise UserError(f"preset {settings.preset} has no reference-aware decode")
    read, task = FrameReader(settings), Task(settings)
    tests = [read.read([seed], np.random.default_rng(0)) for seed in read.held_out]

    people = SitterProbe(settings.probe_people, preset, task.vae, task.generator)

    def probe(net: nn.Module) -> dict[str, float]:
        found = [task(net, batch, torch.Generator().manual_seed(0)) for batch in tests]
        means = {k: float(np.mean([f[k].item() for f in found])) for k in found[0] if k != "loss"}
        return {f"held_out_{k}": value for k, value in means.items()} | people.respond(decoder=net)

    def show(net: nn.Module, place: Path) -> dict[str, float]:
        return people.show(place, decoder=net)

    return train(ReferenceDecoder(preset.decoder), read, task, settings, probe, show)


if __name__ == "__main__":
    run(main)
