"""The judge of prompts, on motion whose obedience is set by hand."""

from __future__ import annotations

import numpy as np
import pytest

from avatar.drivers.prompt_net import TRACK, TRACKS
from avatar.recipes.plans import act
from avatar.recipes.prompt_judge import CASES, SECONDS, Case, rise, verdict

TIME = np.arange(75) / 12.5


def motions(case: Case, share: float) -> list[np.ndarray]:
    """Four takes of what a prompt means, made smaller."""
    return [share * act(case.plan, SECONDS, TIME, np.random.default_rng(seed)) for seed in range(50, 54)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.prompt)
def test_the_response_is_the_obedience(case: Case) -> None:
    found = verdict(motions(case, 1), case.plan)
    assert found.responses == pytest.approx([1.0] * len(found.responses), abs=0.12)
    assert found.obeyed and found.leak == 0
    weak = verdict(motions(case, 0.4), case.plan)
    assert weak.responses == pytest.approx([0.4 * response for response in found.responses], abs=1e-4)
    assert not weak.obeyed


def test_a_turn_to_the_wrong_side_is_no_obedience() -> None:
    left = next(case for case in CASES if case.plan[0][0].name == "turn left")
    assert verdict(motions(left, -1), left.plan).responses[0] == pytest.approx(-1, abs=0.12)


def test_what_nothing_was_said_about_leaks() -> None:
    case = next(case for case in CASES if case.plan[0][0].name == "close")
    takes = motions(case, 1)
    for tracks in takes:
        tracks[:, TRACK["yaw"]] = tracks[:, TRACK["eyeBlinkLeft"]] * 0.2 / 0.5  # as far, in its units
    found = verdict(takes, case.plan)
    assert found.leak == pytest.approx(1 / np.sqrt(2), rel=1e-2)  # one track beside two lids
    takes = [tracks * (-1) ** seed for seed, tracks in enumerate(takes)]
    assert verdict(takes, case.plan).leak == pytest.approx(1 / np.sqrt(2), rel=1e-2)


def test_the_rise_is_that_of_a_straight_line() -> None:
    track = np.interp(TIME, [1, 3], [0, 0.2]).astype(np.float32)
    assert rise(track) == pytest.approx(0.7 * 2, abs=0.09)  # 15 to 85 percent, at 12.5 Hz
    assert len(TRACKS) == len(set(TRACKS))
