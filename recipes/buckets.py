"""Clips of many sizes and lengths in batches of one shape: buckets of durations x aspect ratios.

A clip goes to the bucket that keeps the most of it: the longest duration that it fills, and of the sizes one
with the nearest aspect ratio. Each bucket has its own batch size, the largest whose tokens fit a budget.
Every step takes one random bucket, the same for all its parts and so on every process; its clips belong to
the part. Section 5 of the design.
Shape legend: a clip has T frames of H x W px; the VAE codes 8 x 8 px and groups of 4 frames, the DiT patches
of 2 x 2 of those.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from avatar.errors import UserError

PATCH = 16  # px, side of what one token shows
GROUP = 4  # frames behind one token, but for the first frame

Clip = TypeVar("Clip", bound=Hashable)


class Bucket(NamedTuple):
    """One shape of clips: T frames, H and W in px."""

    frames: int
    height: int
    width: int

    @property
    def tokens(self) -> int:
        """Of one clip."""
        return ((self.frames - 1) // GROUP + 1) * (self.height // PATCH) * (self.width // PATCH)

    def batch(self, budget: int) -> int:
        """Clips that fit a budget of tokens; one at least."""
        return max(1, budget // self.tokens)


@dataclass(frozen=True)
class Buckets:
    """All shapes of a stage of training.

    Attributes:
        durations: in frames, 4n + 1; 1 is a picture.
        sizes: (height, width) in px, multiples of 16; of several scales, where scales are mixed.

    Raises:
        UserError: a duration or a size that the nets can not have.
    """

    durations: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if not self.durations or not self.sizes:
            raise UserError("buckets need a duration and a size at least")
        for frames in self.durations:
            if frames < 1 or frames % GROUP != 1:
                raise UserError(f"durations: {frames} frames, must be 4n + 1")
        for size in self.sizes:
            if any(side < PATCH or side % PATCH for side in size):
                raise UserError(f"sizes: {size[0]} x {size[1]} px, must be multiples of {PATCH}")

    def nearest(self, frames: int, height: int, width: int) -> Bucket | None:
        """The bucket of a clip; None for one that is shorter than all of them.

        Of sizes with the same aspect ratio it is the largest that the clip fills, or the smallest of all: a
        clip is made smaller rather than larger.
        """
        lengths = [duration for duration in self.durations if duration <= frames]
        if not lengths:
            return None

        def unlike(size: tuple[int, int]) -> tuple[float, bool, int]:
            ratio = abs(math.log(size[0] / size[1]) - math.log(height / width))
            enlarged = size[0] > height or size[1] > width
            area = size[0] * size[1]
            return round(ratio, 6), enlarged, area if enlarged else -area

        return Bucket(max(lengths), *min(self.sizes, key=unlike))


def sizes_of_area(area: int, ratios: Iterable[float]) -> tuple[tuple[int, int], ...]:
    """Sizes of about `area` px in whole tokens, one for each ratio of height to width."""
    found = []
    for ratio in ratios:
        height = max(1, round(math.sqrt(area * ratio) / PATCH)) * PATCH
        width = max(1, round(area / height / PATCH)) * PATCH
        found.append((height, width))
    return tuple(dict.fromkeys(found))


class BucketSampler(Generic[Clip]):
    """Which clips each part of each step takes.

    Args:
        shapes: (frames, height, width) of every clip.
        budget: tokens of a part.
        parts: of a step, on all processes together.
        most: clips of a part, however short they are.
        pictures: share of the steps on buckets of one frame, where there are others too; None leaves it to
            chance.

    Attributes:
        members: the clips of each bucket that has any.
        dropped: clips that are too short.

    Raises:
        UserError: no clip is long enough.
    """

    def __init__(
        self,
        buckets: Buckets,
        shapes: Mapping[Clip, Sequence[int]],
        budget: int,
        seed: int = 0,
        parts: int = 1,
        most: int | None = None,
        pictures: float | None = None,
    ) -> None:
        self.budget, self.seed, self.parts, self.most = budget, seed, parts, most
        self.members: dict[Bucket, list[Clip]] = {}
        self.dropped: list[Clip] = []
        for clip, (frames, height, width) in shapes.items():
            bucket = buckets.nearest(frames, height, width)
            if bucket is None:
                self.dropped.append(clip)
            else:
                self.members.setdefault(bucket, []).append(clip)
        if not self.members:
            raise UserError(f"no clip has the {min(buckets.durations)} frames of the shortest bucket")
        self.order = sorted(self.members)
        # Every clip is to be seen as often as any other, whatever the batch of its bucket.
        wanted = np.array([len(self.members[b]) / self.batch(b) for b in self.order])
        self.chances = wanted / wanted.sum()
        still = np.array([b.frames == 1 for b in self.order])
        if pictures is not None and still.any() and not still.all():
            for kind, share in ((still, pictures), (~still, 1 - pictures)):
                self.chances[kind] *= share / self.chances[kind].sum()

    def batch(self, bucket: Bucket) -> int:
        """Clips of a part in a bucket."""
        count = bucket.batch(self.budget)
        return count if self.most is None else min(count, self.most)

    def bucket(self, step: int) -> Bucket:
        """The bucket of a step."""
        rng = np.random.default_rng((self.seed, step, 0))
        return self.order[int(rng.choice(len(self.order), p=self.chances))]

    def __call__(self, part: int) -> tuple[Bucket, list[Clip]]:
        """The bucket and the clips of a part, by its number among the parts of all steps."""
        bucket = self.bucket(part // self.parts)
        known = self.members[bucket]
        rng = np.random.default_rng((self.seed, part, 1))
        count = self.batch(bucket)
        return bucket, [known[i] for i in rng.choice(len(known), count, replace=count > len(known))]
