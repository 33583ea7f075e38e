"""From records to a training set, on records that are made up."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from test_filters import GOOD

from avatar.recipes.acting import smooth_walk
from avatar.recipes.records import Record
from avatar.recipes.selection import Rules, class_weights, select

FRAMES = 101


def record(number: int, person: int = 0, video: int = 0, room: int = 0, **changes: object) -> Record:
    """Clip `number` of a video, of somebody in a room, moving as nobody else does."""
    face = np.random.default_rng(1000 + person).standard_normal(128)
    picture = np.random.default_rng(2000 + room).standard_normal(95)
    rng = np.random.default_rng(number)
    motion = np.stack([0.1 * smooth_walk(rng, FRAMES, 3.0) for _ in range(3)], 1)
    made = Record(
        id=f"{video:012d}-{number:07d}-{person}",
        key=f"{video:032d}",
        first=number * FRAMES,
        count=FRAMES,
        person=person,
        measures=GOOD,
        caption={"short": "A calm person speaks."},
        picture=array("d", (picture / np.linalg.norm(picture)).tolist()),
        face=array("d", (1.2 * face / np.linalg.norm(face)).tolist()),
        motion=array("d", motion.ravel().tolist()),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_nobody_is_in_both_splits() -> None:
    records = [record(n, person=n % 5, video=n % 7, room=n % 5) for n in range(60)]
    chosen = select(records, Rules(validation=0.15, balance=0))
    assert len(chosen.kept) == 60 and not chosen.dropped
    people = {
        split: {c.identity for c in chosen.kept if c.split == split} for split in ("train", "validation")
    }
    assert people["train"] and people["validation"]
    assert not people["train"] & people["validation"]
    assert len(people["train"] | people["validation"]) == 5
    # One fifth is the smallest number of whole people over nothing.
    assert sum(c.split == "validation" for c in chosen.kept) == 12


def test_one_face_is_one_person_in_all_videos() -> None:
    records = [record(n, person=3, video=n, room=n) for n in range(4)]
    wavering = [
        replace(r, face=array("d", (np.array(r.face) + 0.01 * n).tolist())) for n, r in enumerate(records)
    ]
    chosen = select(wavering, Rules(balance=0))
    assert {clip.identity for clip in chosen.kept} == {"person-0000"}


def test_of_one_person_the_last_clips_are_for_validation_and_it_is_said() -> None:
    chosen = select([record(n) for n in range(20)], Rules(validation=0.1, balance=0))
    assert [clip.record.first // FRAMES for clip in chosen.kept if clip.split == "validation"] == [18, 19]
    assert "one person" in chosen.notes[0]
    none = select([record(n) for n in range(20)], Rules(validation=0, balance=0))
    assert all(clip.split == "train" for clip in none.kept) and not none.notes


def test_every_record_is_kept_or_dropped_with_a_reason() -> None:
    records = [record(n) for n in range(6)]
    records[1] = replace(records[1], measures=replace(GOOD, sharpness=0.001, people=7))
    records[2] = replace(records[2], motion=records[0].motion, measures=replace(GOOD, face=200))
    records[3] = record(3, reason="no person", measures=None)
    records[4] = record(4, reason="short", measures=None)
    chosen = select(records, Rules(balance=0))
    reasons = {drop.record.first // FRAMES: {r.filter for r in drop.reasons} for drop in chosen.dropped}
    assert reasons == {1: {"blur", "people"}, 2: {"near-duplicate"}, 3: {"no person"}, 4: {"short"}}
    assert [clip.record.first // FRAMES for clip in chosen.kept] == [0, 5]
    named = next(d for d in chosen.dropped if d.reasons[0].filter == "near-duplicate")
    assert records[0].id in named.reasons[0].says


def test_one_room_does_not_crowd_out_the_others() -> None:
    many = [record(n) for n in range(40)]
    few = [record(40 + n, person=n // 4 + 1, room=n // 4 + 1, video=1) for n in range(12)]
    chosen = select([*many, *few], Rules(balance=3, clusters=4, validation=0))
    assert sum(clip.record.person == 0 for clip in chosen.kept) == 12  # three times the median of 40, 4, 4, 4
    assert sum(clip.record.person > 0 for clip in chosen.kept) == 12
    assert {drop.reasons[0].filter for drop in chosen.dropped} == {"too many alike"}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_of_records_does_not_count(seed: int) -> None:
    records = [record(n, person=n % 3, room=n % 3) for n in range(30)]
    mixed = [records[i] for i in np.random.default_rng(seed).permutation(30)]
    rules = Rules(balance=1.0)
    assert select(mixed, rules) == select(records, rules)


def test_a_higher_stage_asks_for_more() -> None:
    records = [record(n, measures=replace(GOOD, face=64 + 40 * n)) for n in range(6)]
    stages = {clip.record.first // FRAMES: clip.stage for clip in select(records, Rules(balance=0)).kept}
    assert stages == {0: 1, 1: 2, 2: 3, 3: 3, 4: 4, 5: 5}
    assert len(select(records, Rules(stage=4, balance=0)).kept) == 2
    assert not select([], Rules()).kept


def test_every_kind_of_sound_is_drawn_alike_in_its_split() -> None:
    kinds = ["speech"] * 6 + ["pure music"] * 2 + ["sound"]
    records = [
        record(n, person=n, video=n, room=n, measures=replace(GOOD, sounds={"silence": 0.5, kind: 0.5}))
        for n, kind in enumerate(kinds)
    ]
    kept = select(records, Rules(validation=0, balance=0)).kept
    weights = class_weights(kept)
    drawn = {kind: sum(w for w, k in zip(weights, kinds, strict=True) if k == kind) for kind in set(kinds)}
    assert drawn == pytest.approx(dict.fromkeys(drawn, 3.0)) and len(drawn) == 3
    other = [replace(clip, split="validation") for clip in kept[-1:]]
    assert class_weights([*kept[:-1], *other]) == pytest.approx([8 / 12] * 6 + [2.0] * 2 + [1.0])
