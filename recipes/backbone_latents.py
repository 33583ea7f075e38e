"""Encode films and pictures with captions once, for all stages of the backbone's training. Settings in
backbone_latents.yaml; `python -m avatar.recipes.backbone_latents key=value ...`.

What a film or picture gives is cut to every bucket that it fills (`avatar.recipes.buckets`): of each scale
the size with the nearest aspect ratio, of each duration some windows. Out:

    encoded.json                              the settings, sizes, and the shards with what they hold
    SPLIT-TxHxW-NNNN.safetensors  latents     float16 (n, C, t, h, w)
                                  text        int64 (n,), rows of the text shards
    text-NNNN.safetensors         states      float16 (n, L, D)
                                  mask        bool (n, L)
                                  pooled      float16 (n, P)

Row 0 of the text says nothing: it stands for captions that are withheld. A shard appears whole or not at all,
and those that are there are kept, so that a run may be ended at any time.
Shape legend: T frames of H W px, C channels of t latent frames of h w, L tokens of D channels, P pooled
channels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor

from avatar import weights
from avatar.backbone.vae import CausalVAE
from avatar.device import pick_device
from avatar.drivers.prompt_encoders import Encoded, PromptEncoder
from avatar.errors import UserError
from avatar.framing import cover
from avatar.loading import ReleaseFiles, find, load_vae, small_dtype
from avatar.recipes.buckets import Bucket, Buckets, sizes_of_area
from avatar.recipes.captioned import Captioned, read_captioned
from avatar.recipes.settings import RecipeSettings, read_settings, run
from avatar.recipes.shards import write
from avatar.render import pixels

INDEX = "encoded.json"


class LatentsSettings(RecipeSettings):
    """See backbone_latents.yaml."""

    data: Path
    out: Path
    weights: Path
    preset: str
    vae: Path | None
    durations: tuple[PositiveInt, ...]
    scales: tuple[PositiveInt, ...]
    ratios: tuple[float, ...]
    windows: PositiveInt
    stride: PositiveInt
    shard: PositiveInt


class Sample(NamedTuple):
    """Frames of a film, from one on, that go to a bucket."""

    film: Captioned
    start: int
    bucket: Bucket


def samples_of(film: Captioned, settings: LatentsSettings) -> Iterator[Sample]:
    """What a film gives to each bucket; it is enlarged for the smallest scale only."""
    frames, height, width = film.shape
    for scale in settings.scales:
        if scale != min(settings.scales) and scale > min(height, width):
            continue
        sizes = sizes_of_area(scale * scale, settings.ratios)
        for duration in settings.durations:
            span = settings.stride * (duration - 1) + 1
            bucket = Buckets((duration,), sizes).nearest((frames - 1) // settings.stride + 1, height, width)
            if bucket is not None:
                count = min(settings.windows, max(1, frames // span))
                for start in np.linspace(0, frames - span, count).round():
                    yield Sample(film, int(start), bucket)


class Shard(NamedTuple):
    """A file of samples of one bucket."""

    name: str
    split: str
    bucket: Bucket
    samples: list[Sample]


def shards_of(samples: Sequence[Sample], size: int) -> list[Shard]:
    """All samples in files of at most `size`."""
    groups: dict[tuple[str, Bucket], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.film.split, sample.bucket), []).append(sample)
    found = []
    for (split, bucket), members in sorted(groups.items(), key=lambda group: group[0]):
        for number, first in enumerate(range(0, len(members), size)):
            name = f"{split}-{bucket.frames}x{bucket.height}x{bucket.width}-{number:04d}"
            found.append(Shard(name, split, bucket, members[first : first + size]))
    return found


class Texts:
    """Which row says what: captions, or for encoders that look at a picture, captions of windows."""

    def __init__(self, samples: Sequence[Sample], pictures: bool) -> None:
        self.pictures = pictures
        self.rows: dict[tuple[object, ...], int] = {("",): 0}
        self.shown: list[Sample | None] = [None]
        for sample in samples:
            if self._key(sample) not in self.rows:
                self.rows[self._key(sample)] = len(self.shown)
                self.shown.append(sample)

    def _key(self, sample: Sample) -> tuple[object, ...]:
        film = sample.film
        return (film.caption, film.id, sample.start) if self.pictures else (film.caption,)

    def row(self, sample: Sample) -> int:
        """Of the text shards, all together."""
        return self.rows[self._key(sample)]

    def encode(self, row: int, encoder: PromptEncoder) -> Encoded:
        """What a row holds; nothing, with a black picture, in row 0."""
        sample = self.shown[row]
        if sample is None:
            return encoder.encode("", np.zeros((64, 64, 3), np.uint8) if self.pictures else None)
        picture = sample.film.frames(sample.start, 1)[0] if self.pictures else None
        return encoder.encode(sample.film.caption, picture)


def joined(encoded: Sequence[Encoded]) -> dict[str, NDArray]:
    """Rows of a text shard, without the padding that all of them have."""
    mask = torch.cat([one.mask for one in encoded])
    length = max(1, int(mask.any(0).nonzero().max()) + 1) if mask.any() else 1
    return {
        "states": torch.cat([one.states[:, :length] for one in encoded]).half().numpy(),
        "mask": mask[:, :length].numpy(),
        "pooled": torch.cat([one.pooled for one in encoded]).half().numpy(),
    }


@torch.no_grad()
def encode(vae: CausalVAE, sample: Sample, stride: int) -> Tensor:
    """Latents (C, t, h, w) of a sample: the mean of what the VAE says, scaled."""
    film, (frames, *size) = sample.film, sample.bucket
    shown = np.stack(
        [cover(frame, (size[0], size[1])) for frame in film.frames(sample.start, frames, stride)]
    )
    if len(shown) != frames:
        raise UserError(f"{film.path}: ends before frame {sample.start + stride * (frames - 1) + 1}")
    return vae.encode_tiled(pixels(shown).to(next(vae.parameters())))[0].float().cpu()


def main(words: list[str]) -> None:
    """Encode what is not encoded yet.

    Raises:
        UserError: the data or the weights do not fit, or `out` was made with other settings.
    """
    settings = read_settings(LatentsSettings, __file__, words)
    files = find(settings.weights, settings.preset)
    films = read_captioned(settings.data)
    samples = [sample for film in films for sample in samples_of(film, settings)]
    if not samples:
        raise UserError(
            f"data={settings.data}: none has the {min(settings.durations)} frames of the shortest bucket"
        )
    shards, texts = (
        shards_of(samples, settings.shard),
        Texts(samples, files.release.template.picture != "none"),
    )
    text_shards = range(0, len(texts.shown), settings.shard)
    _open(settings, shards, len(text_shards))
    _encode_texts(settings, files, texts, text_shards)
    vae = _vae(settings, files)
    for shard in shards:
        target = settings.out / f"{shard.name}.safetensors"
        if not target.exists():
            latents = torch.stack([encode(vae, sample, settings.stride) for sample in shard.samples])
            rows = np.array([texts.row(sample) for sample in shard.samples])
            write({"latents": latents.half().numpy(), "text": rows}, target)


def _open(settings: LatentsSettings, shards: Sequence[Shard], text_shards: int) -> None:
    """Write the index, or see that the one that is there says the same."""
    told = {
        "settings": settings.model_dump(mode="json", exclude={"out"}),
        "text": [f"text-{number:04d}" for number in range(text_shards)],
        "text_rows": settings.shard,
        "shards": [
            {"name": s.name, "split": s.split, "bucket": list(s.bucket), "count": len(s.samples)}
            for s in shards
        ],
    }
    index = settings.out / INDEX
    if index.exists() and json.loads(index.read_text("utf8")) != told:
        raise UserError(
            f"out={settings.out}: was made of other data or with other settings; name another folder"
        )
    settings.out.mkdir(parents=True, exist_ok=True)
    part = index.with_suffix(".part")
    part.write_text(json.dumps(told, indent=1) + "\n", "utf8")
    part.replace(index)


def _encode_texts(settings: LatentsSettings, files: ReleaseFiles, texts: Texts, firsts: range) -> None:
    """Write the text shards; the encoders are in memory only meanwhile."""
    missing = [
        (first, path)
        for number, first in enumerate(firsts)
        if not (path := settings.out / f"text-{number:04d}.safetensors").exists()
    ]
    if not missing:
        return
    device = pick_device("auto")
    encoder = PromptEncoder(
        files.encoders, files.release.template, device, small_dtype(device, torch.bfloat16)
    )
    for first, path in missing:
        rows = range(first, min(first + settings.shard, len(texts.shown)))
        write(joined([texts.encode(row, encoder) for row in rows]), path)


def _vae(settings: LatentsSettings, files: ReleaseFiles) -> CausalVAE:
    """The release's, or the one that is named."""
    device = pick_device("auto")
    dtype = small_dtype(device, torch.bfloat16)
    if settings.vae is None:
        return load_vae(files, dtype).to(device)
    net = weights.load(settings.vae).module()
    if not isinstance(net, CausalVAE) or net.config.latent_channels != files.release.vae.latent_channels:
        raise UserError(f"vae={settings.vae}: is no VAE of {files.release.vae.latent_channels} channels")
    return net.to(device, dtype)


if __name__ == "__main__":
    run(main)
