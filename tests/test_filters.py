"""Every limit on figures that it must keep and that it must drop."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from avatar.recipes.filters import LIMITS, NAMES, STAGES, Measures, best_stage, judge

GOOD = Measures(
    seconds=5, face=300, sharpness=0.03, stirring=0.1, wander=0.7, outside=0, turn=5,
    text=0, people=1, silence=0.2, sync=0.7, lag=0, consistency=0.4, sounds={"silence": 0.2, "speech": 0.8},
)  # fmt: skip
# Figure, a value that the first set takes, and one that it does not.
CASES: list[tuple[str, str, Any, Any]] = [
    ("people", "people", 5, 6),
    ("face size", "face", 64, 63),
    ("turned away", "turn", 50, 51),
    ("out of frame", "outside", 0.1, 0.2),
    ("wanders", "wander", 1.6, 1.7),
    ("blur", "sharpness", 0.006, 0.005),
    ("still", "stirring", 0.004, 0.003),
    ("too much motion", "stirring", 1.5, 1.6),
    ("text", "text", 0.02, 0.03),
    ("silence", "silence", 0.8, 0.81),
    ("off-sync", "sync", 0.25, 0.2),
    ("off-sync", "lag", -3, -4),
    ("off-sync", "lag", 3, 4),
]


@pytest.mark.parametrize(("name", "figure", "kept", "dropped"), CASES)
def test_a_limit_keeps_and_drops(name: str, figure: str, kept: Any, dropped: Any) -> None:
    assert judge(replace(GOOD, **{figure: kept})) == []
    reasons = judge(replace(GOOD, **{figure: dropped}))
    assert [reason.filter for reason in reasons] == [name]
    assert f"{abs(dropped):.3g}" in reasons[0].says
    assert judge(replace(GOOD, **{figure: dropped}), skip=[name]) == []


def test_every_filter_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(NAMES)


def test_what_can_not_be_told_drops_nothing() -> None:
    assert judge(replace(GOOD, text=None, sync=None, lag=None)) == []


def test_limits_rise_from_set_to_set() -> None:
    for limit in LIMITS:
        for values, way in ((limit.least, 1), (limit.most, -1)):
            if values is not None:
                assert len(values) == STAGES
                assert all(way * a <= way * b for a, b in pairwise(values))
    assert best_stage(GOOD) == STAGES
    assert best_stage(replace(GOOD, face=100)) == 2
    assert best_stage(replace(GOOD, face=10)) == 0
    assert judge(replace(GOOD, face=100), stage=3)[0].filter == "face size"
