"""Buckets: where clips go, how large their batches are, and that all processes take the same one."""

import math
from collections import Counter

import pytest

from avatar.errors import UserError
from avatar.recipes.buckets import Bucket, Buckets, BucketSampler, sizes_of_area

WIDE, SQUARE, TALL = (192, 336), (256, 256), (336, 192)
BUCKETS = Buckets((1, 17, 33), (WIDE, SQUARE, TALL))


@pytest.mark.parametrize(
    ("clip", "bucket"),
    [
        ((1, 500, 500), Bucket(1, *SQUARE)),
        ((16, 500, 500), Bucket(1, *SQUARE)),  # one frame short
        ((17, 720, 1280), Bucket(17, *WIDE)),
        ((400, 1280, 720), Bucket(33, *TALL)),
        ((33, 620, 800), Bucket(33, *SQUARE)),  # the border is at the root of 192 / 336, 0.756
        ((33, 540, 800), Bucket(33, *WIDE)),
    ],
)
def test_a_clip_goes_to_the_nearest_bucket(clip: tuple[int, int, int], bucket: Bucket) -> None:
    assert BUCKETS.nearest(*clip) == bucket


def test_a_clip_shorter_than_all_buckets_has_none() -> None:
    assert Buckets((17,), (SQUARE,)).nearest(16, 256, 256) is None


def test_of_two_scales_a_clip_takes_the_largest_that_it_fills() -> None:
    mixed = Buckets((1,), ((256, 256), (512, 512)))
    assert mixed.nearest(1, 600, 600) == Bucket(1, 512, 512)
    assert mixed.nearest(1, 500, 500) == Bucket(1, 256, 256)
    assert mixed.nearest(1, 100, 100) == Bucket(1, 256, 256)


def test_batches_fill_the_budget_of_tokens() -> None:
    # 17 frames are 5 latent ones; 256 px are 16 tokens a side: 5 x 16 x 16 = 1280.
    assert Bucket(17, 256, 256).tokens == 1280
    assert Bucket(1, 256, 256).tokens == 256
    assert [Bucket(17, 256, 256).batch(budget) for budget in (1279, 1280, 2559, 2560, 9000)] == [
        1,
        1,
        1,
        2,
        7,
    ]
    assert Bucket(1, 256, 256).batch(9000) == 35


def test_sizes_of_one_area_are_whole_tokens() -> None:
    sizes = sizes_of_area(256 * 256, (9 / 16, 1, 16 / 9))
    assert sizes == ((192, 336), (256, 256), (336, 192))


def sampler(parts: int = 1, seed: int = 0) -> BucketSampler[str]:
    shapes = {f"v{i}": (17, 256, 256) for i in range(30)} | {f"p{i}": (1, 256, 256) for i in range(60)}
    return BucketSampler(BUCKETS, {**shapes, "long": (90, 720, 1280)}, budget=2560, seed=seed, parts=parts)


def test_all_parts_of_a_step_take_one_bucket_and_their_own_clips() -> None:
    sample = sampler(parts=4)
    for step in range(50):
        taken = [sample(4 * step + part) for part in range(4)]
        assert {bucket for bucket, _ in taken} == {sampler(4).bucket(step)}
        bucket = taken[0][0]
        assert all(len(clips) == bucket.batch(2560) for _, clips in taken)
        assert all(clip in sample.members[bucket] for _, clips in taken for clip in clips)
    big = [tuple(sample(part)[1]) for part in range(200) if len(sample(part)[1]) == 10]
    assert len(set(big)) > 0.9 * len(big)


def test_steps_depend_on_the_seed_and_repeat() -> None:
    first, again, other = ([s(part) for part in range(40)] for s in (sampler(), sampler(), sampler(seed=1)))
    assert first == again != other


def test_every_clip_is_seen_equally_often() -> None:
    sample, seen = sampler(), Counter()
    for part in range(3000):
        seen.update(sample(part)[1])
    rates = {kind: sum(seen[c] for c in seen if c[0] == kind) / n for kind, n in (("v", 30), ("p", 60))}
    # Of 3000 steps, 15/(15 + 6 + 1) are of videos, each of 2 clips; 6/22 of pictures, each of 10.
    assert rates["v"] == pytest.approx(3000 * 15 / 22 * 2 / 30, rel=0.1)
    assert rates["p"] == pytest.approx(3000 * 6 / 22 * 10 / 60, rel=0.1)
    assert math.isclose(sum(sample.chances), 1)


def test_short_clips_are_named() -> None:
    buckets = Buckets((17,), (SQUARE,))
    assert BucketSampler(buckets, {"a": (17, 9, 9), "b": (5, 9, 9)}, 2000).dropped == ["b"]
    with pytest.raises(UserError, match="no clip has the 17 frames"):
        BucketSampler(buckets, {"b": (5, 9, 9)}, 2000)


@pytest.mark.parametrize(
    ("durations", "sizes", "message"),
    [
        ((16,), (SQUARE,), "durations: 16 frames, must be 4n"),
        ((17,), ((250, 256),), "sizes: 250 x 256 px"),
        ((), (SQUARE,), "buckets need"),
    ],
)
def test_shapes_that_the_nets_can_not_have_are_refused(
    durations: tuple[int, ...], sizes: tuple[tuple[int, int], ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Buckets(durations, sizes)
