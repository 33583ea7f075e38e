"""What avatar.recipes.backbone_latents wrote, in batches of one bucket. Files are mapped, not read as a
whole.

Every step takes one random bucket, the same on every process; the clips belong to the part of the step.
Shape legend: B samples, C channels of t latent frames of h w, L text tokens of D channels, P pooled channels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avatar.errors import UserError
from avatar.recipes.backbone_latents import INDEX
from avatar.recipes.buckets import Bucket, Buckets, BucketSampler
from avatar.recipes.training import Batch

OPEN = 256  # shards that stay mapped


class Place(NamedTuple):
    """Where a sample lies."""

    shard: str
    row: int


class EncodedSet:
    """A folder of latents and text.

    Attributes:
        settings: that it was encoded with.

    Raises:
        UserError: it is none, or not all of it is there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            told = json.loads((folder / INDEX).read_text("utf8"))
        except (OSError, ValueError) as error:
            raise UserError(
                f"data={folder}: has no {INDEX}; avatar.recipes.backbone_latents writes it"
            ) from error
        self.settings: dict[str, Any] = told["settings"]
        self._shards, self._text_rows = told["shards"], told["text_rows"]
        names = [*told["text"], *(shard["name"] for shard in self._shards)]
        missing = [name for name in names if not self._path(name).exists()]
        if missing:
            raise UserError(
                f"data={folder}: {len(missing)} of {len(names)} files are not encoded yet; "
                "run avatar.recipes.backbone_latents again"
            )
        self._open = lru_cache(maxsize=OPEN)(lambda name: safe_open(self._path(name), "pt"))

    def places(self, split: str) -> dict[Place, Bucket]:
        """All samples of a split, and the buckets that they were cut to."""
        return {
            Place(shard["name"], row): Bucket(*shard["bucket"])
            for shard in self._shards
            if shard["split"] == split
            for row in range(shard["count"])
        }

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Channels of the latents, of the text and of the pooled text."""
        text = self._open("text-0000")
        latents = self._open(self._shards[0]["name"]).get_slice("latents").get_shape()
        return latents[1], text.get_slice("states").get_shape()[2], text.get_slice("pooled").get_shape()[1]

    def batch(self, places: Sequence[Place], silent: Sequence[bool]) -> Batch:
        """Samples of one bucket; `silent` ones are given the text that says nothing.

        Returns:
            latents (B, C, t, h, w), text (B, L, D), mask (B, L), pooled (B, P).
        """
        shards = [self._open(place.shard) for place in places]
        latents = [s.get_slice("latents")[p.row] for s, p in zip(shards, places, strict=True)]
        rows = [
            0 if mute else int(s.get_slice("text")[p.row : p.row + 1])
            for s, p, mute in zip(shards, places, silent, strict=True)
        ]
        texts = [self._text(row) for row in rows]
        return {
            "latents": torch.stack(latents).float(),
            "text": pad_sequence([states for states, _, _ in texts], batch_first=True).float(),
            "mask": pad_sequence([mask for _, mask, _ in texts], batch_first=True),
            "pooled": torch.stack([pooled for _, _, pooled in texts]).float(),
        }

    def _text(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        number, row = divmod(row, self._text_rows)
        shard = self._open(f"text-{number:04d}")
        states, mask, pooled = (shard.get_slice(name)[row] for name in ("states", "mask", "pooled"))
        length = max(1, int(mask.nonzero().max()) + 1) if mask.any() else 1
        return states[:length], mask[:length], pooled

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def chosen(
    places: dict[Place, Bucket], durations: Sequence[int], scales: Sequence[int]
) -> dict[Place, Bucket]:
    """The samples of a stage: of its durations, and of sizes with nearly the area of its scales."""
    return {
        place: bucket
        for place, bucket in places.items()
        if bucket.frames in durations
        and any(0.8 * scale**2 < bucket.height * bucket.width < 1.25 * scale**2 for scale in scales)
    }


class EncodedReader:
    """Random samples of a stage, in batches; a part of a step always gets the same ones.

    Args:
        budget: tokens of a part.
        most: samples of a part, however short they are.
        pictures: share of the steps on pictures, where the stage has films too.
        text_dropout: share of the samples whose text is withheld.
        parts: of a step, on all processes together.
    """

    def __init__(
        self,
        data: EncodedSet,
        places: dict[Place, Bucket],
        *,
        budget: int,
        most: int,
        pictures: float,
        text_dropout: float,
        seed: int,
        parts: int,
    ) -> None:
        self.data, self.text_dropout, self.seed = data, text_dropout, seed
        buckets = sorted(set(places.values()))
        every = Buckets(
            tuple(sorted({b.frames for b in buckets})), tuple(sorted({(b.height, b.width) for b in buckets}))
        )
        self.sampler = BucketSampler(every, places, budget, seed, parts, most=most, pictures=pictures)

    def __call__(self, part: int) -> Batch:
        _, places = self.sampler(part)
        silent = np.random.default_rng((self.seed, part, 2)).random(len(places)) < self.text_dropout
        step = torch.tensor(part // self.sampler.parts)
        return {**self.data.batch(places, silent.tolist()), "step": step}
