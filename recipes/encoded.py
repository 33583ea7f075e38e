"""What avatar.recipes.backbone_latents wrote, in batches of one bucket. Files are mapped, not read as a
whole.

Every step takes one random bucket, the same on every process; the clips belong to the part of the step.
Shape legend: B samples, C channels of t latent frames of h w, L text tokens of D channels, P pooled channels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import PositiveInt
from safetensors import safe_open
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from avatar.errors import UserError
from avatar.recipes.backbone_latents import INDEX
from avatar.recipes.buckets import Bucket, Buckets, BucketSampler
from avatar.recipes.settings import Settings
from avatar.recipes.training import Batch

OPEN = 256  # shards that stay mapped
MEASURED = 4  # samples of a bucket in what is measured, at most


class StageSettings(Settings):
    """What a stage takes of the encoded clips.

    Attributes:
        durations: in frames.
        scales: px, the root of a picture's area.
        tokens: of a part; `batch` is the most clips of one.
        pictures: share of the steps on pictures, where the stage has films too.
    """

    durations: tuple[PositiveInt, ...]
    scales: tuple[PositiveInt, ...]
    tokens: PositiveInt
    pictures: float


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
        return {"latents": torch.stack(latents).float(), **self.texts(rows)}

    def texts(self, rows: Sequence[int]) -> Batch:
        """Texts by their rows: text (B, L, D), mask (B, L), pooled (B, P). Row 0 says nothing."""
        found = [self._text(row) for row in rows]
        return {
            "text": pad_sequence([states for states, _, _ in found], batch_first=True).float(),
            "mask": pad_sequence([mask for _, mask, _ in found], batch_first=True),
            "pooled": torch.stack([pooled for _, _, pooled in found]).float(),
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


def samples_of_each(data: EncodedSet, places: dict[Place, Bucket], budget: int) -> list[Batch]:
    """A batch of each bucket, of a few samples and at most `budget` tokens, for measurements."""
    batches = []
    for bucket in sorted(set(places.values())):
        some = [place for place, own in places.items() if own == bucket]
        some = some[: min(MEASURED, bucket.batch(budget))]
        batches.append(data.batch(some, [False] * len(some)))
    return batches


class EncodedReader:
    """Random samples of a stage, in batches; a part of a step always gets the same ones.

    Args:
        text_dropout: share of the samples whose text is withheld.

    Raises:
        UserError: no clip has the durations and scales of the stage.
    """

    def __init__(self, data: EncodedSet, stage: StageSettings, text_dropout: float = 0.0) -> None:
        self.data, self.text_dropout, self.seed = data, text_dropout, stage.seed
        places = chosen(data.places("train"), stage.durations, stage.scales)
        if not places:
            there = sorted({tuple(bucket) for bucket in data.places("train").values()})
            raise UserError(f"durations, scales: no such clip is in {data.folder}; there are {there}")
        durations = sorted({bucket.frames for bucket in places.values()})
        sizes = sorted({(bucket.height, bucket.width) for bucket in places.values()})
        self.sampler = BucketSampler(
            Buckets(tuple(durations), tuple(sizes)),
            places,
            stage.tokens,
            stage.seed,
            parts=stage.accumulate * int(os.environ.get("WORLD_SIZE", "1")),
            most=stage.batch,
            pictures=stage.pictures,
        )

    def __call__(self, part: int) -> Batch:
        _, places = self.sampler(part)
        silent = np.random.default_rng((self.seed, part, 2)).random(len(places)) < self.text_dropout
        step = torch.tensor(part // self.sampler.parts)
        return {**self.data.batch(places, silent.tolist()), "step": step}
