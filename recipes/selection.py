"""From records of footage to a training set: filtered, without duplicates, balanced, split by who is seen.

It is computed from the records alone and from nothing that depends on how or where they were made.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from avatar.recipes.duplicates import near_duplicates, surplus
from avatar.recipes.filters import REASON, Reason, best_stage, judge
from avatar.recipes.records import Record
from avatar.recipes.shots import FPS
from avatar.recipes.sound_tags import leading

SAME_PERSON = 0.5  # dlib's distance, average of two groups; 0.6 is where two pictures are told apart
FACE_WEIGHT = 1.5  # of a face's descriptor beside the picture's vector in k-means

Split = Literal["train", "validation"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What is kept.

    Attributes:
        stage: set of limits that a clip must meet, 1 to 5.
        skip: filters that are not asked.
        balance: clips in a cluster at most, in median cluster sizes; 0 for any number.
        clusters: of k-means; by the number of clips where None.
        validation: share of the seconds for validation.
    """

    stage: int = 1
    skip: tuple[str, ...] = ()
    balance: float = 3.0
    clusters: int | None = None
    validation: float = 0.1


@dataclass(frozen=True)
class Kept:
    """A clip of the training set."""

    record: Record
    stage: int
    identity: str = ""
    split: Split = "train"


def class_weights(kept: Sequence[Kept]) -> list[float]:
    """How often each clip is to be drawn, 1 on average over a split, for every kind of sound in it to be
    heard equally often."""
    kinds = [(clip.split, leading(clip.record.measures.sounds)) for clip in kept if clip.record.measures]
    count, of_split = Counter(kinds), Counter(split for split, _ in kinds)
    classes = Counter(split for split, _ in count)
    return [of_split[kind[0]] / (classes[kind[0]] * count[kind]) for kind in kinds]


@dataclass(frozen=True)
class Dropped:
    """A record that is left out, and why."""

    record: Record
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Selection:
    """The outcome; `notes` say what could not be done as asked."""

    kept: list[Kept]
    dropped: list[Dropped]
    notes: list[str]


def select(records: Sequence[Record], rules: Rules) -> Selection:
    """Sort records into those that are kept and those that are not; their order does not count."""
    records = sorted(records, key=lambda record: record.id)
    dropped: list[Dropped] = []
    kept: list[Kept] = []
    for record in records:
        reasons = _reasons(record, rules)
        if reasons:
            dropped.append(Dropped(record, reasons))
        else:
            assert record.measures is not None
            kept.append(Kept(record, best_stage(record.measures, rules.skip)))
    kept = _without_duplicates(kept, dropped)
    kept = _balanced(kept, rules, dropped)
    named = [replace(clip, identity=name) for clip, name in zip(kept, identities(kept), strict=True)]
    split, notes = _split(named, rules.validation)
    return Selection(split, sorted(dropped, key=lambda drop: drop.record.id), notes)


def _reasons(record: Record, rules: Rules) -> tuple[Reason, ...]:
    if record.reason is not None:
        return (Reason(record.reason, REASON[record.reason]),)
    assert record.measures is not None
    return tuple(judge(record.measures, rules.skip, rules.stage))


def _worth(clips: Sequence[Kept]) -> list[float]:
    """Which of like clips stays: that of the higher set, of one set the larger and sharper face."""
    worth = []
    for clip in clips:
        measures = clip.record.measures
        assert measures is not None
        worth.append(1e6 * clip.stage + measures.face * measures.sharpness**0.5)
    return worth


def _without_duplicates(kept: Sequence[Kept], dropped: list[Dropped]) -> list[Kept]:
    if not kept:
        return []
    pictures = np.array([clip.record.picture for clip in kept])
    motions = [np.array(clip.record.motion).reshape(-1, 3) for clip in kept]
    twins = near_duplicates(pictures, motions, _worth(kept))
    for one, other in twins.items():
        reason = Reason("near-duplicate", f"shows the same as {kept[other].record.id}")
        dropped.append(Dropped(kept[one].record, (reason,)))
    return [clip for number, clip in enumerate(kept) if number not in twins]


def _balanced(kept: Sequence[Kept], rules: Rules, dropped: list[Dropped]) -> list[Kept]:
    if not kept:
        return []
    faces = FACE_WEIGHT * np.array([clip.record.face for clip in kept])
    vectors = np.concatenate([np.array([clip.record.picture for clip in kept]), faces], 1)
    out = surplus(vectors, _worth(kept), rules.balance, rules.clusters)
    reason = Reason("too many alike", f"its cluster holds over {rules.balance:g} times the median number")
    dropped += [Dropped(kept[number].record, (reason,)) for number in sorted(out)]
    return [clip for number, clip in enumerate(kept) if number not in out]


def identities(kept: Sequence[Kept]) -> list[str]:
    """A name for who is seen in every clip; tracks of faces are joined by their descriptors' distance."""
    tracks: dict[tuple[str, int, int], list[int]] = defaultdict(list)
    for number, clip in enumerate(kept):
        tracks[clip.record.track].append(number)
    faces = np.array([clip.record.face for clip in kept], float)
    means = np.array([faces[numbers].mean(0) for numbers in tracks.values()])
    names = [""] * len(kept)
    for label, numbers in zip(_groups(means), tracks.values(), strict=True):
        for number in numbers:
            names[number] = f"person-{label:04d}"
    return names


def _groups(faces: NDArray[np.floating]) -> list[int]:
    """Number of the group of every descriptor (N, 128), counted by first appearance."""
    if len(faces) < 2:
        return [0] * len(faces)
    from sklearn.cluster import AgglomerativeClustering

    method = AgglomerativeClustering(None, linkage="average", distance_threshold=SAME_PERSON)
    order: dict[int, int] = {}
    return [order.setdefault(int(label), len(order)) for label in method.fit_predict(faces)]


def _split(kept: Sequence[Kept], share: float) -> tuple[list[Kept], list[str]]:
    """Whole people for validation, those with the least footage first, until they have their share."""
    seconds = [clip.record.count / FPS for clip in kept]
    total: Mapping[str, float] = defaultdict(float)
    for clip, length in zip(kept, seconds, strict=True):
        total[clip.identity] += length  # type: ignore[index]
    if share <= 0 or len(kept) < 2:
        return list(kept), []
    if len(total) == 1:
        return _split_by_time(kept, share)
    held: Collection[str] = set()
    for name in sorted(total, key=lambda name: (total[name], name))[:-1]:
        if held and sum(total[other] for other in held) + total[name] > share * sum(seconds):
            break
        held = {*held, name}
    return [replace(clip, split="validation" if clip.identity in held else "train") for clip in kept], []


def _split_by_time(kept: Sequence[Kept], share: float) -> tuple[list[Kept], list[str]]:
    late = sorted(range(len(kept)), key=lambda i: (kept[i].record.key, kept[i].record.first))
    held = set(late[-max(1, min(len(kept) - 1, round(share * len(kept)))) :])
    note = "one person only: validation has their last clips, not another person"
    return [replace(c, split="validation" if i in held else "train") for i, c in enumerate(kept)], [note]
